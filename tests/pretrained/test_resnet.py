"""ResNets: weights of an independent torch network, in each file layout, in our network."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.common import get_base
from pare_jax.errors import UserError
from pare_jax.models import build_model, flat_state
from pare_jax.models.resnet import DEPTHS
from pare_jax.pretrained import load, table, write
from pare_jax.pretrained import resnet_weights as resnet
from pare_jax.pretrained.read import read_weights

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from tests.models.torch_networks import (  # noqa: E402
    TorchResNet,
    draw_weights,
    make_images,
    to_torch,
)

WIDTH = 8


def config_of(backbone="resnet50", width=WIDTH, path="", **pretrained):
    config = get_base()
    config.model.update({"backbone": backbone, "backbone_width": width})
    config.model.update({"branch_features": 8, "shape_features": 4})
    config.pretrained.update({"path": str(path), **pretrained})
    return config


@functools.cache
def fresh(backbone):
    return build_model(config_of(backbone).model, rngs=nnx.Rngs(0))


def build(config):
    """Return a newly initialised network."""
    return nnx.clone(fresh(config.model.backbone))


def abstract(config):
    return nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))


def torch_resnet(backbone, width=WIDTH, seed=0, *, classifier=False):
    kind, depths = DEPTHS[backbone]
    network = TorchResNet(width, depths, kind.expansion > 1)
    draw_weights(network, seed)
    if classifier:
        network.fc = torch.nn.Linear(network.out_features, 10)
    return network.eval()


def made_up_state(backbone, naming=resnet.TORCHVISION, width=WIDTH):
    """Return random tensors with the names and shapes of a backbone's file."""
    template = flat_state.of_network(abstract(config_of(backbone, width)))
    rng = np.random.default_rng(0)
    return {
        entry.theirs: rng.normal(
            size=table.shape_of_theirs(entry, template[entry.ours].shape)
        ).astype(np.float32)
        for entry in resnet.table(backbone, naming)
    }


def save(state, path):
    torch.save({name: torch.as_tensor(value) for name, value in state.items()}, path)
    return path


@nnx.jit
def run(backbone, images):
    return backbone(images)


def features(network, images):
    network.eval()
    return np.asarray(run(network.backbone, jnp.asarray(images)))


@pytest.fixture(scope="module")
def fifty():
    network = torch_resnet("resnet50", classifier=True)
    images = make_images(seed=5)
    with torch.no_grad():
        expected = network(to_torch(images)).movedim(1, -1).numpy()
    return network, images, expected


SAVED = {
    "torchvision.pth": lambda state: state,
    "trainer.pth.tar": lambda state: {
        "epoch": 3,
        "state_dict": {f"module.{name}": value for name, value in state.items()},
    },
    "dino.pth": lambda state: {n: v for n, v in state.items() if not n.startswith("fc.")},
    "dino_full.pth": lambda state: {
        "student": {f"module.backbone.{n}": torch.zeros_like(v) for n, v in state.items()},
        "teacher": {f"backbone.{name}": value for name, value in state.items()}
        | {"head.mlp.0.weight": torch.zeros(3, 3)},
        "epoch": 800,
    },
    "channels_last.pth": lambda state: {
        n: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for n, v in state.items()
    },
    "timm.safetensors": lambda state: state,
}


@pytest.mark.parametrize("name", SAVED)
def test_weights_are_the_same_whatever_the_file(name, fifty, tmp_path):
    state = fifty[0].state_dict()
    path = tmp_path / name
    write = safetensors.save_file if path.suffix == ".safetensors" else torch.save
    write(SAVED[name](state), path)
    flat, notes = load.load(config_of(path=path))
    assert name in notes[0]
    assert "num_batches" not in notes[0]
    back = table.to_torch(resnet.table("resnet50"), flat)
    expected = {n: v for n, v in state.items() if not n.startswith("fc.") and v.ndim}
    assert back.keys() == expected.keys()
    for tensor, value in expected.items():
        np.testing.assert_array_equal(back[tensor], value.numpy())


def test_features_agree(fifty, tmp_path):
    original, images, expected = fifty
    config = config_of(path=save(original.state_dict(), tmp_path / "weights.pth"))
    network = build(config)
    load.fill(network, load.load(config).flat)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(features(network, images), expected, atol=1e-4, rtol=1e-4)


def test_half_precision_is_near(fifty, tmp_path):
    original, images, expected = fifty
    state = {n: v.half() if v.is_floating_point() else v for n, v in original.state_dict().items()}
    torch.save(state, tmp_path / "half.pth")
    config = config_of(path=tmp_path / "half.pth")
    network = build(config)
    load.fill(network, load.load(config).flat)
    difference = features(network, images) - expected
    assert 0 < np.abs(difference).max() < 0.01 * np.abs(expected).max()


def test_features_agree_for_basic_blocks(tmp_path):
    backbone = "resnet18"
    original, images = torch_resnet(backbone, seed=1), make_images(seed=6)
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    config = config_of(backbone, path=tmp_path / "weights.pth")
    network = build(config)
    load.fill(network, load.load(config).flat)
    with torch.no_grad():
        expected = original(to_torch(images)).movedim(1, -1).numpy()
    np.testing.assert_allclose(features(network, images), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("naming", [resnet.TORCHVISION, resnet.TRANSFORMERS])
@pytest.mark.parametrize("backbone", DEPTHS)
def test_every_depth_has_each_array_once_and_comes_back_exactly(backbone, naming):
    config, state = config_of(backbone), made_up_state(backbone, naming)
    template = flat_state.of_network(abstract(config))
    entries = resnet.table(backbone, naming)
    flat, report = table.to_ours(entries, state, template, file="file")
    own = {name for name in template if ".backbone." in name}
    assert flat.keys() == own
    assert report.used.keys() == state.keys()
    assert report.fresh.keys() == template.keys() - own
    back = table.to_torch(entries, flat)
    assert all((back[name] == value).all() for name, value in state.items())
    assert resnet.describe(state, naming) == backbone


def test_names_are_those_of_an_independent_network():
    for backbone in ("resnet18", "resnet50", "resnet101"):
        names = {n for n in torch_resnet_names(backbone) if not n.endswith("num_batches_tracked")}
        assert {entry.theirs for entry in resnet.table(backbone)} == names


def torch_resnet_names(backbone):
    kind, depths = DEPTHS[backbone]
    return TorchResNet(2, depths, kind.expansion > 1).state_dict().keys()


def test_transformers_files_are_detected_by_their_names(tmp_path):
    state = made_up_state("resnet50", resnet.TRANSFORMERS)
    names = set(state)
    assert "embedder.embedder.convolution.weight" in names
    assert "encoder.stages.0.layers.0.shortcut.normalization.running_var" in names
    assert "encoder.stages.3.layers.2.layer.2.convolution.weight" in names
    state = {f"resnet.{n}": v for n, v in state.items()} | {"classifier.1.bias": np.zeros(3)}
    config = config_of(path=save(state, tmp_path / "model.pth"))
    flat = load.load(config).flat
    np.testing.assert_array_equal(
        flat["params.backbone.layer4.2.conv3.kernel"][0, 0],
        state["resnet.encoder.stages.3.layers.2.layer.2.convolution.weight"][..., 0, 0].T,
    )


def test_the_rest_of_the_network_keeps_its_initial_values(fifty, tmp_path):
    torch.save(fifty[0].state_dict(), tmp_path / "weights.pth")
    config = config_of(path=tmp_path / "weights.pth")
    before, network = flat_state.of_network(build(config)), build(config)
    loaded = load.load(config)
    load.fill(network, loaded.flat)
    after = flat_state.of_network(network)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if ".backbone." in name}
    rows = [line.split()[:4] for line in loaded.notes[0].splitlines()]
    assert ["ignored", "fc", "2", "tensors"] in rows
    assert ["used", "layer3", "95", "tensors"] in rows
    assert "heads" in loaded.notes[0]


def load_state(state, config, folder):
    config = config.copy_and_resolve_references()
    config.pretrained.path = str(save(state, folder / "state.pth"))
    return load.load(config).flat


class TestExport:
    @pytest.mark.parametrize("name", ["backbone.pth", "backbone.safetensors"])
    def test_a_torch_network_loads_it_and_agrees(self, name, tmp_path):
        images, config = make_images(seed=5), config_of("resnet18")
        source = torch_resnet("resnet18", seed=2)
        network = build(config)
        load.fill(network, load_state(source.state_dict(), config, tmp_path))
        ours = features(network, images)
        written, _ = write.export(network, config.model, tmp_path / name)
        read = safetensors.load_file if name.endswith("safetensors") else torch.load
        original = TorchResNet(WIDTH, DEPTHS["resnet18"][1], False)
        original.load_state_dict(read(tmp_path / name))
        original.eval()
        with torch.no_grad():
            theirs = original(to_torch(images)).movedim(1, -1).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)
        again = read_weights(tmp_path / name).tensors
        assert all((again[tensor] == value).all() for tensor, value in written.items())
        config.pretrained.path = str(tmp_path / name)
        flat = load.load(config).flat
        assert all((flat_state.of_network(network)[n] == v).all() for n, v in flat.items())

    def test_what_cannot_be_written_is_refused(self, tmp_path, monkeypatch):
        config = config_of("resnet18")
        network = build(config)
        with pytest.raises(UserError, match=r"backbone\.onnx"):
            write.export(network, config.model, tmp_path / "backbone.onnx")
        with pytest.raises(UserError, match="'caffe'"):
            write.export(network, config.model, tmp_path / "backbone.pth", "caffe")
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"file/backbone\.pth"):
            write.export(network, config.model, tmp_path / "file" / "backbone.pth")


class TestRefusals:
    def refused(self, config):
        with pytest.raises(UserError) as caught:
            load.load(config)
        message = str(caught.value)
        assert message.startswith(config.pretrained.path)
        assert "\n" not in message
        return message

    def test_another_depth_or_width(self, tmp_path):
        path = save(made_up_state("resnet34"), tmp_path / "weights.pth")
        message = self.refused(config_of("resnet50", path=path))
        assert "resnet34 of width 8" in message
        assert "--config.model.backbone=resnet34" in message
        message = self.refused(config_of("resnet34", 16, path=path))
        assert "resnet34 of width 16" in message

    def test_a_missing_tensor(self, tmp_path):
        state = made_up_state("resnet18")
        del state["layer2.1.bn2.running_var"]
        path = save(state, tmp_path / "weights.pth")
        assert "layer2.1.bn2.running_var" in self.refused(config_of("resnet18", path=path))
        state = made_up_state("resnet50")
        del state["layer3.5.conv3.weight"]
        path = save(state, tmp_path / "weights.pth")
        assert "layer3.5.conv3.weight" in self.refused(config_of("resnet50", path=path))

    def test_a_misshapen_tensor(self, tmp_path):
        state = made_up_state("resnet50")
        state["layer1.0.conv2.weight"] = np.zeros((8, 4, 3, 3), np.float32)  # as a ResNeXt's
        path = save(state, tmp_path / "weights.pth")
        message = self.refused(config_of("resnet50", path=path))
        for name in ("layer1.0.conv2.weight", "(8, 4, 3, 3)", "(8, 8, 3, 3)"):
            assert name in message

    def test_a_variant_with_more_in_its_blocks(self, tmp_path):
        state = made_up_state("resnet50") | {"layer1.0.se.fc1.weight": np.zeros(3)}
        path = save(state, tmp_path / "weights.pth")
        assert "layer1.0.se.fc1.weight" in self.refused(config_of("resnet50", path=path))

    def test_another_kind_of_network(self, tmp_path):
        state = {"blocks.0.attn.qkv.weight": np.zeros(3), "pos_embed": np.zeros(3)}
        path = save(state, tmp_path / "vit.pth")
        message = self.refused(config_of(path=path))
        assert "blocks.0.attn.qkv.weight" in message
        path = save(made_up_state("resnet50"), tmp_path / "weights.pth")
        message = self.refused(config_of(path=path, format="transformers"))
        assert "ResNet of transformers" in message


def test_a_random_backbone_of_a_published_width_is_noted():
    (note,) = load.load(config_of("resnet50", 64)).notes
    assert "random weights" in note
    assert "pretrained.path" in note
    assert load.load(config_of("resnet50", 16)).notes == []
