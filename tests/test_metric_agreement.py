"""Metrics against float64 references on thousands of pairs, degenerate ones above all."""

import numpy as np
import pytest

from pare_jax import metrics, protocols, skeleton
from tests.metric_cases import KINDS, WITHOUT_ONE_BEST_TURN, degenerate, random_rotations
from tests.metric_references import (
    has_one_best_turn,
    reference_alignment,
    reference_angles,
    reference_errors,
    reference_globals,
    reference_pa_mpjpe,
)

MILLIMETRE_TOLERANCE = 1e-3


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# The 24 joints of smpl24, and the 14 of j14, whose root is not among them.
JOINT_SETS = {
    24: {"root": 0, "limbs": skeleton.PCK_JOINTS},
    14: {"root": None, "limbs": protocols.j14(np.zeros((17, 3))).pck_joints},
}


@pytest.mark.parametrize("joints", JOINT_SETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_agrees_with_float64(rng, kind, joints):
    pred, true = degenerate(rng, kind, joints)
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
    pred_joints, true_joints = degenerate(rng, kind, joints)
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
    pred, true = degenerate(rng, kind, 90)
    pred_joints, true_joints = degenerate(rng, kind)
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
    rotation = np.asarray(metrics.procrustes(*degenerate(rng, kind)).rotation)
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
