"""Compares metrics with float64 references on thousands of pairs, most of them degenerate."""

import numpy as np
import pytest

from pare_jax import skeleton
from pare_jax.evaluation import metrics, protocols
from tests.evaluation.metric_cases import KINDS, WITHOUT_ONE_BEST_TURN, degenerate, random_rotations
from tests.evaluation.metric_references import (
    Bodies,
    reference_alignment,
    reference_errors,
    reference_table,
)

MILLIMETRE_TOLERANCE = 1e-3


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# The 24 joints of smpl24, and the 14 of j14, which do not include their root.
JOINT_SETS = {
    24: {"root": 0, "limbs": skeleton.PCK_JOINTS},
    14: {"root": None, "limbs": protocols.j14(np.zeros((17, 3))).pck_joints},
}


@pytest.mark.parametrize("joints", JOINT_SETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_agrees_with_float64(rng, kind, joints):
    pred, true = degenerate(rng, kind, joints)
    root, limbs = JOINT_SETS[joints]["root"], JOINT_SETS[joints]["limbs"]
    wanted = reference_table(Bodies(pred), Bodies(true), root, limbs)
    errors = reference_errors(pred, true, root)
    # Rounding may put a joint at the threshold on either side.
    sure = (np.abs(errors[:, list(limbs)] - 50) > MILLIMETRE_TOLERANCE).all(1)
    # Errors above 16 m need a relative tolerance, because results are float32.
    close = {"atol": MILLIMETRE_TOLERANCE, "rtol": 1e-7}

    np.testing.assert_allclose(metrics.joint_errors(pred, true, root=root), errors, **close)
    np.testing.assert_allclose(metrics.mpjpe(pred, true, root=root), wanted["MPJPE"], **close)
    np.testing.assert_allclose(metrics.pa_mpjpe(pred, true), wanted["PA-MPJPE"], **close)
    pck = metrics.pck(pred, true, joints=limbs, root=root)
    np.testing.assert_allclose(pck[sure], wanted["PCK@50"][sure], atol=1e-6)
    auc = metrics.auc(pred, true, joints=limbs, root=root)
    np.testing.assert_allclose(auc, wanted["AUC"], atol=1e-6)


@pytest.mark.parametrize("joints", JOINT_SETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_angle_agrees_with_float64(rng, kind, joints):
    pred_joints, true_joints = degenerate(rng, kind, joints)
    pred, true = random_rotations(rng, 1000, 24), random_rotations(rng, 1000, 24)
    pred[:100] = np.eye(3)  # the pose of all zeros
    wanted = reference_table(Bodies(pred_joints, pred), Bodies(true_joints, true), limbs=(0,))
    np.testing.assert_allclose(metrics.mpjae(pred, true), wanted["MPJAE"], atol=1e-3, rtol=0)
    found = metrics.pa_mpjae(pred, true, pred_joints, true_joints)
    one_best = np.isfinite(wanted["PA-MPJAE"])
    np.testing.assert_allclose(found[one_best], wanted["PA-MPJAE"][one_best], atol=1e-3, rtol=0)
    assert one_best.all() or kind in WITHOUT_ONE_BEST_TURN


@pytest.mark.parametrize("kind", ["noisy", "mirrored", "zero prediction", "truth in one place"])
def test_vertex_errors_of_thousands_agree_with_float64(rng, kind):
    pred, true = degenerate(rng, kind, 90)
    pred_joints, true_joints = degenerate(rng, kind)
    wanted = reference_table(Bodies(pred_joints, None, pred), Bodies(true_joints, None, true))
    np.testing.assert_allclose(
        metrics.pve(pred, true, pred_joints, true_joints),
        wanted["PVE"],
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
    # Many rotations are equally good here, so only the minimised sum can be compared.
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
