"""All networks: shapes, types, modes, the first prediction, refusals."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from pare_jax import geometry
from pare_jax.errors import UserError
from pare_jax.models import build_model
from pare_jax.models.heads import MeanParameter, mean_pose
from pare_jax.models.layers import BatchNorm
from pare_jax.skeleton import joint_index


def make_config(**changes):
    config = ConfigDict(
        {
            "name": "pare",
            "backbone": "resnet18",
            "input": "image",
            "backbone_width": 4,
            "num_blocks": 2,
            "branch_features": 8,
            "shape_features": 4,
            "pose_hidden": (),
            "shape_hidden": (),
            "camera_hidden": (),
            "align_corners": False,
            "dtype": "float32",
        }
    )
    config.update(changes)
    return config


def make_images(size=64, batch=2):
    return jax.random.normal(jax.random.key(0), (batch, size, size, 3))


@nnx.jit
def run(model, images):
    return model(images)


@pytest.mark.parametrize(
    ("backbone", "width", "num_blocks", "size", "side"),
    [
        ("resnet50", 64, 3, 224, 56),
        ("resnet18", 64, 2, 224, 28),
        ("resnet50", 16, 3, 64, 16),
        ("resnet34", 16, 3, 96, 24),
        ("hrnet_w32", 64, 2, 224, 56),
        ("hrnet_w48", 8, 3, 96, 24),
    ],
)
def test_shapes_and_types(backbone, width, num_blocks, size, side, shallow_hrnet):
    config = make_config(backbone=backbone, backbone_width=width, num_blocks=num_blocks)
    prediction = nnx.eval_shape(
        lambda: build_model(config, rngs=nnx.Rngs(0))(make_images(size, batch=3))
    )
    arrays = {
        n: value for n, value in vars(prediction).items() if n not in ("align_corners", "earlier")
    }
    shapes = {name: value.shape for name, value in arrays.items()}
    assert prediction.align_corners is False
    assert prediction.earlier == ()
    assert shapes == {
        "rotations": (3, 24, 3, 3),
        "betas": (3, 10),
        "camera": (3, 3),
        "part_logits": (3, side, side, 25),
        "attention": (3, side, side, 24),
    }
    assert {value.dtype for value in arrays.values()} == {jnp.dtype("float32")}


def products(jaxpr):
    """Yield the convolutions and matrix products of a program and of its inner programs."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", [{}, {"backbone": "hrnet_w32"}, {"name": "baseline"}])
def test_products_are_of_the_dtype_at_full_precision(dtype, change):
    model = build_model(make_config(dtype=dtype, **change), rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        prediction = nnx.merge(graphdef, params, rest, copy=True)(make_images())
        return sum(leaf.sum() for leaf in jax.tree.leaves(prediction))

    found = list(products(jax.make_jaxpr(jax.grad(loss))(params).jaxpr))
    highest = (jax.lax.Precision.HIGHEST,) * 2
    assert all(equation.params["precision"] == highest for equation in found)
    types = {
        variable.aval.dtype
        for equation in found
        if equation.primitive.name == "conv_general_dilated"
        for variable in equation.invars
    }
    assert types == {jnp.dtype(dtype)}


def test_baseline_has_no_part_maps():
    prediction = nnx.eval_shape(
        lambda: build_model(make_config(name="baseline"), rngs=nnx.Rngs(0))(make_images())
    )
    assert prediction.rotations.shape == (2, 24, 3, 3)
    assert prediction.part_logits is None
    assert prediction.attention is None


@pytest.mark.parametrize(("backbone", "millions"), [("resnet18", 11.177), ("resnet50", 23.508)])
def test_backbones_have_torchvisions_number_of_parameters(backbone, millions):
    config = make_config(backbone=backbone, backbone_width=64)
    model = nnx.eval_shape(lambda: build_model(config, rngs=nnx.Rngs(0)))
    count = sum(value.size for value in jax.tree.leaves(nnx.state(model.backbone, nnx.Param)))
    assert round(count / 1e6, 3) == millions


@pytest.mark.parametrize("name", ["pare", "baseline"])
def test_first_prediction_is_nearly_the_mean_parameters(name):
    model = build_model(make_config(name=name), rngs=nnx.Rngs(0))
    prediction = run(model, make_images())
    mean = geometry.sixd_to_matrix(mean_pose())
    np.testing.assert_allclose(prediction.rotations, np.stack([mean, mean]), atol=0.2)
    np.testing.assert_allclose(prediction.betas, 0, atol=0.2)
    np.testing.assert_allclose(prediction.camera, [[0.9, 0, 0]] * 2, atol=0.2)
    if name == "pare":
        assert prediction.attention.min() >= 0
        np.testing.assert_allclose(prediction.attention.sum((1, 2)), 1, atol=1e-5)


def test_mean_pose_stands_upright_facing_the_camera_with_lowered_arms():
    rotations = np.asarray(geometry.sixd_to_matrix(mean_pose()))
    root = rotations[0]
    np.testing.assert_allclose(root @ [0, 1, 0], [0, -1, 0], atol=1e-6)  # Up is -y.
    np.testing.assert_allclose(root @ [0, 0, 1], [0, 0, -1], atol=1e-6)  # Facing the camera.
    for side, along in (("left", 1.0), ("right", -1.0)):
        arm = rotations[joint_index(f"{side}_shoulder")] @ [along, 0, 0]
        assert arm[0] * along > 0  # On its own side.
        assert arm[1] < -0.85  # Down, in the body's frame with y up.


def test_predicted_rotations_are_rotation_matrices():
    rotations = run(build_model(make_config(), rngs=nnx.Rngs(1)), make_images()).rotations
    identity = jnp.einsum("bjki,bjkl->bjil", rotations, rotations)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.det(rotations), 1, atol=1e-5)


def test_bfloat16_keeps_parameters_statistics_and_predictions_in_float32():
    models = {
        dtype: build_model(make_config(dtype=dtype), rngs=nnx.Rngs(0))
        for dtype in ("float32", "bfloat16")
    }
    predictions = {dtype: run(model, make_images()) for dtype, model in models.items()}
    for tree in (nnx.state(models["bfloat16"]), predictions["bfloat16"]):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    jax.tree.map(
        lambda exact, rough: np.testing.assert_allclose(rough, exact, atol=0.02),
        predictions["float32"],
        predictions["bfloat16"],
    )
    difference = predictions["float32"].betas - predictions["bfloat16"].betas
    assert jnp.abs(difference).max() > 0  # It computed in another type.


def test_evaluation_mode_keeps_state_and_treats_each_image_alone():
    model = build_model(make_config(), rngs=nnx.Rngs(0))
    images = make_images(batch=3)
    run(model, images)
    model.eval()
    before = jax.tree.map(jnp.copy, nnx.state(model))
    together, alone = run(model, images), run(model, images[1:2])
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model))
    np.testing.assert_allclose(together.rotations[1:2], alone.rotations, atol=1e-5)


def test_mean_parameters_are_state_but_not_trained():
    model = build_model(make_config(), rngs=nnx.Rngs(0))
    _, params, means, statistics = nnx.split(model, nnx.Param, MeanParameter, nnx.BatchStat)
    assert {path[-1] for path, _ in nnx.to_flat_state(means)} == {
        "mean_pose",
        "mean_betas",
        "mean_camera",
    }
    assert not any("mean" in str(path[-1]) for path, _ in nnx.to_flat_state(params))
    layers = [module for _, module in nnx.iter_modules(model) if isinstance(module, BatchNorm)]
    assert len(nnx.to_flat_state(statistics)) == 2 * len(layers)


def test_a_donated_step_updates_parameters_and_statistics():
    model = build_model(make_config(), rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    images = make_images()

    def step(params, rest, images):
        def loss_of(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            loss = jnp.mean(model(images).betas ** 2)
            return loss, nnx.split(model, nnx.Param, ...)[2]

        (loss, rest_after), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        params = jax.tree.map(lambda value, slope: value - 0.1 * slope, params, gradients)
        return params, rest_after, loss

    step = jax.jit(step, donate_argnums=(0, 1))
    first = jax.tree.map(np.array, rest)
    losses = []
    for _ in range(3):
        params, rest, loss = step(params, rest, images)
        losses.append(float(loss))
    assert losses[0] > losses[1] > losses[2] > 0
    after = nnx.merge(graphdef, params, rest)
    before = nnx.merge(graphdef, params, first)
    assert jnp.abs(after.backbone.bn1.mean[...] - before.backbone.bn1.mean[...]).max() > 0
    np.testing.assert_array_equal(after.heads.mean_pose[...], mean_pose())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "transformer"}, "name.*transformer"),
        ({"backbone": "resnet51"}, "backbone.*resnet51"),
        ({"dtype": "float16"}, "dtype.*float16"),
        ({"branch_features": 0}, "branch_features.*0"),
        ({"backbone": "hrnet_w32", "backbone_width": 3}, "backbone_width.*3"),
        ({"pose_hidden": (8, -1)}, r"pose_hidden\[1\].*-1"),
    ],
)
def test_unknown_names_and_sizes_are_refused(changes, named):
    with pytest.raises(UserError, match=f"config.model.{named}"):
        build_model(make_config(**changes), rngs=nnx.Rngs(0))


def test_the_refusal_lists_every_backbone():
    with pytest.raises(
        UserError, match="resnet18, resnet34, resnet50, resnet101, resnet152, hrnet_w32, hrnet_w48"
    ):
        build_model(make_config(backbone=""), rngs=nnx.Rngs(0))
