"""Exported files return the network's outputs in a process without this package."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from PIL import Image

from configs import common
from pare_jax.body.io import FREE_BODY
from pare_jax.body.model import load_body_model
from pare_jax.crop import BOX_SCALE
from pare_jax.errors import UserError
from pare_jax.export import stablehlo as export
from pare_jax.export.description import crop_input, keypoint_input
from pare_jax.geometry import camera_translation
from pare_jax.io.images import cut_crop, read_image
from pare_jax.models import build_model
from pare_jax.models.inference import prepared
from pare_jax.prediction.predictor import Predictor
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.step import create_state
from pare_jax.training.trained_run import CONFIG_FILE, load_config
from pare_jax.training.workdir import write_config
from tests.fakes import keypoints_of, make_keypoint_network
from tests.models.test_folding import SIZE, make_network

# Runs a file on crops; neither flax nor a package of this repository can be imported.
RUN = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pare_jax", "data_pipelines", "configs", "flax", "tests"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Refuse())
try:
    import pare_jax
except ImportError:
    pass
else:
    sys.exit("the package can be imported")

import numpy as np

file, crops, outputs = sys.argv[1:]
with np.load(crops) as loaded:
    batches = [loaded[name] for name in loaded.files]
if file.endswith(".onnx"):
    import onnxruntime
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    (given,) = session.get_inputs()
    run = lambda crops: dict(zip(names, session.run(None, {given.name: crops})))
else:
    import jax
    with open(file, "rb") as opened:
        run = jax.jit(jax.export.deserialize(bytearray(opened.read())).call)
found = {}
for number, crops in enumerate(batches):
    found |= {f"{number}_{name}": value for name, value in run(crops).items()}
np.savez(outputs, **found)
"""


def crops_of(batch):
    return np.random.default_rng(batch).integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)


def run_in_a_process(file, crops, tmp_path):
    """Return the file's outputs for the first crop and for all of them."""
    np.savez(tmp_path / "crops.npz", crops[:1], crops)
    arguments = [file, tmp_path / "crops.npz", tmp_path / "outputs.npz"]
    subprocess.run([sys.executable, "-I", "-c", RUN, *map(str, arguments)], check=True)
    outputs = [{}, {}]
    with np.load(tmp_path / "outputs.npz") as loaded:
        for key in loaded.files:
            number, _, name = key.partition("_")
            outputs[int(number)][name] = loaded[key]
    return outputs


def expected_outputs(network, body, crops):
    """Return outputs of the unfolded network and the body, without `pare_jax.export`."""
    network.eval()
    graphdef, state = nnx.split(network)

    @jax.jit
    def compute(state, crops):
        prediction = nnx.merge(graphdef, state)(prepared(crops))
        translation = camera_translation(prediction.camera)
        posed = body(prediction.betas, prediction.rotations, translation)
        return prediction, posed

    prediction, posed = compute(state, crops)
    expected = {name: getattr(prediction, name) for name in ("rotations", "betas", "camera")}
    if prediction.attention is not None:
        expected["attention"] = prediction.attention
    # Points are far from the camera, where float32 has fewer digits left.
    return expected, {"joints": posed.joints, "vertices": posed.vertices}


@pytest.fixture(scope="module")
def body():
    return load_body_model()


@pytest.fixture(scope="module", params=["pare", "baseline", "keypoints"])
def case(request, body):
    """Return a network, its input, the description of it, and the expected outputs."""
    if request.param == "keypoints":
        network, inputs, about = make_keypoint_network(), keypoints_of(3), keypoint_input()
    else:
        network = make_network(request.param, "resnet18")
        inputs, about = crops_of(3), crop_input(SIZE)
    return network, inputs, about, *expected_outputs(network, body, inputs)


@pytest.mark.parametrize("kind", ["jax", "onnx"])
def test_a_file_runs_without_this_package(case, kind, body, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    network, inputs, about, expected, points = case
    function = export.people_function(network, body, attention=True)
    file = tmp_path / f"network.{kind}"
    file.write_bytes(export.export(function, about, kind))
    for count, output in zip((1, 3), run_in_a_process(file, inputs, tmp_path), strict=True):
        assert output.keys() == expected.keys() | points.keys() | {"faces"}
        for key, value in expected.items():
            np.testing.assert_allclose(
                output[key], value[:count], rtol=1e-4, atol=1e-4, err_msg=key
            )
        for key, value in points.items():
            np.testing.assert_allclose(output[key], value[:count], atol=2e-4, err_msg=key)
        np.testing.assert_array_equal(output["faces"], body.faces)


def test_body_and_attention_are_returned_on_request_only():
    function = export.people_function(make_network(backbone="resnet18", dtype="bfloat16"))
    outputs = jax.eval_shape(function, crops_of(2))
    assert {name: (value.shape, str(value.dtype)) for name, value in outputs.items()} == {
        "rotations": ((2, 24, 3, 3), "float32"),
        "betas": ((2, 10), "float32"),
        "camera": ((2, 3), "float32"),
    }


def test_a_network_of_bfloat16_is_exported_in_float32():
    function = export.people_function(make_network(backbone="resnet18", dtype="bfloat16"))
    assert "bf16" not in str(jax.make_jaxpr(function)(crops_of(1)))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Return a workdir with one checkpoint of an untrained network."""
    folder = tmp_path_factory.mktemp("run")
    config = common.get_base()
    config.image_size = SIZE
    config.model.update(backbone="resnet18", backbone_width=4, num_blocks=1, branch_features=8)
    (folder / CONFIG_FILE).write_text(config.to_json())
    state = create_state(build_model(config.model, rngs=nnx.Rngs(0)), optax.sgd(0.1), average=False)
    checkpoints = Checkpoints(folder)
    checkpoints.save(state)
    checkpoints.close()
    return folder


def run_command(*arguments):
    return export.main(["export", *arguments])


def test_command_writes_a_file(workdir, tmp_path, capsys):
    file = tmp_path / "new" / "network.jax"
    assert run_command(f"--checkpoint={workdir}", f"--output={file}") == 0
    assert f"{file}: " in capsys.readouterr().out
    exported = jax.export.deserialize(bytearray(file.read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    assert str(exported.in_avals[0]) == f"uint8[b,{SIZE},{SIZE},3]"
    assert exported.call(crops_of(2))["rotations"].shape == (2, 24, 3, 3)
    about = json.loads(file.with_name("network.jax.json").read_text())
    assert (about["image_size"], about["crop_scale"]) == (SIZE, BOX_SCALE)
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "network.jax",
        "network.jax.json",
    ]


def test_the_file_says_the_crop_scale_of_the_command_line(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "export", lambda *_: b"")
    file = tmp_path / "network.jax"
    assert run_command(f"--checkpoint={workdir}", f"--output={file}", "--crop_scale=1.5") == 0
    assert json.loads(file.with_name("network.jax.json").read_text())["crop_scale"] == 1.5


def documented(*sections):
    """Return the Python code of some sections of docs/export.md."""
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    lines = [line for name in sections for line in parts[name].splitlines()]
    return "\n".join(line[4:] for line in lines if re.match(r"    |$", line))


def turned_photograph():
    """Return a photograph of coloured noise as a phone stores it, on its side with an EXIF tag."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 22, 3), np.uint8)
    upright = Image.fromarray(noise).resize((1100, 1500), Image.Resampling.BICUBIC)
    tag = Image.Exif()
    tag[0x0112] = 6  # turn by 90 degrees to show it
    return upright.transpose(Image.Transpose.ROTATE_90), tag


BOX = (370, 683, 870, 1394)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Return a folder with a phone's photo.jpg, and the path of the same pixels untagged."""
    folder = tmp_path_factory.mktemp("photographs")
    stored, tag = turned_photograph()
    stored.save(folder / "photo.jpg", exif=tag, quality=95)
    stored.save(folder / "untagged.jpg", quality=95)
    return folder


@pytest.mark.parametrize(("size", "scale"), [(64, 1.2), (224, 1.0)])
def test_the_documented_cut_agrees_with_predictions(size, scale, photographs):
    found = {}
    exec(documented("Cut a crop"), found)
    about = crop_input(size, scale).about
    x0, y0, x1, y1 = BOX
    centre, side = np.array([x0 + x1, y0 + y1]) / 2, scale * (y1 - y0)
    expected = cut_crop(read_image(photographs / "photo.jpg"), centre, side, size).astype(int)

    def distance(name):
        return np.abs(found["cut"](photographs / name, BOX, about) - expected).mean()

    assert distance("photo.jpg") < 2
    assert distance("untagged.jpg") > 20


@pytest.mark.parametrize(
    ("section", "kind"), [("Run it with JAX", "jax"), ("Run it with onnxruntime", "onnx")]
)
def test_the_documented_code_gives_predictions(
    section, kind, body, photographs, tmp_path, monkeypatch
):
    """For a network of 64 pixels, on a photograph that its EXIF tag turns."""
    if kind == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "PLATFORMS", ("cpu",))
    network = make_network("baseline", "resnet18")
    files = export.exported_files(
        f"final.{kind}", export.people_function(network), crop_input(SIZE), kind
    )
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    shutil.copy(photographs / "photo.jpg", tmp_path)
    found = {}
    with contextlib.chdir(tmp_path):
        exec(documented("Cut a crop", section), found)
    predictor = Predictor(network, body, SIZE)
    right, turned = (
        predictor(read_image(photographs / name), [BOX])[0].rotations
        for name in ("photo.jpg", "untagged.jpg")
    )
    # An untrained network answers much the same to everything.
    error = np.abs(found["people"]["rotations"][0] - right).max()
    assert error < 0.1 * np.abs(right - turned).max()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "--checkpoint"),
        (["--checkpoint={workdir}", "--output={folder}"], "--output={folder}"),
        (["--checkpoint={folder}/nothing", "--output={folder}/x.jax"], "nothing"),
        (["--checkpoint={workdir}", "--output={folder}/x.jax", "y"], "'y'"),
        (["--checkpoint={workdir}", "--output={folder}/x.jax", "--body=b.npz"], "--body=b.npz"),
        (["--checkpoint={workdir}", "--output={folder}/x.jax", "--crop_scale=0"], "--crop_scale"),
        (["--no-such-flag"], "no-such-flag"),
    ],
)
def test_mistakes_are_one_line(arguments, name, workdir, tmp_path, capsys):
    arguments = [text.format(workdir=workdir, folder=tmp_path) for text in arguments]
    assert run_command(*arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert name.format(folder=tmp_path) in line
    assert not list(tmp_path.iterdir())


def test_a_body_file_that_moved_is_named_on_the_command_line(workdir, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(workdir, run)
    config = load_config(run)
    write_config(run, config)
    config.body_model = "moved/body.npz"
    (run / CONFIG_FILE).write_text(config.to_json())
    arguments = [f"--checkpoint={run}", f"--output={tmp_path}/x.jax", "--with-body"]
    assert run_command(*arguments) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "moved/body.npz" in line
    assert "--body" in line
    assert run_command(*arguments, f"--body={FREE_BODY}") == 0
    # Another body than the run's is refused.
    other = json.loads((run / "body.json").read_text()) | {"digest": "another"}
    (run / "body.json").write_text(json.dumps(other))
    assert run_command(*arguments, f"--body={FREE_BODY}") == 2
    assert str(run) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("sort", lambda images: jax.numpy.sort(images)),
        (
            "cond",
            lambda images: jax.lax.cond(images.max() > 9, lambda x: x, lambda x: 2 * x, images),
        ),
    ],
)
def test_an_operation_without_translation_is_one_line(operation, function):
    pytest.importorskip("onnx")
    with pytest.raises(UserError, match=operation) as caught:
        export.export(lambda images: {"result": function(images)}, crop_input(SIZE), "onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["onnx", "ONNX"])
def test_without_onnx_the_extra_is_named(ending, workdir, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    file = tmp_path / f"network.{ending}"
    assert run_command(f"--checkpoint={workdir}", f"--output={file}") == 2
    assert "pip install 'pare-jax[onnx]'" in capsys.readouterr().err
    assert not file.exists()
