"""SPIN's mean parameters: their layout in our network, and files that are refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.spatial.transform import Rotation

from pare_jax.errors import UserError
from pare_jax.models import build_model
from pare_jax.pretrained import load
from pare_jax.pretrained.mean_parameters import read_mean_parameters
from tests.fakes import tiny_config

ROTATIONS = Rotation.random(24, random_state=0).as_matrix()


def arrays():
    # Six numbers are the first two columns of a matrix, row by row.
    pose = np.array([[m[row, column] for row in range(3) for column in (0, 1)] for m in ROTATIONS])
    return {
        "pose": pose.reshape(-1).astype(np.float32),
        "shape": np.linspace(-1, 1, 10, dtype=np.float32),
        "cam": np.array([0.8, 0.1, -0.1], np.float32),
    }


def test_predictions_start_from_the_mean_parameters(tmp_path):
    np.savez(tmp_path / "mean.npz", **arrays())
    config = tiny_config()
    config.pretrained.mean_parameters = str(tmp_path / "mean.npz")
    network = build_model(config.model, rngs=nnx.Rngs(0))
    loaded = load.load(config)
    load.fill(network, loaded.flat)
    assert "mean.npz" in loaded.notes[-1]
    for head in (network.heads.pose, network.heads.shape, network.heads.camera):
        head.layers[-1].kernel[...] = jnp.zeros_like(head.layers[-1].kernel[...])
    pooled = jnp.ones((2, 24 * config.model.shape_features))
    prediction = network.heads(jnp.ones((2, 24, config.model.branch_features)), pooled)
    np.testing.assert_allclose(prediction.rotations[1], ROTATIONS, atol=1e-5)
    np.testing.assert_allclose(prediction.betas[0], arrays()["shape"], atol=1e-6)
    np.testing.assert_allclose(prediction.camera[0], arrays()["cam"], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pose", np.zeros(72, np.float32)),
        ("shape", None),
        ("cam", np.array([0.9, np.nan, 0], np.float32)),
        ("cam", np.array(["a", "b", "c"])),
    ],
)
def test_a_wrong_array_is_named(name, value, tmp_path):
    path = tmp_path / "mean.npz"
    np.savez(path, **{k: v for k, v in (arrays() | {name: value}).items() if v is not None})
    with pytest.raises(UserError) as caught:
        read_mean_parameters(path)
    assert f"'{name}'" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_wrong_file_is_one_line(tmp_path):
    path = tmp_path / "mean.npz"
    np.savez(path, **(arrays() | {"pose": np.array([{}] * 144)}))
    whole = path.read_bytes()
    for content in (whole, b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=str(path)) as caught:
            read_mean_parameters(path)
        assert "\n" not in str(caught.value)
    np.save(tmp_path / "mean.npy", np.zeros(144))
    with pytest.raises(UserError, match=r"mean\.npy"):
        read_mean_parameters(tmp_path / "mean.npy")
    with pytest.raises(UserError, match=r"absent\.npz"):
        read_mean_parameters(tmp_path / "absent.npz")
