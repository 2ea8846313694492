"""The networks against plain torch modules with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.body.io import load_body_data
from pare_jax.body.model import load_body_model
from pare_jax.models import build_model, resnet
from pare_jax.models.resnet import ResNet
from pare_jax.training import losses

torch = pytest.importorskip("torch")

from tests.models import torch_networks  # noqa: E402
from tests.models.torch_networks import (  # noqa: E402
    BATCH,
    TorchNetwork,
    TorchResNet,
    draw_weights,
    far_from_kinks,
    make_images,
    relative_error,
    to_torch,
    torch_loss,
)

LOSS_WEIGHTS = {
    "joints_3d": 300.0,
    "joints_2d": 150.0,
    "pose": 60.0,
    "shape": 0.06,
    "camera": 1.0,
    "parts": 60.0,
}


def torch_name(path):
    """Return the name of the torch tensor for `path` in our network."""
    *place, leaf = path
    leaf = {
        "kernel": "weight",
        "scale": "weight",
        "mean": "running_mean",
        "var": "running_var",
    }.get(leaf, leaf)
    if place[0] == "heads":
        place = place[1:]
        if "layers" in place:  # Linear layers alternate with ReLU.
            place = [place[0], 2 * place[2]]
    elif place[-3:-1] and "blocks" in place:
        place = [place[0], place[-1] + "s", place[2]]
    elif "downsample" in place:
        place[-1] = {"conv": 0, "bn": 1}[place[-1]]
    return ".".join(str(part) for part in (*place, leaf))


def torch_value(path, state, joints):
    """Return the torch tensor for `path` in our layout; with `joints` those of 24 pose MLPs."""
    if joints and path[:2] == ("heads", "pose"):
        suffix = torch_name(path).removeprefix("pose.")
        value = np.stack([state[f"pose.{joint}.{suffix}"] for joint in range(24)])
        return value.swapaxes(1, 2) if value.ndim == 3 else value
    value = state[torch_name(path)].numpy()
    if path[-1] == "kernel":
        return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    return value


def copy_weights(module, model):
    state = module.state_dict()
    flat = nnx.to_flat_state(nnx.state(model))
    joints = isinstance(module, TorchNetwork) and module.pare
    for path, variable in flat:
        value = torch_value(path, state, joints)
        assert value.shape == variable.shape, path
        variable[...] = jnp.asarray(value)
    count = sum(value.numel() for value in state.values() if value.ndim)
    assert count == sum(variable.size for _, variable in flat)  # All are copied.


def make_config(**changes):
    config = ConfigDict(
        {
            "name": "pare",
            "backbone": "resnet50",
            "input": "image",
            "backbone_width": 16,
            "num_blocks": 3,
            "branch_features": 32,
            "shape_features": 8,
            "pose_hidden": (),
            "shape_hidden": (),
            "camera_hidden": (),
            "align_corners": False,
            "dtype": "float32",
        }
    )
    config.update(changes)
    return config


def make_pair(seed=0, **changes):
    config = make_config(**changes)
    module = TorchNetwork(config)
    draw_weights(module, seed)
    model = build_model(config, rngs=nnx.Rngs(0))
    copy_weights(module, model)
    return module, model


def assert_predictions_agree(prediction, expected, tolerance=1e-4):
    for name, value in expected.items():
        actual = getattr(prediction, name)
        assert actual.dtype == jnp.float32
        np.testing.assert_allclose(
            actual, value.detach().numpy(), atol=tolerance, rtol=tolerance, err_msg=name
        )


@nnx.jit
def run(model, images):
    return model(images)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": "resnet18", "align_corners": True, "num_blocks": 2, "pose_hidden": (16, 8)},
        {"name": "baseline", "backbone": "resnet18", "pose_hidden": (32,), "shape_hidden": (16, 8)},
    ],
    ids=["final", "shallow-corners-hidden", "baseline-hidden"],
)
def test_eval_mode_agrees(changes):
    module, model = make_pair(**changes)
    module.eval()
    model.eval()
    images = make_images()
    with torch.no_grad():
        expected = module(to_torch(images))
    assert_predictions_agree(run(model, images), expected)


def make_batch(side):
    rng = np.random.default_rng(3)
    quaternion_free = np.linalg.qr(rng.normal(size=(BATCH, 24, 3, 3)))[0]
    weight = np.array([1, 0, 1, 1])
    batch = {
        "joints_3d": rng.normal(size=(BATCH, 24, 3), scale=0.3),
        "joints_3d_weight": weight,
        "joints_2d": rng.uniform(-1, 1, (BATCH, 24, 2)),
        "joints_2d_weight": rng.uniform(0.1, 1, (BATCH, 24)),
        "head_top": np.zeros((BATCH, 2)),
        "head_top_weight": np.zeros(BATCH),
        "rotations": quaternion_free * np.linalg.det(quaternion_free)[..., None, None],
        "pose_weight": weight[::-1].copy(),
        "betas": rng.normal(size=(BATCH, 10)),
        "betas_weight": weight[::-1].copy(),
        "parts_weight": weight,
    }
    batch = {name: value.astype(np.float32) for name, value in batch.items()}
    return batch | {"part_labels": rng.integers(0, 25, (BATCH, side, side)).astype(np.uint8)}


def test_train_mode_agrees(monkeypatch):
    """Compare predictions, running statistics and every parameter's gradient of the full loss.

    The backbone has fewer blocks than a ResNet-50, whose gradients take long to compile.
    """
    depths = (2, 1, 1, 1)
    monkeypatch.setitem(torch_networks.DEPTHS, "resnet50", (depths, True))
    monkeypatch.setitem(resnet.DEPTHS, "resnet50", (resnet.Bottleneck, depths))
    module, model = make_pair(backbone_width=8, branch_features=16)
    module.train()
    model.train()
    candidates = (make_images(seed=seed) for seed in range(200))
    images = next(images for images in candidates if far_from_kinks(module, images))
    batch = make_batch(16)
    data = load_body_data()
    regressor = data.joint_regressor.astype(np.float32)
    constants = {
        "template_joints": regressor @ data.template,
        "basis": np.einsum("jv,vik->jik", regressor, data.shape_basis),
    }
    expected = module(to_torch(images))
    reference = torch_loss(
        expected,
        {name: torch.from_numpy(value) for name, value in batch.items()},
        {name: torch.from_numpy(value.astype(np.float32)) for name, value in constants.items()},
    )
    reference.backward()

    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    body = load_body_model()

    @jax.jit
    def loss_and_gradients(params, rest):
        def loss_of(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            prediction = model(images)
            joints = body.joints(prediction.betas, prediction.rotations)
            # The reference has no top of the head, and its weight is 0 for every person.
            loss, _ = losses.total_loss(prediction, joints, joints[:, 0], batch, LOSS_WEIGHTS)
            return loss, (prediction, nnx.state(model, nnx.BatchStat))

        return jax.value_and_grad(loss_of, has_aux=True)(params)

    (loss, (prediction, statistics)), gradients = loss_and_gradients(params, rest)
    assert_predictions_agree(prediction, expected)
    np.testing.assert_allclose(loss, reference.item(), rtol=1e-4)

    state = module.state_dict()
    for path, value in nnx.to_flat_state(statistics):
        np.testing.assert_allclose(
            value[...], torch_value(path, state, True), rtol=1e-4, atol=1e-5, err_msg=str(path)
        )
    state = {name: value.grad for name, value in module.named_parameters()}
    for path, value in nnx.to_flat_state(gradients):
        error = relative_error(value[...], torch_value(path, state, True))
        assert error < 1e-3, (path, error)


def test_full_size_backbone_agrees():
    """ResNet-50 at 224 pixels, as torchvision defines it."""
    module = TorchResNet(64, (3, 4, 6, 3), bottleneck=True)
    draw_weights(module, seed=1)
    module.eval()
    model = ResNet("resnet50", rngs=nnx.Rngs(0))
    copy_weights(module, model)
    model.eval()
    images = make_images(224, batch=1)
    with torch.no_grad():
        expected = module(to_torch(images)).movedim(1, -1).numpy()
    actual = run(model, images)
    assert actual.shape == (1, 7, 7, 2048)
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())
