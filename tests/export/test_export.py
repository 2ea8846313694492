"""Exported files answer as the network does, in a process that has nothing of this package."""

import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from configs import common
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.export import stablehlo as export
from pare_jax.geometry import camera_translation
from pare_jax.models import build_model
from pare_jax.models.inference import normalise
from pare_jax.training.checkpoints import CONFIG_FILE, Checkpoints
from pare_jax.training.step import create_state
from tests.models.test_folding import SIZE, make_network

# Runs a file on crops; no package of this repository can be imported, nor flax.
RUN = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pare_jax", "data_pipelines", "configs", "flax", "tests"):
            raise ImportError(f"{name} is out of reach")

sys.meta_path.insert(0, Refuse())
try:
    import pare_jax
except ImportError:
    pass
else:
    sys.exit("the package is there")

import numpy as np

file, crops, answers = sys.argv[1:]
with np.load(crops) as loaded:
    batches = [loaded[name] for name in loaded.files]
if file.endswith(".onnx"):
    import onnxruntime
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    run = lambda crops: dict(zip(names, session.run(None, {"images": crops})))
else:
    import jax
    with open(file, "rb") as opened:
        run = jax.jit(jax.export.deserialize(bytearray(opened.read())).call)
found = {}
for number, crops in enumerate(batches):
    found |= {f"{number}_{name}": value for name, value in run(crops).items()}
np.savez(answers, **found)
"""


def crops_of(batch):
    return np.random.default_rng(batch).integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)


def run_elsewhere(file, crops, tmp_path):
    """Return what the file answers to the first crop, and to all of them."""
    np.savez(tmp_path / "crops.npz", crops[:1], crops)
    arguments = [file, tmp_path / "crops.npz", tmp_path / "answers.npz"]
    subprocess.run([sys.executable, "-I", "-c", RUN, *map(str, arguments)], check=True)
    answers = [{}, {}]
    with np.load(tmp_path / "answers.npz") as loaded:
        for key in loaded.files:
            number, _, name = key.partition("_")
            answers[int(number)][name] = loaded[key]
    return answers


def expected_answer(network, body, crops):
    """What the unfolded network and the body say, without anything of `pare_jax.export`."""
    network.eval()
    graphdef, state = nnx.split(network)

    @jax.jit
    def answer(state, crops):
        prediction = nnx.merge(graphdef, state)(normalise(crops))
        translation = camera_translation(prediction.camera)
        posed = body(prediction.betas, prediction.rotations, translation)
        return prediction, posed

    prediction, posed = answer(state, crops)
    expected = {name: getattr(prediction, name) for name in ("rotations", "betas", "camera")}
    if prediction.attention is not None:
        expected["attention"] = prediction.attention
    # Far from the camera, float32 has fewer digits left.
    return expected, {"joints": posed.joints, "vertices": posed.vertices}


@pytest.fixture(scope="module")
def body():
    return load_body_model()


@pytest.fixture(scope="module", params=["pare", "baseline"])
def case(request, body):
    """A network, crops, and what it says of them: pictures do not depend on each other."""
    network, crops = make_network(request.param, "resnet18"), crops_of(3)
    return network, crops, *expected_answer(network, body, crops)


@pytest.mark.parametrize("kind", ["jax", "onnx"])
def test_a_file_needs_nothing_of_this_package(case, kind, body, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    network, crops, expected, points = case
    function = export.crops_to_people(network, body, attention=True)
    file = tmp_path / f"network.{kind}"
    file.write_bytes(export.export(function, SIZE, kind))
    for count, answer in zip((1, 3), run_elsewhere(file, crops, tmp_path), strict=True):
        assert answer.keys() == expected.keys() | points.keys() | {"faces"}
        for key, value in expected.items():
            np.testing.assert_allclose(
                answer[key], value[:count], rtol=1e-4, atol=1e-4, err_msg=key
            )
        for key, value in points.items():
            np.testing.assert_allclose(answer[key], value[:count], atol=2e-4, err_msg=key)
        np.testing.assert_array_equal(answer["faces"], body.faces)


def test_only_what_is_asked_for_is_returned():
    function = export.crops_to_people(make_network(backbone="resnet18", dtype="bfloat16"))
    answer = jax.eval_shape(function, crops_of(2))
    assert {name: (value.shape, str(value.dtype)) for name, value in answer.items()} == {
        "rotations": ((2, 24, 3, 3), "float32"),
        "betas": ((2, 10), "float32"),
        "camera": ((2, 3), "float32"),
    }


def test_a_network_of_bfloat16_is_exported_in_float32():
    function = export.crops_to_people(make_network(backbone="resnet18", dtype="bfloat16"))
    assert "bf16" not in str(jax.make_jaxpr(function)(crops_of(1)))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run's folder with one checkpoint of an untrained network."""
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--checkpoint=RUN and --output=FILE are needed"),
        (["--checkpoint={workdir}", "--output={folder}"], "is a folder; name a file"),
        (["--checkpoint={folder}/nothing", "--output={folder}/x.jax"], "nothing"),
        (["--checkpoint={workdir}", "--output={folder}/x.jax", "y"], "y is not an option"),
        (["--no-such-flag"], "no-such-flag"),
    ],
)
def test_mistakes_are_one_line(arguments, message, workdir, tmp_path, capsys):
    arguments = [text.format(workdir=workdir, folder=tmp_path) for text in arguments]
    assert run_command(*arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert message in line
    assert not list(tmp_path.iterdir())


def test_what_onnx_has_no_place_for_is_one_line():
    pytest.importorskip("onnx")
    with pytest.raises(UserError, match=r"no ONNX for the operation .*; export a \.jax file"):
        export.export(lambda images: {"sorted": jax.numpy.sort(images)}, SIZE, "onnx")


@pytest.mark.parametrize("ending", ["onnx", "ONNX"])
def test_without_onnx_the_extra_is_named(ending, workdir, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    file = tmp_path / f"network.{ending}"
    assert run_command(f"--checkpoint={workdir}", f"--output={file}") == 2
    assert "pip install 'pare-jax[onnx]'" in capsys.readouterr().err
    assert not file.exists()
