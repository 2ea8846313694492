"""HRNets against a plain torch one, with weights under the published names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pare_jax.models import hrnet
from pare_jax.models.flat_state import flatten, of_network
from pare_jax.models.hrnet import HRNet
from pare_jax.pretrained import hrnet_weights as files
from pare_jax.pretrained import load, table

torch = pytest.importorskip("torch")

from tests.models.torch_hrnet import TorchHRNet, draw_weights  # noqa: E402
from tests.models.torch_networks import (  # noqa: E402
    far_from_kinks,
    make_images,
    relative_error,
    to_torch,
)

# For networks this small threads cost more time than they save.
torch.set_num_threads(1)

# Divisible by 32; the coarsest maps are 3x3.
SIZE = 96


def images(seed):
    return make_images(SIZE, batch=2, seed=seed)


def make_pair(seed=0):
    """Return a torch network of width 4, and a shallow one of ours with its weights."""
    original = TorchHRNet(4, 8, modules=(1, 1, 1), blocks=1, layer1=1)
    draw_weights(original, seed, [to_torch(images(10 + i)) for i in range(4)])
    network = HRNet("hrnet_w32", 8, align_corners=True, rngs=nnx.Rngs(0))
    state = {n: v.numpy() for n, v in original.state_dict().items() if v.ndim}
    entries = files.table(place="", complete=True)
    flat, report = table.to_ours(entries, state, of_network(network), file="test")
    assert not report.fresh
    assert {name.split(".")[0] for name in report.ignored} == {"final_layer"}
    load.fill(network, flat)
    return original, network


@nnx.jit
def run(network, x):
    return network(x)


def test_features_agree(shallow_hrnet):
    original, network = make_pair()
    network.eval()
    x = images(1)
    with torch.no_grad():
        expected = original(to_torch(x)).movedim(1, -1).numpy()
    actual = run(network, x)
    assert actual.shape == (2, SIZE // 4, SIZE // 4, 60)
    assert 0.5 < np.abs(expected).max() < 50
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-4)


def test_gradients_and_running_statistics_agree(shallow_hrnet):
    original, network = make_pair()
    original.train()
    x = next(x for x in map(images, range(1, 100)) if far_from_kinks(original, x))
    weight = np.random.default_rng(0).normal(size=(2, SIZE // 4, SIZE // 4, 60)).astype(np.float32)
    before = {name: value.clone() for name, value in original.state_dict().items()}
    (original(to_torch(x)) * torch.from_numpy(weight).movedim(-1, 1)).sum().backward()
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)

    # It runs once: optimising it costs more time than it saves.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def gradient(params):
        def loss(params):
            network = nnx.merge(graphdef, params, rest, copy=True)
            return jnp.sum(network(x) * weight), nnx.split(network, nnx.Param, ...)[2]

        return jax.grad(loss, has_aux=True)(params)

    gradients, statistics = gradient(params)
    ours = flatten("params", gradients) | flatten("batch_stats", statistics)
    entries = [e for e in files.table(place="", complete=True) if e.theirs in before]
    theirs = {n: p.grad for n, p in original.named_parameters()} | dict(original.named_buffers())
    assert len(entries) == len(ours)
    for entry in entries:
        value = entry.layout.to_theirs(np.asarray(ours[entry.ours]))
        error = relative_error(value, theirs[entry.theirs].numpy())
        assert error < 1e-3, (entry.theirs, error)


@pytest.mark.parametrize(("name", "width"), [("hrnet_w32", 32), ("hrnet_w48", 48)])
def test_tensors_are_those_of_the_published_networks(name, width):
    with torch.device("meta"):
        original = TorchHRNet(width)
    network = nnx.eval_shape(lambda: HRNet(name, rngs=nnx.Rngs(0)))
    assert network.out_features == 15 * width
    template = of_network(network)
    expected = {n: tuple(v.shape) for n, v in original.state_dict().items() if v.ndim}
    expected = {n: shape for n, shape in expected.items() if not n.startswith("final_layer.")}
    entries = files.table(place="", complete=True)
    ours = [entry.ours for entry in entries]
    assert sorted(ours) == sorted(template)
    shapes = {
        entry.theirs: table.shape_of_theirs(entry, template[mine].shape)
        for entry, mine in zip(entries, ours, strict=True)
    }
    assert shapes == expected


def test_pixels_are_repeated():
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 4)).astype(np.float32)
    expected = x.repeat(4, 1).repeat(4, 2)
    np.testing.assert_array_equal(hrnet.repeat_pixels(jnp.asarray(x), 4), expected)
