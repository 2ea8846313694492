"""PARE's checkpoints, made with a torch PARE, converted to our network and back."""

import functools
import json
import re

import cv2
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from configs.pare import get_config
from pare_jax.errors import UserError
from pare_jax.models import build_model, flat_state
from pare_jax.models.inference import normalise
from pare_jax.prediction.loading import load_predictor
from pare_jax.pretrained import convert, load, table
from pare_jax.pretrained import pare_weights as pare
from pare_jax.pretrained.pare_options import notes_of, options_of
from pare_jax.pretrained.read import read_weights
from pare_jax.training import checkpoints, trained_run
from pare_jax.training.step import create_state
from tests.fakes import IMAGE_SIZE, Recorder, tiny_config, train_on
from tests.pretrained.test_pare_options import DATASET_TYPES, PARE_TYPES

torch = pytest.importorskip("torch")

from tests.models.torch_hrnet import TorchHRNet, TorchPare, draw_weights  # noqa: E402
from tests.models.torch_networks import TorchResNet, make_images, to_torch  # noqa: E402

# For networks this small, threads cost more time than they save.
torch.set_num_threads(1)

PUBLISHED = {"PARE": {"USE_MEAN_POSE": False, "USE_MEAN_CAMSHAPE": False}}
BOTH_MEANS = {"PARE": {"USE_MEAN_POSE": True, "USE_MEAN_CAMSHAPE": True}}
HEAD = {"channels": 8, "shape_channels": 4}


def torch_pare(kind="resnet", means=()):
    if kind == "resnet":
        network = TorchPare(TorchResNet(8, (2, 2, 2, 2), False), blocks=3, means=means, **HEAD)
        return draw_weights(network, 0, [to_torch(make_images(64, seed=seed)) for seed in range(8)])
    backbone = TorchHRNet(4, 8, modules=(1, 1, 1), blocks=1, layer1=1)
    network = TorchPare(backbone, blocks=2, means=means, **HEAD)
    return draw_weights(network, 0, [to_torch(make_images(96, 2, seed)) for seed in range(8)])


@functools.cache
def resnet_pare():
    return torch_pare()


def lightning(network, options=PUBLISHED, **changes):
    """Return Lightning's checkpoint of a training module with the network and a body."""
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    state["model.smpl.smpl.faces"] = torch.zeros(5, 3, dtype=torch.long)
    state["J_regressor"] = torch.zeros(17, 5)
    return {"epoch": 3, "state_dict": state | changes, "hyper_parameters": options}


def saved(content, path):
    torch.save(content, path)
    return path


@nnx.jit
def run(network, images):
    return network(images)


def assert_agree(network, original, images):
    with torch.no_grad():
        expected = original(to_torch(images))
    network.eval()
    prediction = run(network, jnp.asarray(images))
    assert prediction.align_corners
    for name, value in expected.items():
        np.testing.assert_allclose(
            getattr(prediction, name), value.numpy(), atol=1e-4, rtol=1e-4, err_msg=name
        )
    return prediction


def shrink_pictures(workdir, side):
    """Reduce a workdir's image_size; tests with 224 pixels would be slow."""
    path = workdir / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_size": side}))


def assert_same_state(tensors, original, means=False):
    """Compare the tensors that our network has; mean parameters only if they are used."""
    expected = {n: v.numpy() for n, v in original.state_dict().items() if v.ndim}
    for name, value in expected.items():
        if name.startswith("backbone.final_layer"):
            continue
        if "head.init" in name and not means:
            value = np.zeros_like(value)
        np.testing.assert_array_equal(tensors[name], value, err_msg=name)


def test_the_resnet_layout_predicts_the_same_and_comes_back_exactly(tmp_path):
    original = resnet_pare()
    path = saved(lightning(original), tmp_path / "pare.ckpt")
    report = convert.to_workdir(path, tmp_path / "run")
    assert set(report.fresh) == set()
    config, network = trained_run.load_model(tmp_path / "run")
    assert (config.model.backbone, config.model.num_blocks) == ("resnet18", 3)
    prediction = assert_agree(network, original, make_images(64, seed=3))
    assert prediction.attention.shape == (4, 16, 16, 24)
    convert.to_torch(tmp_path / "run", tmp_path / "back.ckpt")
    with pytest.raises(UserError, match=r"back\.ckpt"):
        convert.to_torch(tmp_path / "run", tmp_path / "back.ckpt")
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    state = {name.removeprefix("model."): v for name, v in back["state_dict"].items()}
    assert_same_state(state, original)
    # The torch PARE loads it.
    again = torch_pare()
    again.load_state_dict(state, strict=True)
    assert convert.to_workdir(tmp_path / "back.ckpt", tmp_path / "again")
    ours, theirs = (
        flat_state.of_network(trained_run.load_model(tmp_path / name)[1])
        for name in ("run", "again")
    )
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)


@pytest.mark.parametrize("name", ["back.ckpt", "back.safetensors"])
def test_what_pares_options_lack_comes_back_too(tmp_path, name):
    convert.to_workdir(saved(lightning(resnet_pare()), tmp_path / "pare.ckpt"), tmp_path / "run")
    config_file = tmp_path / "run" / "config.json"
    config = json.loads(config_file.read_text())
    config["crop_scale"], config["model"]["align_corners"] = 1.2, False
    config_file.write_text(json.dumps(config))
    convert.to_torch(tmp_path / "run", tmp_path / name)
    convert.to_workdir(tmp_path / name, tmp_path / "again")
    again, _ = trained_run.load_model(tmp_path / "again")
    assert (again.crop_scale, again.model.align_corners) == (1.2, False)


def test_the_hrnet_layout_predicts_the_same_and_comes_back_exactly(shallow_hrnet, tmp_path):
    original = torch_pare("hrnet")
    path = saved(lightning(original), tmp_path / "pare.ckpt")
    convert.to_workdir(path, tmp_path / "run")
    config, network = trained_run.load_model(tmp_path / "run")
    assert (config.model.backbone, config.model.backbone_width) == ("hrnet_w32", 8)
    assert (config.model.num_blocks, config.model.align_corners) == (2, True)
    prediction = assert_agree(network, original, make_images(96, batch=2, seed=3))
    assert prediction.attention.shape == (2, 24, 24, 24)
    convert.to_torch(tmp_path / "run", tmp_path / "back.safetensors")
    assert_same_state(read_weights(tmp_path / "back.safetensors").tensors, original)
    # Prediction with the converted run agrees, though it folds batch normalisations.
    shrink_pictures(tmp_path / "run", 96)
    predictor = load_predictor(tmp_path / "run")
    picture = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    box = np.array([20.0, 10.0, 60.0, 100.0])
    (person,) = predictor(picture, [box])
    with torch.no_grad():
        crop = np.asarray(normalise(predictor.crop(picture, box).pixels[None]))
        expected = original(to_torch(crop))
    for name, value in (("rotations", person.rotations), ("camera", person.camera_crop)):
        np.testing.assert_allclose(value, expected[name][0].numpy(), atol=1e-3, err_msg=name)
    assert person.vertices.shape == (predictor.body.num_vertices, 3)


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_mean_parameters_are_added_if_the_checkpoint_says_so(ending, tmp_path):
    original = resnet_pare()
    path = saved(lightning(original, BOTH_MEANS), tmp_path / "pare.ckpt")
    convert.to_workdir(path, tmp_path / "run")
    _, network = trained_run.load_model(tmp_path / "run")
    original.head.means = ("pose", "camshape")
    try:
        assert_agree(network, original, make_images(64, seed=3))
    finally:
        original.head.means = ()
    notes = convert.to_torch(tmp_path / "run", tmp_path / f"back.{ending}")
    assert "PARE's code cannot hold this network" in notes[1]
    assert notes[2:] == ["load it with PARE.USE_MEAN_POSE=True",
                         "load it with PARE.USE_MEAN_CAMSHAPE=True"]  # fmt: skip
    content = read_weights(tmp_path / f"back.{ending}")
    # Nothing about the network is left unsaid.
    assert notes_of(content.metadata) == []
    assert options_of(content.metadata)["USE_MEAN_POSE"] is True
    assert_same_state(content.tensors, original, means=True)


def test_means_that_the_file_does_not_mention_are_off_or_chosen(tmp_path):
    original = resnet_pare()
    path = saved(original.state_dict(), tmp_path / "pare.pth")
    report = str(convert.to_workdir(path, tmp_path / "auto"))
    assert "USE_MEAN_POSE is off" in report
    report = str(convert.to_workdir(path, tmp_path / "pose", means="pose"))
    assert "USE_MEAN_POSE is on\nUSE_MEAN_CAMSHAPE is off" in report
    means = {
        name: trained_run.load_model(tmp_path / name)[1].heads.mean_pose[...]
        for name in ("auto", "pose")
    }
    assert not means["auto"].any()
    np.testing.assert_array_equal(means["pose"], original.head.init_pose.numpy().reshape(6, 24).T)


@pytest.mark.parametrize("options", [BOTH_MEANS, BOTH_MEANS["PARE"]], ids=["nested", "plain"])
def test_the_flag_means_overrides_the_file(options, tmp_path):
    """Both hyperparameters and options beside the state dict are overridden."""
    content = lightning(resnet_pare(), options) | options
    path = saved(content, tmp_path / "pare.ckpt")
    report = str(convert.to_workdir(path, tmp_path / "run", means="none"))
    assert "USE_MEAN_POSE is off\nUSE_MEAN_CAMSHAPE is off" in report


def test_a_network_trained_here_predicts_the_same_in_torch(tmp_path):
    """The network has pose biases, which PARE lacks, and mean parameters."""
    config = tiny_config()
    config.model.update({"backbone_width": 8, "align_corners": True})
    network = build_model(config.model, rngs=nnx.Rngs(3))
    rng = np.random.default_rng(0)
    for head in (network.heads.pose, network.heads.shape, network.heads.camera):
        layer = head.layers[0]
        layer.kernel[...] = jnp.asarray(rng.normal(size=layer.kernel.shape) * 0.3, jnp.float32)
        layer.bias[...] = jnp.asarray(rng.normal(size=layer.bias.shape) * 0.3, jnp.float32)
    flat = flat_state.of_network(network)
    options, notes = pare.PARE.before_writing(flat, config.model, 64)
    assert options["PARE"]["USE_MEAN_POSE"]
    assert len(notes) == 3
    original = torch_pare(means=("pose", "camshape"))
    tensors = table.to_torch(pare.table(config.model), flat)
    loaded = original.load_state_dict(
        {name: torch.tensor(value) for name, value in tensors.items()}, strict=False
    )
    assert loaded.missing_keys == ["head.temperature"]
    assert_agree(network, original, make_images(64, seed=4))


def test_networks_that_pare_cannot_hold_are_refused():
    config = tiny_config()
    flat = flat_state.of_network(build_model(config.model, rngs=nnx.Rngs(0)))
    _, notes = pare.PARE.before_writing(dict(flat), config.model, 64)
    assert any("align_corners=False" in note for note in notes)
    # A network narrower than PARE's is written with a note of what can read it.
    (narrow,) = [note for note in notes if "PARE's code cannot hold this network" in note]
    assert f"64 channels in the stem, this one has {config.model.backbone_width}" in narrow
    assert "pare_jax.pretrained.convert --from" in narrow
    config.model.pose_hidden = (8,)
    with pytest.raises(UserError, match="pose_hidden"):
        pare.PARE.before_writing(dict(flat), config.model, 64)
    config.model.name = "baseline"
    with pytest.raises(UserError, match="--format=resnet"):
        pare.PARE.before_writing(dict(flat), config.model, 64)


@pytest.mark.parametrize("backbone", ["resnet18", "hrnet_w32"])
def test_pares_config_accepts_the_hyperparameters_that_are_written(backbone):
    """PARE merges them into its config, which refuses other names, sections and types."""
    config = get_config()
    config.model.backbone = backbone
    network = nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))
    flat = {
        name: np.zeros(v.shape, np.float32) for name, v in flat_state.of_network(network).items()
    }
    options, notes = pare.PARE.before_writing(flat, config.model, 256)
    assert notes == []
    assert options.keys() == {"METHOD", "DATASET", "PARE"}
    sections = {"DATASET": DATASET_TYPES, "PARE": PARE_TYPES}
    for section, types in sections.items():
        for name, value in options[section].items():
            assert type(value) is types[name], name
    assert options["DATASET"]["IMG_RES"] == 256
    assert options["DATASET"]["USE_HEATMAPS"] == "part_segm"
    # Distances from the camera are ours, for any size of the crops.
    assert options["DATASET"]["FOCAL_LENGTH"] / 256 == pytest.approx(5000 / 224)
    if backbone.startswith("resnet"):
        # Else PARE makes kernels of 4 x 4.
        assert options["PARE"]["DECONV_CONV_KERNEL_SIZE"] == 3
    else:
        assert options["PARE"]["BACKBONE"] == f"{backbone}-conv"


def test_the_crops_of_pares_demo(tmp_path):
    """A converted run crops a detector's box as PARE's demo does: a square of its longer side."""
    path = saved(lightning(resnet_pare(), {"DATASET": {"IMG_RES": 64}}), tmp_path / "pare.ckpt")
    convert.to_workdir(path, tmp_path / "run")
    predictor = load_predictor(tmp_path / "run")
    assert predictor.image_size == 64
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8), (0, 0), 4)
    x0, y0, x1, y1 = box = (100.0, 30.0, 160.0, 190.0)
    crop = predictor.crop(picture, box)
    # Its tracker makes centre and longer side of a box; its crop is 1.0 times that.
    np.testing.assert_allclose(crop.centre, (130, 110))
    assert crop.side == 160
    side = max(x1 - x0, y1 - y0)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    corners = np.float32([[x, y], [x, y + side / 2], [x + side / 2, y]])
    affine = cv2.getAffineTransform(corners, np.float32([[32, 32], [32, 64], [64, 32]]))
    theirs = cv2.warpAffine(picture, affine, (64, 64), flags=cv2.INTER_LINEAR)
    spread = picture.std()
    # PARE counts from the pixels' centres, up to half a pixel beside ours, and does not filter.
    assert np.abs(crop.pixels.astype(float) - theirs).mean() < 0.2 * spread
    wider = load_predictor(tmp_path / "run", crop_scale=1.2).crop(picture, box)
    assert wider.side == pytest.approx(192)
    assert np.abs(wider.pixels.astype(float) - theirs).mean() > 0.7 * spread
    # A network of another crop says so when it is written for PARE.
    shrink = json.loads((tmp_path / "run" / "config.json").read_text()) | {"crop_scale": 1.2}
    (tmp_path / "run" / "config.json").write_text(json.dumps(shrink))
    notes = convert.to_torch(tmp_path / "run", tmp_path / "back.safetensors")
    assert any("bbox_scale=1.2" in note for note in notes)


def test_a_run_of_before_the_key_crops_as_before(tmp_path):
    convert.to_workdir(saved(lightning(resnet_pare()), tmp_path / "pare.ckpt"), tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("crop_scale") == 1.0
    assert config["image_size"] == 224
    path.write_text(json.dumps(config))
    assert load_predictor(tmp_path / "run").crop_scale == 1.2
    for wrong in (0.0, float("nan")):
        path.write_text(json.dumps(config | {"crop_scale": wrong}))
        with pytest.raises(UserError, match=r"crop_scale of .*run"):
            load_predictor(tmp_path / "run")
        with pytest.raises(UserError, match="crop_scale is"):
            load_predictor(tmp_path / "run", crop_scale=wrong)


class TestFineTuning:
    """A converted run is trained like any other."""

    @pytest.fixture(scope="class")
    def checkpoint(self, tmp_path_factory):
        return saved(lightning(resnet_pare()), tmp_path_factory.mktemp("pare") / "pare.ckpt")

    def config(self):
        config = tiny_config()
        config.model.update({"backbone_width": 8, "align_corners": True})
        config.num_steps = 2
        config.optimizer.learning_rate = 1e-4
        config.swa.start_epoch = -1.0
        config.eval.pictures = 0
        return config

    def distances(self, state):
        """Return the absolute differences of two arrays of a state from the checkpoint's."""
        start = resnet_pare().state_dict()
        backbone = start["backbone.conv1.weight"].numpy().transpose(2, 3, 1, 0)
        head = start["head.cam_mlp.bias"].numpy()
        return (
            np.abs(np.asarray(state.params["backbone"]["conv1"]["kernel"].get_value()) - backbone),
            np.abs(
                np.asarray(state.params["heads"]["camera"]["layers"][0]["bias"].get_value()) - head
            ),
        )

    def test_in_the_converted_workdir(self, checkpoint, tmp_path):
        """The backbone is frozen at first, although the config names no file."""
        mine = tmp_path / ".run.partial"
        mine.mkdir()
        convert.to_workdir(checkpoint, tmp_path / "run")
        assert mine.exists()  # a folder of the user's that looks like an unfinished one
        shrink_pictures(tmp_path / "run", IMAGE_SIZE)
        config, writer = self.config(), Recorder()
        config.pretrained.freeze_epochs = 1.0
        state = train_on(config, tmp_path / "run", writer=writer)
        assert int(state.step) == 2
        assert int(state.skipped) == 0
        assert np.isfinite(writer.scalars[2]["train/loss"])
        backbone, head = self.distances(state)
        assert not backbone.any()
        # Adam changes a number by about the learning rate in each step.
        assert 0 < head.max() < 1e-3
        # The run has its own checkpoint now: another experiment cannot resume it.
        store = checkpoints.Checkpoints(tmp_path / "run", read_only=True)
        assert store.latest_step() == 2
        config.pretrained.freeze_epochs = 0.0
        with pytest.raises(UserError, match=r"pretrained\.freeze_epochs: 1\.0 -> 0\.0"):
            train_on(config, tmp_path / "run")

    def test_averaging_starts_from_the_converted_weights(self, checkpoint, tmp_path):
        convert.to_workdir(checkpoint, tmp_path / "run")
        model = build_model(self.config().model, rngs=nnx.Rngs(0))
        state = create_state(model, optax.adam(1e-3), average=True)
        state = checkpoints.Checkpoints(tmp_path / "run", read_only=True).restore(state)
        assert int(state.swa.count) == 0
        for statistics in (state.batch_stats, state.swa.batch_stats):
            np.testing.assert_array_equal(
                np.asarray(statistics["backbone"]["bn1"]["mean"].get_value()),
                resnet_pare().state_dict()["backbone.bn1.running_mean"].numpy(),
            )

    def test_in_a_new_workdir(self, checkpoint):
        config = self.config()
        config.pretrained.path = str(checkpoint)
        loaded = load.load(config)
        assert "head" in loaded.notes[0]
        network = build_model(config.model, rngs=nnx.Rngs(0))
        load.fill(network, loaded.flat)
        state = create_state(network, optax.sgd(0.1), average=False)
        assert not any(difference.any() for difference in self.distances(state))
        assert not np.asarray(state.batch_stats["heads"]["mean_camera"].get_value()).any()

    def test_an_error_of_other_settings_names_the_flags_to_give(self, checkpoint):
        config = self.config()
        config.pretrained.path = str(checkpoint)
        config.model.num_blocks = 2
        with pytest.raises(UserError, match=r"--config.model.num_blocks=3$"):
            load.load(config)
        config = self.config()
        config.pretrained.update({"path": str(checkpoint), "mean_parameters": "mean.npz"})
        with pytest.raises(UserError, match=r"mean_parameters=mean\.npz"):
            load.load(config)


def without(content, name):
    return content | {"state_dict": {n: v for n, v in content["state_dict"].items() if n != name}}


def changed(content, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return content | {"state_dict": content["state_dict"] | changes}


class Runs:
    def __reduce__(self):
        return print, ("run!",)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda c: without(c, "model.head.pose_mlp.weight"), "model.head.pose_mlp.weight"),
        (lambda c: without(c, "model.head.shape_mlp.bias"), "model.head.shape_mlp.bias"),
        (
            lambda c: changed(c, model__head__cam_mlp__bias=torch.zeros(4)),
            r"model.head.cam_mlp.bias .*\(4,\) .*\(3,\)",
        ),
        (lambda c: changed(c, model__head__fc1__weight=torch.zeros(4)), "head.fc1.weight"),
        (
            lambda c: c | {"hyper_parameters": {"PARE": {"ITERATIVE_REGRESSION": True}}},
            "ITERATIVE_REGRESSION=True",
        ),
        (
            lambda c: changed(c, model__head__keypoint_deconv_layers__0__weight=torch.zeros(4)),
            "USE_UPSAMPLING.*head.keypoint_deconv_layers.0.weight",
        ),
        (
            lambda c: {n.removeprefix("model.backbone."): v for n, v in c["state_dict"].items()
                       if n.startswith("model.backbone.")},
            "--config.pretrained.path=",
        ),
        (lambda c: {"state_dict": {"encoder.weight": torch.zeros(3)}}, "weight"),
        (lambda c: c | {"callback": Runs()}, "print"),
        (lambda c: {"epoch": 3}, "tensors"),
    ],
)  # fmt: skip
def test_bad_checkpoints_are_one_line_and_leave_nothing(change, name, tmp_path, capsys):
    path = saved(change(lightning(resnet_pare())), tmp_path / "pare.ckpt")
    assert convert.main(["convert", f"--from={path}", f"--to={tmp_path / 'run'}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    with pytest.raises(UserError, match=rf"pare\.ckpt.*{name}"):
        convert.to_workdir(path, tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["pare.ckpt"]


def test_truncated_files_and_workdirs_in_use_are_refused(tmp_path):
    path = saved(lightning(resnet_pare()), tmp_path / "pare.ckpt")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "used"))):
        convert.to_workdir(path, tmp_path / "used")
    with pytest.raises(UserError, match=r"absent\.pkl"):
        convert.to_workdir(path, tmp_path / "run", body=str(tmp_path / "absent.pkl"))
    whole = path.read_bytes()
    for length in (0, 1000, len(whole) - 1000):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"pare\.ckpt"):
            convert.to_workdir(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_empty_workdir_is_used_and_the_report_is_printed(tmp_path, capsys):
    path = saved(lightning(resnet_pare()), tmp_path / "pare.ckpt")
    (tmp_path / "run").mkdir()
    assert convert.main(["convert", f"--from={path}", f"--to={tmp_path / 'run'}"]) == 0
    out = capsys.readouterr().out
    assert "used" in out
    assert "ignored" in out
    assert "smpl" in out
    command = ["convert", f"--from={tmp_path / 'run'}", f"--to-torch={tmp_path / 'out.ckpt'}"]
    assert convert.main(command) == 0
    assert "written" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [[], ["--from=a"], ["--from=a", "--to=b", "--to-torch=c.ckpt"], ["--form=a"], ["a"]],
)
def test_a_wrong_command_is_one_line(arguments, capsys):
    assert convert.main(["convert", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
