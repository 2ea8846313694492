"""Compares metrics with float64 NumPy references, and checks their invariances."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pare_jax import skeleton
from pare_jax.evaluation import metrics, pckh
from pare_jax.evaluation.alignment import angle_of
from tests.evaluation.metric_cases import random_rotations
from tests.evaluation.metric_references import (
    reference_alignment,
    reference_angles,
    reference_auc,
    reference_errors,
    reference_globals,
    reference_pa_mpjpe,
)

MILLIMETRE_TOLERANCE = 1e-3


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def people(rng):
    """Two sets of 2,000 joint clouds of human size, some metres in front of a camera."""
    extent = np.array([0.3, 0.6, 0.2])
    offset = np.array([0.5, -0.2, 40.0])
    pred = rng.normal(size=(2000, 24, 3)) * extent + offset
    true = rng.normal(size=(2000, 24, 3)) * extent + offset
    # From unrelated to nearly perfect.
    true = pred + (true - pred) * rng.uniform(0.001, 1, size=(2000, 1, 1))
    return pred.astype(np.float32), true.astype(np.float32)


def test_position_metrics_agree_with_float64(people):
    pred, true = people
    errors = reference_errors(pred, true)
    counted = errors[:, list(skeleton.PCK_JOINTS)]

    np.testing.assert_allclose(
        metrics.joint_errors(pred, true), errors, atol=MILLIMETRE_TOLERANCE, rtol=0
    )
    np.testing.assert_allclose(
        metrics.mpjpe(pred, true), errors.mean(1), atol=MILLIMETRE_TOLERANCE, rtol=0
    )
    np.testing.assert_allclose(metrics.pck(pred, true), (counted <= 50).mean(1), atol=1e-6)
    np.testing.assert_allclose(
        metrics.pck(pred, true, threshold=150.0), (counted <= 150).mean(1), atol=1e-6
    )
    np.testing.assert_allclose(metrics.auc(pred, true), reference_auc(counted), atol=1e-6)


def test_auc_is_the_challenge_curve(people):
    """Over all people and for one error, where the curve is a step, it is the script's number."""
    errors = reference_errors(*people)[:, list(skeleton.PCK_JOINTS)]
    grid = np.arange(0, 200)
    curve = [(errors <= threshold).mean() for threshold in grid]
    challenge = np.trapezoid(curve, grid / grid.max())
    assert metrics.auc(*people).mean() == pytest.approx(challenge, abs=1e-6)
    # 1 - 50.5 / 200 would be the exact integral up to 200 mm.
    moved = np.zeros((24, 3), np.float32)
    moved[1:, 0] = 0.0505
    area = metrics.auc(moved, np.zeros((24, 3), np.float32))
    assert area == pytest.approx((199 - 50.5) / 199, abs=1e-6)


def test_vertex_error_follows_the_root_of_the_joints(rng):
    vertices = rng.normal(size=(2, 3, 500, 3)).astype(np.float32)
    joints = rng.normal(size=(2, 3, 24, 3)).astype(np.float32)
    moved = vertices + np.float32(0.01)
    root = joints[..., :1, :]
    other = joints + rng.normal(size=(2, 3, 1, 3)).astype(np.float32)
    expected = 1000 * np.linalg.norm(
        (moved - root).astype(np.float64) - (vertices - other[..., :1, :]), axis=-1
    ).mean(-1)

    together = metrics.pve(moved, vertices, joints, joints)
    apart = metrics.pve(moved, vertices, joints, other)

    np.testing.assert_allclose(together, 10 * np.sqrt(3), rtol=1e-4)
    np.testing.assert_allclose(apart, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics.pve(moved - root, vertices - root), together, rtol=1e-4)


def test_aligned_error_agrees_with_float64(people):
    np.testing.assert_allclose(
        metrics.pa_mpjpe(*people), reference_pa_mpjpe(*people), atol=MILLIMETRE_TOLERANCE, rtol=0
    )


def test_procrustes_recovers_the_transform_it_is_given(rng):
    points = rng.normal(size=(4, 5, 24, 3)).astype(np.float32)
    rotation = random_rotations(rng, 4, 5)
    scale = rng.uniform(0.2, 3, size=(4, 5)).astype(np.float32)
    shift = rng.normal(size=(4, 5, 3)).astype(np.float32)
    moved = scale[..., None, None] * points @ np.swapaxes(rotation, -1, -2) + shift[..., None, :]

    found = metrics.procrustes(points, moved)

    np.testing.assert_allclose(found.scale, scale, rtol=1e-5)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-5)
    np.testing.assert_allclose(found.translation, shift, atol=1e-5)
    np.testing.assert_allclose(metrics.pa_mpjpe(points, moved), 0, atol=2e-3)


def test_global_rotations_and_angles_agree_with_float64(rng):
    true = random_rotations(rng, 300, 24)
    # Steps from 1e-6 radians to half a turn, where an arc cosine loses its digits.
    steps = rng.normal(size=(300 * 24, 3))
    angles = 10.0 ** rng.uniform(-6, np.log10(np.pi), size=(300 * 24, 1))
    steps *= angles / np.linalg.norm(steps, axis=1, keepdims=True)
    pred = true.astype(np.float64).reshape(-1, 3, 3) @ Rotation.from_rotvec(steps).as_matrix()
    pred = pred.reshape(true.shape).astype(np.float32)
    parts = list(skeleton.ORIENTATION_PARTS)
    pred_global, true_global = reference_globals(pred), reference_globals(true)
    expected = reference_angles(pred_global[:, parts], true_global[:, parts]).mean(-1)

    np.testing.assert_allclose(metrics.global_rotations(pred), pred_global, atol=1e-6)
    np.testing.assert_allclose(metrics.mpjae(pred, true), expected, atol=1e-3)
    np.testing.assert_allclose(
        metrics.mpjae(pred_global, true_global, parents=None), expected, atol=1e-3
    )


def test_tiny_angles_and_angles_near_half_a_turn_keep_their_digits(rng):
    tiny = np.array([0, 1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.1])
    angles = np.concatenate([tiny, np.pi - tiny])
    true = np.tile(random_rotations(rng).astype(np.float64), (len(angles), 24, 1, 1))
    true = Rotation.from_matrix(true.reshape(-1, 3, 3)).as_matrix().reshape(true.shape)
    turn = Rotation.from_rotvec(angles[:, None] * [0.6, 0.0, 0.8]).as_matrix()
    pred = true @ turn[:, None]
    found = metrics.mpjae(pred, true, parents=None)
    np.testing.assert_allclose(found, np.degrees(angles), rtol=1e-6, atol=1e-12)


def test_angle_of_agrees_with_atan2(rng):
    tiny = 10.0 ** np.linspace(-150, 0, 1001)
    angles = np.concatenate([[0], tiny, np.linspace(0, np.pi, 5001), np.pi - tiny, [np.pi]])
    sine, cosine = np.maximum(np.sin(angles), 0), np.cos(angles)
    # Vectors along the axes, and the zero vector.
    sine, cosine = np.append(sine, [0, 0, 1, 0]), np.append(cosine, [1, -1, 0, 0])
    length = rng.uniform(0.1, 10, sine.shape)
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(angle_of)(length * sine, length * cosine))
        assert np.isnan(angle_of(np.float64(np.nan), np.float64(1)))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.arctan2(sine, cosine), rtol=2e-15)


def test_metrics_only_use_operations_that_accelerators_have_in_float64():
    joints, rotations = np.zeros((2, 24, 3)), np.zeros((2, 24, 3, 3))
    points, weights = np.zeros((2, 25, 2)), np.zeros((2, 25))
    lowered = [
        jax.jit(metrics.mpjpe).lower(joints, joints),
        jax.jit(metrics.pa_mpjpe).lower(joints, joints),
        jax.jit(metrics.pve).lower(joints, joints, joints, joints),
        jax.jit(metrics.pck).lower(joints, joints),
        jax.jit(metrics.auc).lower(joints, joints),
        jax.jit(metrics.mpjae).lower(rotations, rotations),
        jax.jit(metrics.pa_mpjae).lower(rotations, rotations, joints, joints),
        jax.jit(pckh.pckh).lower(points, points, weights, weights[:, 0]),
    ]
    arithmetic = {"add", "subtract", "multiply", "divide", "square", "sqrt", "maximum", "compare"}
    logic = {"and", "or", "not", "is_finite", "select", "convert", "while", "return", "reduce"}
    layout = {"concatenate", "slice", "gather", "reshape", "transpose", "iota", "constant"}
    for program in lowered:
        used = set(re.findall(r"\b(?:stablehlo|chlo)\.(\w+)", program.as_text()))
        assert used <= arithmetic | logic | layout | {"broadcast_in_dim"}


def test_aligned_angles_turn_the_prediction_by_the_procrustes_rotation(rng, people):
    pred_joints, true_joints = (joints[:200] for joints in people)
    pred, true = random_rotations(rng, 200, 24), random_rotations(rng, 200, 24)
    turns = np.stack(
        [reference_alignment(p, t)[1] for p, t in zip(pred_joints, true_joints, strict=True)]
    )
    parts = list(skeleton.ORIENTATION_PARTS)
    turned = turns[:, None] @ reference_globals(pred)[:, parts]
    expected = reference_angles(turned, reference_globals(true)[:, parts]).mean(-1)

    found = metrics.pa_mpjae(pred, true, pred_joints, true_joints)

    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_aligned_angle_of_a_turned_person_is_zero(rng):
    local = random_rotations(rng, 6, 24)
    joints = rng.normal(size=(6, 24, 3)).astype(np.float32)
    turn = random_rotations(rng, 6)
    turned = local.copy()
    turned[:, 0] = turn @ local[:, 0]
    turned_joints = joints @ np.swapaxes(turn, 1, 2)

    assert metrics.mpjae(turned, local).min() > 1
    np.testing.assert_allclose(metrics.pa_mpjae(turned, local, turned_joints, joints), 0, atol=1e-3)


def test_metrics_ignore_what_they_should(people, rng):
    pred, true = (joints[:100] - joints[:100, :1] for joints in people)
    shift = np.array([0.25, -0.5, 2.0], np.float32)
    turned = np.float32(1.7) * pred @ np.swapaxes(random_rotations(rng, 100), 1, 2)

    np.testing.assert_allclose(
        metrics.mpjpe(pred + shift, true), metrics.mpjpe(pred, true), atol=1e-3
    )
    np.testing.assert_allclose(
        metrics.pa_mpjpe(turned + shift, true), metrics.pa_mpjpe(pred, true), atol=2e-3
    )
    assert np.all(metrics.pa_mpjpe(pred, true) > 0)


def test_any_leading_axes_under_jit_and_broadcast(people, rng):
    pred, true = (joints[:12] for joints in people)
    nested_pred, nested_true = (joints.reshape(3, 4, 24, 3) for joints in (pred, true))
    rotations = random_rotations(rng, 12, 24)
    nested_rotations = rotations.reshape(3, 4, 24, 3, 3)

    @jax.jit
    def table(pred, true, rotations):
        return {
            "mpjpe": metrics.mpjpe(pred, true),
            "pa_mpjpe": metrics.pa_mpjpe(pred, true),
            "pve": metrics.pve(pred, true, pred, true),
            "pck": metrics.pck(pred, true),
            "auc": metrics.auc(pred, true),
            "mpjae": metrics.mpjae(rotations, rotations[..., ::-1, :, :]),
            "pa_mpjae": metrics.pa_mpjae(rotations, rotations[..., ::-1, :, :], pred, true),
        }

    flat = table(pred, true, rotations)
    nested = table(nested_pred, nested_true, nested_rotations)
    for name, values in flat.items():
        assert values.shape == (12,), name
        assert values.dtype == jnp.float32, name
        np.testing.assert_allclose(nested[name], values.reshape(3, 4), rtol=1e-5, err_msg=name)
        single = table(pred[0], true[0], rotations[0])[name]
        np.testing.assert_allclose(single, values[0], rtol=1e-5, err_msg=name)
    # One mean pose against many truths, as the mean-pose baseline needs.
    np.testing.assert_allclose(
        metrics.mpjpe(pred[0], true), reference_errors(pred[:1], true).mean(-1), rtol=1e-5
    )
    np.testing.assert_allclose(
        metrics.pa_mpjpe(pred[0], true),
        reference_pa_mpjpe(np.repeat(pred[:1], 12, 0), true),
        rtol=1e-5,
    )


def test_the_callers_precision_does_not_change(people):
    metrics.pa_mpjpe(*people)
    assert jnp.arange(3.0).dtype == jnp.float32


def test_nan_predictions_have_nan_errors(people):
    pred, true = (joints[:12].copy() for joints in people)
    pred[3, 4, 1] = np.nan
    for metric in (metrics.mpjpe, metrics.pa_mpjpe, metrics.pck, metrics.auc):
        values = np.asarray(metric(pred, true))
        assert np.isnan(values[3]), metric
        assert np.isfinite(np.delete(values, 3)).all(), metric


def test_shapes_that_do_not_match_are_refused():
    joints = np.zeros((2, 24, 3))
    with pytest.raises(ValueError, match=r"\(2, 14, 3\)"):
        metrics.mpjpe(joints, joints[:, :14])
    with pytest.raises(ValueError, match="joint 21"):
        metrics.pck(joints[:, :14], joints[:, :14])
    with pytest.raises(ValueError, match="joints of both"):
        metrics.pve(joints, joints, joints)
    with pytest.raises(ValueError, match="24, 3, 3"):
        metrics.mpjae(np.zeros((9, 3, 3)), np.zeros((9, 3, 3)))
