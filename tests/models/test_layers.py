"""Layers and branches against torch, or against the plain XLA operation they replace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pare_jax.models.branches import upsample, upsample_and_convolve
from pare_jax.models.initializers import normal
from pare_jax.models.layers import BatchNorm, convolve, max_pool

torch = pytest.importorskip("torch")
F = torch.nn.functional


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def to_torch(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def kernel_to_torch(kernel):
    return torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))


def from_torch(x):
    return x.detach().movedim(1, -1).numpy()


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampling_is_torchs(side, align_corners):
    x = draw(2, side, side + 1, 3)
    expected = F.interpolate(
        to_torch(x), scale_factor=2, mode="bilinear", align_corners=align_corners
    )
    np.testing.assert_allclose(
        upsample(x, align_corners=align_corners), from_torch(expected), atol=1e-6
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampling_and_convolving_at_once_is_one_after_the_other(align_corners):
    x, kernel = draw(2, 5, 4, 6), draw(3, 3, 6, 7, seed=1)
    fine = F.interpolate(to_torch(x), scale_factor=2, mode="bilinear", align_corners=align_corners)
    expected = F.conv2d(fine, kernel_to_torch(kernel), padding=1)
    actual = upsample_and_convolve(x, kernel, align_corners=align_corners)
    np.testing.assert_allclose(actual, from_torch(expected), atol=1e-5)


@pytest.mark.parametrize(("size", "strides"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("side", [2, 4, 6])
def test_convolution_is_torchs(size, strides, side):
    x, kernel = draw(2, side, side, 5), draw(size, size, 5, 4, seed=1)
    expected = F.conv2d(to_torch(x), kernel_to_torch(kernel), stride=strides, padding=size // 2)
    np.testing.assert_allclose(convolve(x, kernel, strides), from_torch(expected), atol=1e-5)


def test_max_pool_and_its_gradient_are_torchs():
    x = draw(2, 6, 8, 3)
    reference = to_torch(x).requires_grad_()
    expected = F.max_pool2d(reference, 3, 2, 1)
    cotangent = draw(*from_torch(expected).shape, seed=1)
    expected.backward(to_torch(cotangent))
    actual, pull_back = jax.vjp(max_pool, x)
    np.testing.assert_array_equal(actual, from_torch(expected))
    gradient = pull_back(jnp.asarray(cotangent))[0]
    np.testing.assert_allclose(gradient, from_torch(reference.grad), atol=1e-6)


def test_batch_norm_keeps_torchs_running_statistics():
    layer, reference = BatchNorm(3), torch.nn.BatchNorm2d(3)
    for step in range(3):
        x = 5.0 + draw(2, 3, 3, 3, seed=step)
        expected = reference(to_torch(x))
        np.testing.assert_allclose(layer(x), from_torch(expected), atol=1e-4)
    np.testing.assert_allclose(layer.mean[...], reference.running_mean, rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], reference.running_var, rtol=1e-5)
    layer.eval()
    reference.eval()
    np.testing.assert_allclose(layer(x), from_torch(reference(to_torch(x))), rtol=1e-5, atol=1e-5)


def test_batch_norm_near_its_running_mean_keeps_precision():
    layer = BatchNorm(3)
    layer.mean[...] = jnp.full(3, 1000.0)
    x = 1001.0 + draw(4, 5, 5, 3)
    exact = x.astype(np.float64)
    deviation = np.sqrt(exact.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(layer(x), (exact - exact.mean((0, 1, 2))) / deviation, atol=1e-3)


def test_batch_norm_of_a_constant_channel_is_finite():
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(BatchNorm(2)(x) ** 2))(
        jnp.full((4, 2, 2, 2), 3.0)
    )
    assert jnp.isfinite(value)
    assert jnp.all(jnp.isfinite(gradient))


def test_initial_weights_have_the_requested_deviation_and_differ():
    rngs = nnx.Rngs(0)
    one, other = normal(rngs, (300, 400), 0.5), normal(rngs, (300, 400), 0.5)
    assert abs(float(one.std()) - 0.5) < 0.01
    assert abs(float(jnp.corrcoef(one.ravel(), other.ravel())[0, 1])) < 0.02
    np.testing.assert_array_equal(one, normal(nnx.Rngs(0), (300, 400), 0.5))
    traced = nnx.jit(lambda: normal(nnx.Rngs(0), (300, 400), 0.5))()
    np.testing.assert_allclose(one, traced, rtol=1e-6)
