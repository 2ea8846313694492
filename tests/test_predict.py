import json
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import pare_jax
from configs import common
from pare_jax import geometry, people, predict
from pare_jax.augment import normalise
from pare_jax.body.model import load_body_model
from pare_jax.checkpoints import CONFIG_FILE, Checkpoints, load_model
from pare_jax.errors import UserError
from pare_jax.images import cut_crop, encode_png, read_image
from pare_jax.models import build_model
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import JOINT_NAMES
from pare_jax.train_step import create_state

SIZE = 64
SPOT = (250, 40, 40)


class Finder(nnx.Module):
    """Answers with an upright person whose pelvis is at the middle of the crop's red pixels."""

    def __init__(self, attention: bool = True):
        self.scale = nnx.Param(jnp.float32(0.6))
        self.attention = attention

    def __call__(self, images):
        red = (images[..., 0] - images[..., 1] > 2.0).astype(jnp.float32)
        red = red / jnp.maximum(red.sum((1, 2), keepdims=True), 1.0)
        grid = (jnp.arange(SIZE) + 0.5) / (SIZE / 2) - 1
        x, y = (red.sum(1) * grid).sum(-1), (red.sum(2) * grid).sum(-1)
        scale = jnp.broadcast_to(self.scale[...], x.shape)
        turn = geometry.axis_angle_to_matrix(jnp.array([jnp.pi, 0.0, 0.0]))
        rotations = jnp.broadcast_to(jnp.eye(3), (len(images), 24, 3, 3)).at[:, 0].set(turn)
        # The body's own pelvis is not at its origin; see `pelvis`.
        camera = jnp.stack([scale, x / scale - self.pelvis[0], y / scale - self.pelvis[1]], -1)
        attention = None
        if self.attention:
            attention = jnp.full((len(images), 16, 16, 24), 1 / 256)
        return Prediction(rotations, jnp.zeros((len(images), 10)), camera, None, attention)

    pelvis = (0.0, 0.0)


@pytest.fixture(scope="session")
def body():
    return load_body_model()


@pytest.fixture(scope="session")
def predictor(body):
    turn = geometry.axis_angle_to_matrix(jnp.array([jnp.pi, 0.0, 0.0]))
    rotations = jnp.broadcast_to(jnp.eye(3), (24, 3, 3)).at[0].set(turn)
    joints = jax.jit(body.joints)(jnp.zeros(10), rotations)
    Finder.pelvis = tuple(np.asarray(joints)[0, :2].tolist())
    return predict.Predictor(Finder(), body, SIZE)


def photo_with_spots(*centres: tuple[float, float], height: int = 300, width: int = 400):
    """Grey ground with red discs of radius 12 pixels about the given (x, y)."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    picture = np.full((height, width, 3), 120, np.uint8)
    for x, y in centres:
        picture[(columns - x) ** 2 + (rows - y) ** 2 < 144] = SPOT
    return picture


def box_about(x: float, y: float, width: float = 100, height: float = 180):
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


@pytest.mark.parametrize("offset", [(0, 0), (23, -31), (-15, 40)])
@pytest.mark.parametrize("spot", [(90.0, 140.0), (200.5, 150.0), (371.0, 60.0)])
def test_a_joint_lands_on_the_pixel_the_network_meant(predictor, spot, offset):
    """Wherever the box lies: crop, camera and the way back are one consistent geometry."""
    image = photo_with_spots(spot)
    box = box_about(spot[0] + offset[0], spot[1] + offset[1])
    (person,) = predictor(image, [box])
    np.testing.assert_allclose(person.joints_2d[0], spot, atol=1.0)


def test_full_frame_camera_draws_the_crop_cameras_pixels(predictor):
    image = photo_with_spots((300.0, 90.0))
    (person,) = predictor(image, [(250, 20, 360, 220)])
    assert person.crop_side == pytest.approx(1.2 * 200)
    np.testing.assert_allclose(person.crop_centre, (305, 120))
    for points in (person.joints_3d, person.vertices):
        translation = np.asarray(geometry.camera_translation(person.camera_crop))
        units = np.asarray(geometry.project(points - translation, translation), np.float64)
        affine = person.crop_to_photo
        by_crop = units @ affine[:, :2].T + affine[:, 2]
        np.testing.assert_allclose(person.camera.project(points), by_crop, atol=2e-2)
    np.testing.assert_allclose(person.camera.project(person.joints_3d), person.joints_2d, atol=1e-6)


def test_the_person_is_the_bodys(predictor, body):
    (person,) = predictor(photo_with_spots((200.0, 150.0)))
    posed = jax.jit(body)(person.betas, person.rotations, person.translation)
    np.testing.assert_allclose(person.vertices, posed.vertices, atol=2e-5)
    np.testing.assert_allclose(person.joints_3d, posed.joints, atol=2e-5)
    assert person.pose.shape == (72,)
    turned = geometry.axis_angle_to_matrix(person.pose.reshape(24, 3))
    np.testing.assert_allclose(turned, person.rotations, atol=1e-5)
    # Left stays left: the person faces the camera, so the left hand is at the picture's right.
    left, right = (JOINT_NAMES.index(f"{side}_wrist") for side in ("left", "right"))
    assert person.joints_2d[left, 0] > person.joints_2d[right, 0]
    assert person.joints_2d[JOINT_NAMES.index("head"), 1] < person.joints_2d[0, 1]


def test_without_boxes_the_whole_picture_is_one_person(predictor):
    image = photo_with_spots((200.0, 150.0))
    (whole,) = predictor(image)
    (boxed,) = predictor(image, [(0, 0, 400, 300)])
    np.testing.assert_array_equal(whole.joints_2d, boxed.joints_2d)
    np.testing.assert_array_equal(whole.box, (0, 0, 400, 300))


def test_people_do_not_depend_on_their_company(predictor, monkeypatch):
    """Seven boxes take two batches, one of them padded."""
    monkeypatch.setattr(predict, "MAX_BATCH", 4)
    spots = [(60.0 + 40 * i, 150.0) for i in range(7)]
    image = photo_with_spots(*spots)
    boxes = [box_about(*spot) for spot in spots]
    together = predictor(image, np.array(boxes))
    assert len(together) == 7
    for index in (0, 3, 4, 6):
        (alone,) = predictor(image, [boxes[index]])
        np.testing.assert_allclose(alone.vertices, together[index].vertices, atol=1e-4)
        np.testing.assert_array_equal(alone.box, together[index].box)
    assert predictor(image, []) == []


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((10, 10, 10, 50), "pixel wide or high"),
        ((0.1, 0.2, 0.8, 0.9), "boxes are in pixels"),
        ((50, 50, 10, 90), "swapped"),
        ((10, 90, 50, 20), "swapped"),
        ((400, 10, 500, 50), "outside the picture, which is 400 x 300"),
        ((-90, 10, 0, 50), "outside"),
        ((0, 0, 1e300, 50), "20 times as large as the picture"),
        ((-1e5, 0, 1e5, 50), "20 times as large as the picture"),
        ((10, np.nan, 50, 50), "not finite"),
        ((10, 10, np.inf, 50), "not finite"),
        ((10, 10, 50), "not four numbers"),
        ("abcd", "not four numbers"),
        (None, "not four numbers"),
        ([[1, 2, 3, 4]], "not four numbers"),
    ],
)
def test_bad_boxes(predictor, box, reason):
    with pytest.raises(UserError, match=reason):
        predictor(photo_with_spots(), [(10, 10, 50, 90), box])


def test_a_box_may_reach_beyond_the_picture(predictor):
    (person,) = predictor(photo_with_spots((14.0, 150.0)), [(-40, 60, 50, 240)])
    np.testing.assert_allclose(person.joints_2d[0], (14, 150), atol=1.0)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((100, 100), np.uint8),
        np.zeros((100, 100, 4), np.uint8),
        np.zeros((100, 100, 3), np.float32),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
    ],
)
def test_bad_pictures(predictor, image):
    with pytest.raises(UserError):
        predictor(image)


def test_a_diverged_network_is_named(body):
    broken = Finder()
    broken.scale[...] = jnp.float32(np.nan)
    with pytest.raises(UserError, match="not finite"):
        predict.Predictor(broken, body, SIZE)(photo_with_spots())


def test_person_is_saved_whole_or_not_at_all(predictor, tmp_path):
    (person,) = predictor(photo_with_spots((200.0, 150.0)))
    person.save(tmp_path / "person.npz")
    with np.load(tmp_path / "person.npz") as saved:
        np.testing.assert_allclose(saved["vertices"], person.vertices)
        assert saved["attention"].shape == (16, 16, 24)
    (tmp_path / "taken.npz").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        person.save(tmp_path / "taken.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["person.npz", "taken.npz"]


# The command line, on the finder in place of a trained network.


@pytest.fixture
def command(predictor, monkeypatch, tmp_path, capsys):
    """Runs the command: exit status, what it printed, its lines on stderr, the output folder."""
    monkeypatch.setattr(predict, "load_predictor", lambda path, weights: predictor)
    output = tmp_path / "out"

    def run(*arguments):
        argv = ["predict", "--checkpoint=run", f"--output={output}", *map(str, arguments)]
        status = predict.main(argv)
        printed = capsys.readouterr()
        return status, printed.out, printed.err.splitlines(), output

    return run


def written(output: Path) -> list[str]:
    return sorted(p.name for p in output.iterdir()) if output.exists() else []


def save(path: Path, picture: np.ndarray) -> Path:
    path.write_bytes(encode_png(picture))
    return path


def test_command_writes_everything_about_a_photo(command, tmp_path):
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    status, _, errors, output = command(photo)
    assert (status, errors) == (0, [])
    assert written(output) == [
        "photo.json",
        "photo.npz",
        "photo_attention.png",
        "photo_overlay.png",
    ]
    with np.load(output / "photo.npz") as found:
        assert found["vertices"].shape == (1, len(np.asarray(load_body_model().weights)), 3)
        assert found["faces"].max() == found["vertices"].shape[1] - 1
        assert found["joint_names"].tolist() == list(JOINT_NAMES)
        joints = found["joints_2d"][0]
    described = json.loads((output / "photo.json").read_text())
    assert described["photo_size_px"] == [400, 300]
    (person,) = described["people"]
    for joint, name in enumerate(JOINT_NAMES):
        np.testing.assert_allclose(person["joints"][name]["photo_px"], joints[joint], atol=0.06)
    # The overlay is the photo with the mesh where the joints are, and a side view beside it.
    overlay = read_image(output / "photo_overlay.png")
    assert overlay.shape[0] == 300
    assert overlay.shape[1] > 400
    changed = (overlay[:, :400] != read_image(photo)).any(-1)
    for name in ("pelvis", "left_knee", "right_ankle", "head"):
        column, row = joints[JOINT_NAMES.index(name)].astype(int)
        assert changed[row, column], name


def test_several_people_and_repeated_boxes(command, tmp_path):
    photo = save(tmp_path / "two.png", photo_with_spots((100.0, 150.0), (300.0, 150.0)))
    boxes = [",".join(map(str, box_about(x, 150.0))) for x in (100.0, 300.0)]
    status, _, _, output = command(photo, f"--boxes={boxes[0]}", f"--boxes={boxes[1]}")
    assert status == 0
    assert [n for n in written(output) if "attention" in n] == [
        "two_attention_0.png",
        "two_attention_1.png",
    ]
    with np.load(output / "two.npz") as found:
        np.testing.assert_allclose(found["joints_2d"][:, 0], [(100, 150), (300, 150)], atol=1.0)


def test_box_files(command, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        save(folder / name, photo_with_spots((200.0, 150.0)))
    (folder / "notes.txt").write_text("not a picture")
    named = tmp_path / "boxes.json"
    named.write_text(json.dumps({"a.png": [box_about(200, 150)], str(folder / "b.png"): []}))
    status, _, errors, output = command(folder, f"--boxes={named}")
    assert (status, errors) == (0, [])
    counts = {n: len(json.loads((output / f"{n}.json").read_text())["people"]) for n in "ab"}
    assert counts == {"a": 1, "b": 0}
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([box_about(200, 150), box_about(210, 150)]))
    assert command(folder / "a.png", f"--boxes={listed}")[0] == 0
    assert "a_attention_1.png" in written(output)


def test_bad_pictures_and_boxes_do_not_stop_the_others(command, tmp_path):
    good = save(tmp_path / "good.png", photo_with_spots((200.0, 150.0)))
    one = save(tmp_path / "one.png", photo_with_spots()[:1, :1])
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    status, _, errors, output = command(text, tmp_path / "missing.jpg", one, good)
    assert status == 1
    assert [line.split(":")[0] for line in errors] == ["error"] * 3
    assert all(name in " ".join(errors) for name in ("text.jpg", "missing.jpg", "one.png"))
    assert {name.split(".")[0].split("_")[0] for name in written(output)} == {"good"}
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"good.png": [[500, 10, 600, 90], list(box_about(200, 150))]}))
    status, _, errors, output = command(good, f"--boxes={boxes}")
    assert (status, len(errors)) == (1, 1)
    assert "good.png" in errors[0]
    assert "outside" in errors[0]


def test_nothing_done_is_status_2_and_nothing_written(command, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    status, _, errors, output = command(text)
    assert (status, len(errors), written(output)) == (2, 1, [])
    photo = save(tmp_path / "photo.png", photo_with_spots())
    status, _, errors, output = command(photo, "--boxes=10,10,10,40")
    assert status == 2
    assert written(output) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name at least one photograph"),
        (["--boxs=1,2,3,4", "{photo}"], "boxs"),
        (["--weights=best", "{photo}"], "weights"),
        (["--boxes=1,2,three,4", "{photo}"], "neither x0,y0,x1,y1 nor"),
        (["--boxes=nowhere.json", "{photo}"], "nowhere.json"),
        (["--boxes={broken}", "{photo}"], "cannot read boxes"),
        (["--boxes={wrong}", "{photo}"], "must hold"),
        (["--boxes={other}", "{photo}"], "has no boxes for"),
        (["--boxes=1,2,30,40", "{photo}", "{photo}2"], "fits one photograph"),
        (["{empty}"], "no image in the folder"),
        (["--output={photo}", "{photo}"], "cannot write into"),
    ],
)
def test_usage_errors_are_one_line(command, tmp_path, arguments, reason):
    names = {"photo": save(tmp_path / "photo.png", photo_with_spots())}
    for name, text in (("broken", "{"), ("wrong", '{"a": 3}'), ("other", '{"b.png": []}')):
        names[name] = tmp_path / f"{name}.json"
        names[name].write_text(text)
    names["empty"] = tmp_path / "empty"
    names["empty"].mkdir()
    status, _, errors, _ = command(*(a.format(**names) for a in arguments))
    assert status == 2
    assert len(errors) == 1
    assert reason in errors[0]


def test_help(command):
    status, printed, errors, _ = command("--help")
    assert (status, errors) == (0, [])
    assert "--boxes" in printed
    assert "python -m pare_jax.predict" in printed


def test_names_of_outputs_do_not_collide():
    photos = [Path("a/x.jpg"), Path("b/x.jpg"), Path("x_2.png"), Path("x.png")]
    names = predict.output_names(photos)
    assert len(set(names)) == 4
    assert names[0] == "x"


def test_a_network_without_attention_has_no_attention_sheet(body, tmp_path):
    image = photo_with_spots((200.0, 150.0))
    photo = save(tmp_path / "photo.png", image)
    plain = predict.Predictor(Finder(attention=False), body, SIZE)
    predict.predict_photo(plain, photo, None, tmp_path / "out", "photo")
    assert written(tmp_path / "out") == ["photo.json", "photo.npz", "photo_overlay.png"]
    with np.load(tmp_path / "out" / "photo.npz") as found:
        assert "attention" not in found


def test_files_that_belong_together_are_all_there_or_none(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="cannot write into"):
        people.write_files(tmp_path / "out", {"a.npz": b"1", "nowhere/b.npz": b"2"})
    assert written(tmp_path / "out") == []


def test_overlay_of_a_large_photo_is_reduced(predictor, tmp_path):
    image = cv2.resize(photo_with_spots((200.0, 150.0)), (3200, 2400))
    photo = save(tmp_path / "large.png", image)
    predict.predict_photo(predictor, photo, None, tmp_path, "large")
    overlay = read_image(tmp_path / "large_overlay.png")
    assert overlay.shape[0] == 1200
    with np.load(tmp_path / "large.npz") as found:
        np.testing.assert_allclose(found["joints_2d"][0, 0], (1600, 1200), atol=30)


# A network as training leaves it.


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config = common.get_base()
    config.image_size = SIZE
    config.model.backbone = "resnet18"
    config.model.backbone_width = 8
    config.model.branch_features = 16
    config.model.shape_features = 8
    config.model.num_blocks = 2
    if "dtype" not in config.model:
        config.model.dtype = "float32"
    folder = tmp_path_factory.mktemp("run")
    (folder / CONFIG_FILE).write_text(config.to_json_best_effort())
    # Filled with numbers instead of initialised, which would compile a program for every shape.
    shapes = nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))
    random = np.random.default_rng(0)
    _, state = create_state(shapes, optax.identity(), average=False)

    def fill(leaf):
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        values = random.normal(0, fan_in**-0.5, leaf.shape) if leaf.ndim > 1 else 1.0
        return np.broadcast_to(values, leaf.shape).astype(leaf.dtype)

    state = jax.tree.map(fill, state)
    checkpoints = Checkpoints(folder)
    checkpoints.save(state)
    checkpoints.close()
    return folder


def run_command(*arguments) -> subprocess.CompletedProcess:
    code = (
        "import sys; from pare_jax import predict;"
        "status = predict.main(sys.argv);"
        "print('loaded:', sorted({'tensorflow', 'torch'} & set(sys.modules)));"
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_on_a_checkpoint_needs_no_tensorflow(workdir, tmp_path):
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    done = run_command(f"--checkpoint={workdir}", f"--output={tmp_path / 'out'}", photo)
    assert done.returncode == 0, done.stderr
    assert "loaded: []" in done.stdout
    assert len(written(tmp_path / "out")) == 4


def test_loaded_predictor_answers_like_the_network(workdir):
    image = photo_with_spots((200.0, 150.0))
    (person,) = pare_jax.load_predictor(workdir)(image, [box_about(200.0, 150.0)])
    _, module = load_model(workdir)
    crop = cut_crop(image, np.array([200.0, 150.0]), 1.2 * 180, SIZE)
    expected = nnx.jit(lambda network, images: network(images))(module, normalise(crop[None]))
    for name, values in (
        ("betas", expected.betas),
        ("camera_crop", expected.camera),
        ("rotations", expected.rotations),
        ("attention", expected.attention),
    ):
        np.testing.assert_allclose(getattr(person, name), values[0], atol=1e-4, err_msg=name)
    assert person.attention.shape == (8, 8, 24)
    np.testing.assert_allclose(person.attention.sum((0, 1)), 1.0, atol=1e-4)


def test_a_run_that_is_none_is_one_line(tmp_path):
    done = run_command(f"--checkpoint={tmp_path}", f"--output={tmp_path / 'out'}", "photo.png")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path) in done.stderr
    assert written(tmp_path / "out") == []
