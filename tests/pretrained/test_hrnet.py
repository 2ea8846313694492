"""HRNet's files loaded into our networks."""

import numpy as np
import pytest
from flax import nnx

from pare_jax.errors import UserError
from pare_jax.models import build_model, flat_state
from pare_jax.pretrained import load
from tests.fakes import tiny_config

torch = pytest.importorskip("torch")

from tests.models.torch_hrnet import TorchHRNet  # noqa: E402


def pose_file(path, width=4):
    """Save an HRNet of pose estimation, whose last exchange leads to the finest size only."""
    network = TorchHRNet(width, 2 * width, (1, 1, 1), blocks=1, layer1=1, pose_only=True)
    torch.save(network.state_dict(), path)
    return network


def config_of(path, name="pare"):
    config = tiny_config()
    config.model.update({"name": name, "backbone": "hrnet_w32", "backbone_width": 8})
    config.pretrained.path = str(path)
    return config


@pytest.mark.parametrize("name", ["pare", "baseline"])
def test_layers_that_pose_estimation_lacks_keep_initial_values(name, shallow_hrnet, tmp_path):
    original = pose_file(tmp_path / "pose.pth")
    config = config_of(tmp_path / "pose.pth", name)
    loaded = load.load(config)
    network = build_model(config.model, rngs=nnx.Rngs(0))
    before = flat_state.of_network(network)
    fresh = {n for n in before if n not in loaded.flat and ".backbone." in n}
    stems = {n.split(".backbone.")[1] for n in fresh}
    assert stems
    kept = ("upsample_stage_", "stage4.0.fuse_layers.1", "stage4.0.fuse_layers.2",
            "stage4.0.fuse_layers.3")  # fmt: skip
    assert all(stem.startswith(kept) for stem in stems)
    table = loaded.notes[0]
    assert "backbone.upsample_stage_4" in table
    assert "final_layer" in table
    load.fill(network, loaded.flat)
    after = flat_state.of_network(network)
    assert all((after[n] == before[n]).all() for n in fresh)
    theirs = original.state_dict()["stage4.0.fuse_layers.0.3.0.weight"].numpy()
    ours = after["params.backbone.stage4.0.fuse_layers.0.3.0.conv.kernel"]
    np.testing.assert_array_equal(ours, theirs.transpose(2, 3, 1, 0))


def test_another_width_or_a_missing_layer_is_refused(shallow_hrnet, tmp_path):
    pose_file(tmp_path / "wide.pth", 8)
    with pytest.raises(UserError, match=r"wide\.pth .*--config\.model\.backbone_width=16"):
        load.load(config_of(tmp_path / "wide.pth"))
    state = pose_file(tmp_path / "pose.pth").state_dict()
    del state["stage3.0.branches.2.0.bn2.running_var"]
    torch.save(state, tmp_path / "pose.pth")
    with pytest.raises(UserError, match=r"stage3\.0\.branches\.2\.0\.bn2\.running_var"):
        load.load(config_of(tmp_path / "pose.pth"))
