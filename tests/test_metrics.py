"""Metrics against float64 numpy references written from the definitions, and their invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pare_jax import metrics, protocols, skeleton
from tests.metric_references import (
    has_one_best_turn,
    reference_alignment,
    reference_angles,
    reference_errors,
    reference_globals,
    reference_pa_mpjpe,
)

MILLIMETRE_TOLERANCE = 1e-3


def random_rotations(rng, *shape):
    matrices = Rotation.random(int(np.prod(shape)), random_state=rng).as_matrix()
    return matrices.reshape(*shape, 3, 3).astype(np.float32)


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
    # From hopeless to nearly perfect.
    true = pred + (true - pred) * rng.uniform(0.001, 1, size=(2000, 1, 1))
    return pred.astype(np.float32), true.astype(np.float32)


def test_position_metrics_agree_with_float64(people):
    pred, true = people
    errors = reference_errors(pred, true)
    counted = errors[:, list(skeleton.PCK_JOINTS)]
    grid = np.linspace(0, 200, 20001)
    curve = np.stack([np.trapezoid((e[:, None] <= grid).mean(0), grid) / 200 for e in counted[:50]])

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
    np.testing.assert_allclose(metrics.auc(pred, true)[:50], curve, atol=1e-4)


def test_auc_is_the_challenge_curve_within_its_grid(people):
    errors = reference_errors(*people)[:, list(skeleton.PCK_JOINTS)]
    grid = np.arange(0, 200)
    curve = [(errors <= threshold).mean() for threshold in grid]
    challenge = np.trapezoid(curve, grid / grid.max())
    assert metrics.auc(*people).mean() == pytest.approx(challenge, abs=0.003)


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


def _degenerate(rng, kind, joints=24):
    """1,000 pairs of clouds that single precision or a careless formula gets wrong."""
    shape = (1000, joints, 3)
    pred = rng.normal(size=shape) * (0.3, 0.6, 0.2)
    true = pred + 0.05 * rng.normal(size=shape)
    size = 10.0 ** rng.uniform(-8, -2, size=(1000, 1, 1))
    line = rng.normal(size=(1000, joints, 1)) * rng.normal(size=(1000, 1, 3))
    if kind == "unrelated":
        true = rng.normal(size=shape)
    elif kind == "mirrored":
        pred = true * (-1.0, 1.0, 1.0) + 0.01 * rng.normal(size=shape)
    elif kind == "isotropic and mirrored":
        pred = rng.normal(size=shape)
        true = -pred + 0.01 * rng.normal(size=shape)
    elif kind == "nearly collinear prediction":
        pred = line + size * rng.normal(size=shape)
    elif kind == "nearly collinear truth":
        true = line + size * rng.normal(size=shape)
    elif kind == "collinear prediction":
        pred = line
    elif kind == "collinear truth":
        true = line
    elif kind == "both collinear":
        pred, true = line, rng.normal(size=(1000, 1, 1)) * line[::-1]
    elif kind == "joints in two places":
        pred[:, 1:] = pred[:, 1:2]
    elif kind == "nearly flat prediction":
        pred[..., 2] *= size[..., 0]
    elif kind == "tiny prediction":
        pred = pred * size**2
    elif kind == "tiny prediction far away":
        pred = pred * size + (1.0, 2.0, 50.0)
    elif kind == "prediction in one place":
        pred = np.full(shape, (0.1, 0.2, 30.3))
    elif kind == "zero prediction":
        pred = np.zeros(shape)
    elif kind == "truth in one place":
        true = np.full(shape, (0.1, 0.2, 30.3))
    elif kind == "equal":
        pred = true
    return pred.astype(np.float32), true.astype(np.float32)


KINDS = (
    "noisy",
    "unrelated",
    "mirrored",
    "isotropic and mirrored",
    "collinear prediction",
    "collinear truth",
    "both collinear",
    "joints in two places",
    "nearly collinear prediction",
    "nearly collinear truth",
    "nearly flat prediction",
    "tiny prediction",
    "tiny prediction far away",
    "prediction in one place",
    "zero prediction",
    "truth in one place",
    "equal",
)
WITHOUT_ONE_BEST_TURN = (
    "collinear prediction",
    "collinear truth",
    "both collinear",
    "joints in two places",
    "nearly collinear prediction",
    "nearly collinear truth",
    "tiny prediction far away",  # rounded to float32, some of these are lines
)
# The 24 joints of smpl24, and the 14 of j14, whose root is not among them.
JOINT_SETS = {
    24: {"root": 0, "limbs": skeleton.PCK_JOINTS},
    14: {"root": None, "limbs": protocols.j14(np.zeros((17, 3))).pck_joints},
}


@pytest.mark.parametrize("joints", JOINT_SETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_agrees_with_float64(rng, kind, joints):
    pred, true = _degenerate(rng, kind, joints)
    root, limbs = JOINT_SETS[joints]["root"], JOINT_SETS[joints]["limbs"]
    errors = reference_errors(pred, true, root)
    counted = errors[:, list(limbs)]
    # A joint within a hair of the threshold may fall on either side.
    sure = (np.abs(counted - 50) > MILLIMETRE_TOLERANCE).all(1)
    # Beyond 16 m that is finer than float32, in which values are returned.
    close = {"atol": MILLIMETRE_TOLERANCE, "rtol": 1e-7}

    np.testing.assert_allclose(metrics.joint_errors(pred, true, root=root), errors, **close)
    np.testing.assert_allclose(metrics.mpjpe(pred, true, root=root), errors.mean(1), **close)
    np.testing.assert_allclose(
        metrics.pa_mpjpe(pred, true), reference_pa_mpjpe(pred, true), **close
    )
    pck = metrics.pck(pred, true, joints=limbs, root=root)
    np.testing.assert_allclose(pck[sure], (counted <= 50).mean(1)[sure], atol=1e-6)
    auc = metrics.auc(pred, true, joints=limbs, root=root)
    np.testing.assert_allclose(auc, np.maximum(0, 1 - counted / 200).mean(1), atol=1e-6)


@pytest.mark.parametrize("joints", JOINT_SETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_angle_agrees_with_float64(rng, kind, joints):
    pred_joints, true_joints = _degenerate(rng, kind, joints)
    pred, true = random_rotations(rng, 1000, 24), random_rotations(rng, 1000, 24)
    pred[:100] = np.eye(3)  # the pose of all zeros
    parts = list(skeleton.ORIENTATION_PARTS)
    pred_parts, true_parts = reference_globals(pred)[:, parts], reference_globals(true)[:, parts]
    turns = [reference_alignment(p, t)[1] for p, t in zip(pred_joints, true_joints, strict=True)]
    aligned = reference_angles(np.stack(turns)[:, None] @ pred_parts, true_parts).mean(-1)

    plain = reference_angles(pred_parts, true_parts).mean(-1)
    np.testing.assert_allclose(metrics.mpjae(pred, true), plain, atol=1e-3, rtol=0)
    found = metrics.pa_mpjae(pred, true, pred_joints, true_joints)
    one_best = has_one_best_turn(pred_joints, true_joints)
    np.testing.assert_allclose(found[one_best], aligned[one_best], atol=1e-3, rtol=0)
    assert one_best.all() or kind in WITHOUT_ONE_BEST_TURN


@pytest.mark.parametrize("kind", ["noisy", "mirrored", "zero prediction", "truth in one place"])
def test_vertex_errors_of_thousands_agree_with_float64(rng, kind):
    pred, true = _degenerate(rng, kind, 90)
    pred_joints, true_joints = _degenerate(rng, kind)
    moved = pred.astype(np.float64) - pred_joints[:, :1]
    moved -= true.astype(np.float64) - true_joints[:, :1]
    np.testing.assert_allclose(
        metrics.pve(pred, true, pred_joints, true_joints),
        1000 * np.linalg.norm(moved, axis=-1).mean(-1),
        atol=MILLIMETRE_TOLERANCE,
        rtol=0,
    )


@pytest.mark.parametrize("kind", ["mirrored", "nearly collinear truth", "zero prediction"])
def test_procrustes_yields_a_rotation(rng, kind):
    rotation = np.asarray(metrics.procrustes(*_degenerate(rng, kind)).rotation)
    identity = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, 1, 2), identity, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-6)


def test_exact_lines_and_mirror_images_have_the_least_squares_of_any_alignment(rng):
    # Many rotations are equally good here, so only the sum they minimise is comparable.
    line = rng.normal(size=(50, 24, 1)) * rng.normal(size=(50, 1, 3))
    octahedron = np.concatenate([np.eye(3), -np.eye(3)])[None].repeat(50, 0)
    for pred, true in [
        (line, rng.normal(size=(50, 24, 3))),
        (line, line[::-1].copy()),
        (octahedron[:, :, [1, 0, 2]], octahedron * (1.0, 1.0, -1.0)),
    ]:
        pred, true = pred.astype(np.float32), true.astype(np.float32)
        fit = metrics.procrustes(pred, true)
        moved = np.asarray(fit.scale)[:, None, None] * pred @ np.swapaxes(fit.rotation, 1, 2)
        residual = ((moved + np.asarray(fit.translation)[:, None] - true) ** 2).sum((1, 2))
        best = [
            ((reference_alignment(p, t)[0] - t) ** 2).sum() for p, t in zip(pred, true, strict=True)
        ]
        np.testing.assert_allclose(residual, best, atol=1e-4)


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


def reference_pckh(pred, true, known, head_size):
    """One person at a time, as the evaluation code of MPII describes it."""
    shares = []
    for p, t, k, head in zip(pred, true, known, head_size, strict=True):
        joints = [joint for joint in skeleton.PCKH_JOINTS if k[joint] > 0 and head > 0]
        right = [
            np.hypot(*(p[joint].astype(np.float64) - t[joint])) / head <= 0.5 for joint in joints
        ]
        shares.append(np.mean(right) if joints else np.nan)
    return np.array(shares)


@pytest.fixture
def pictures(rng):
    """Joints of 2,000 people in a photograph's pixels, with what is known of them."""
    true = rng.uniform(0, 1000, size=(2000, 24, 2)).astype(np.float32)
    head_size = rng.uniform(20, 200, size=2000).astype(np.float32)
    error = rng.normal(size=true.shape) * head_size[:, None, None] * 0.45
    known = (rng.uniform(size=(2000, 24)) > 0.3).astype(np.float32)
    known[:10] = 0
    head_size[5:20] = 0
    return (true + error).astype(np.float32), true, known, head_size


def test_pckh_agrees_with_float64(pictures):
    expected = reference_pckh(*pictures)
    assert 0.3 < np.nanmean(expected) < 0.7
    assert np.isnan(expected[:20]).all()
    found = metrics.pckh(*pictures)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(metrics.pckh)(*pictures), expected, atol=1e-6)


def test_pckh_is_the_same_in_any_crop(pictures):
    pred, true, known, head_size = (part.astype(np.float64) for part in pictures)
    turn = Rotation.from_rotvec([0, 0, 0.7]).as_matrix()[:2, :2]
    zoom, shift = 0.0123, np.array([3.0, -8.0])
    moved = metrics.pckh(
        zoom * pred @ turn + shift, zoom * true @ turn + shift, known, zoom * head_size
    )
    np.testing.assert_allclose(moved, metrics.pckh(*pictures), atol=1e-6)


def test_pckh_counts_the_threshold_in_and_answers_that_are_no_numbers_not_at_all():
    true = np.zeros((4, 24, 2))
    pred = np.zeros((4, 24, 2))
    pred[0, 7, 0] = 10.0
    pred[1, 7, 1] = 10.0001
    pred[2, 7] = np.nan
    pred[3, 0] = np.nan  # the pelvis, which does not count
    found = metrics.pckh(pred, true, np.ones((4, 24)), np.full(4, 20.0))
    np.testing.assert_allclose(found, [1, 12 / 13, np.nan, 1], rtol=1e-6)
    wider = metrics.pckh(pred, true, np.ones((4, 24)), np.full(4, 20.0), threshold=0.6)
    np.testing.assert_allclose(wider, [1, 1, np.nan, 1])
    with pytest.raises(ValueError, match="point sets"):
        metrics.pckh(np.zeros((4, 24, 3)), np.zeros((4, 24, 3)), np.ones((4, 24)), np.ones(4))


def test_global_rotations_and_angles_agree_with_float64(rng):
    true = random_rotations(rng, 300, 24)
    # Steps from almost nothing to half a turn, where an arc cosine would lose its digits.
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


def test_angles_near_half_a_turn(rng):
    true = np.tile(np.eye(3), (7, 24, 1, 1))
    pred = true.copy()
    angles = np.pi - np.array([0, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.1])
    pred[:, 0] = Rotation.from_rotvec(angles[:, None] * [0.6, 0.0, 0.8]).as_matrix()
    # All nine parts inherit the root's turn.
    np.testing.assert_allclose(metrics.mpjae(pred, true), np.degrees(angles), atol=1e-4)


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
    # One constant answer against many truths, as the best constant's error needs.
    np.testing.assert_allclose(
        metrics.mpjpe(pred[0], true), reference_errors(pred[:1], true).mean(-1), rtol=1e-5
    )
    np.testing.assert_allclose(
        metrics.pa_mpjpe(pred[0], true),
        reference_pa_mpjpe(np.repeat(pred[:1], 12, 0), true),
        rtol=1e-5,
    )


def test_precision_of_the_caller_stays_as_it_is(people):
    metrics.pa_mpjpe(*people)
    assert jnp.arange(3.0).dtype == jnp.float32


def test_not_a_number_stays_visible(people):
    pred, true = (joints[:12].copy() for joints in people)
    pred[3, 4, 1] = np.nan
    for metric in (metrics.mpjpe, metrics.pa_mpjpe, metrics.pck, metrics.auc):
        values = np.asarray(metric(pred, true))
        assert np.isnan(values[3]), metric
        assert np.isfinite(np.delete(values, 3)).all(), metric


def test_sets_that_do_not_match_are_refused():
    joints = np.zeros((2, 24, 3))
    with pytest.raises(ValueError, match=r"\(2, 14, 3\)"):
        metrics.mpjpe(joints, joints[:, :14])
    with pytest.raises(ValueError, match="joint 21"):
        metrics.pck(joints[:, :14], joints[:, :14])
    with pytest.raises(ValueError, match="joints of both"):
        metrics.pve(joints, joints, joints)
    with pytest.raises(ValueError, match="24, 3, 3"):
        metrics.mpjae(np.zeros((9, 3, 3)), np.zeros((9, 3, 3)))
