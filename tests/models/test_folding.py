"""Folded networks give the predictions of the original ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.models import build_model, folding
from pare_jax.models.branches import Branch, upsample, upsampled_taps
from pare_jax.models.folding import FoldedUpsamplingBlock, Shift, fold
from pare_jax.models.layers import BatchNorm, Conv

SIZE = 64


def make_network(name="pare", backbone="resnet50", **changes):
    """Build a small network in train mode whose batch normalisations are not the identity."""
    config = ConfigDict(
        {
            "name": name,
            "backbone": backbone,
            "input": "image",
            "backbone_width": 8,
            "num_blocks": 2,
            "branch_features": 16,
            "shape_features": 8,
            "pose_hidden": (),
            "shape_hidden": (8,),
            "camera_hidden": (),
            "align_corners": False,
            "dtype": "float32",
        }
        | changes
    )
    network = build_model(config, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    for _, module in nnx.iter_modules(network):
        if isinstance(module, BatchNorm):
            shape = module.mean.shape
            for variable, value in (
                (module.scale, rng.uniform(0.3, 0.6, shape)),
                (module.bias, rng.normal(0, 0.3, shape)),
                (module.mean, rng.normal(0, 0.3, shape)),
                (module.var, rng.uniform(0.2, 2.0, shape)),
            ):
                variable[...] = jnp.asarray(value, jnp.float32)
    return network


def make_images(batch=2):
    return np.random.default_rng(1).normal(size=(batch, SIZE, SIZE, 3)).astype(np.float32)


def predict(network, images):
    graphdef, state = nnx.split(network)
    return jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))(state, images)


NETWORKS = {
    "final": {},
    "corners": {"backbone": "resnet18", "align_corners": True, "num_blocks": 3},
    "baseline": {"name": "baseline", "backbone": "resnet18"},
    "hrnet": {"backbone": "hrnet_w32", "align_corners": True},
}


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
def test_predictions_are_the_same(changes, shallow_hrnet):
    network = make_network(**changes)
    before = jax.tree.map(np.array, nnx.state(network))
    folded = fold(network)
    network.eval()
    expected, actual = predict(network, make_images()), predict(folded, make_images())
    for name in ("rotations", "betas", "camera", "part_logits", "attention"):
        wanted = getattr(expected, name)
        if wanted is None:
            assert getattr(actual, name) is None
        else:
            np.testing.assert_allclose(
                getattr(actual, name), wanted, rtol=1e-4, atol=1e-5, err_msg=name
            )
    # The original is unchanged, and every batch normalisation of the copy is folded.
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(network))
    kinds = {type(module) for _, module in nnx.iter_modules(folded)}
    assert BatchNorm not in kinds
    assert Shift in kinds
    assert (FoldedUpsamplingBlock in kinds) == (changes.get("name") != "baseline")


def test_branches_without_upsampling_are_folded_too():
    branch = Branch(3, 4, 2, upsampling=False, rngs=nnx.Rngs(0))
    branch.blocks[1].bn.mean[...] = jnp.arange(4.0)
    folded = fold(branch)
    branch.eval()
    np.testing.assert_allclose(folded(make_images()), branch(make_images()), atol=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("way", [folding._by_adding, folding._by_multiplying])
def test_taps_are_an_upsampled_convolution(way, align_corners):
    """Compare with interpolation before convolution, on maps that are not square."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 4, 6)).astype(np.float32)
    fine = np.pad(upsample(x, align_corners=align_corners), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(
        fine[:, row : row + 6, column : column + 10] @ kernel[row, column]
        for row in range(3)
        for column in range(3)
    )
    rows = [
        jnp.asarray((x.reshape(-1, 4) @ row.swapaxes(0, 1).reshape(4, -1)).reshape(2, 3, -1))
        for row in kernel
    ]
    actual = way(rows, width=5, align_corners=align_corners)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_weights_of_taps_are_a_band():
    """Each fine position depends on its coarse one and the neighbours, as `_by_adding` assumes."""
    for align_corners in (False, True):
        fine, _, coarse = np.nonzero(upsampled_taps(9, align_corners))
        assert np.abs(fine // 2 - coarse).max() == 1


def test_a_convolution_keeps_its_bias():
    class Layer(nnx.Module):
        def __init__(self):
            self.conv = Conv(3, 4, 3, use_bias=True, dtype=jnp.float32, rngs=nnx.Rngs(0))
            self.conv.bias[...] = jnp.arange(4.0)
            self.bn = BatchNorm(4)
            self.bn.mean[...], self.bn.var[...] = jnp.full(4, 0.5), jnp.full(4, 3.0)

        def __call__(self, x):
            return self.bn(self.conv(x))

    layer = Layer()
    folded = fold(layer)
    layer.eval()
    images = make_images()
    np.testing.assert_allclose(folded(images), layer(images), rtol=1e-4, atol=1e-5)


def test_a_batch_normalisation_without_convolution_is_refused():
    class Layer(nnx.Module):
        def __init__(self):
            self.bn = BatchNorm(4)

    with pytest.raises(ValueError, match=r"Layer\.bn"):
        fold(Layer())


def test_bfloat16_stays_bfloat16():
    network = make_network(dtype="bfloat16")
    folded = fold(network)
    network.eval()
    expected, actual = predict(network, make_images()), predict(folded, make_images())
    assert actual.betas.dtype == jnp.float32
    np.testing.assert_allclose(actual.rotations, expected.rotations, atol=0.1)
