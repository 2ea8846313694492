"""The decision: better only beyond chance, never with a measure that got worse."""

import numpy as np
import pytest

from pare_jax.finetuning.comparison import badness, compare


def errors(missed, pa_mpjpe: float | np.ndarray = np.nan, mpjpe=np.nan):
    missed = np.asarray(missed, float)
    return {
        "missed": missed,
        "mpjpe": np.broadcast_to(mpjpe, missed.shape).astype(float),
        "pa_mpjpe": np.broadcast_to(pa_mpjpe, missed.shape).astype(float),
    }


GROUPS = [f"photograph {number}" for number in range(8)]
BEFORE = np.array([50.0, 40, 60, 30, 70, 20, 45, 55])


def test_a_gain_for_everybody_is_better_and_the_best_step_is_named():
    found = compare(errors(BEFORE), {10: errors(BEFORE - 5), 20: errors(BEFORE - 9)}, GROUPS)
    assert found.is_better
    assert found.step == 20
    (change,) = found.changes
    # One flip of 2^8 is as good.
    assert change.chance == pytest.approx(2**-8)


def test_people_of_one_clip_count_as_one():
    clip = ["clip"] * 8
    assert not compare(errors(BEFORE), {10: errors(BEFORE - 9)}, clip).is_better


def test_no_change_is_not_better():
    assert not compare(errors(BEFORE), {10: errors(BEFORE)}, GROUPS).is_better


def test_a_gain_in_2d_with_a_loss_in_3d_is_not_better():
    before, after = errors(BEFORE, pa_mpjpe=60.0), errors(BEFORE - 9, pa_mpjpe=61.0)
    found = compare(before, {10: after}, GROUPS)
    assert not found.is_better
    assert "PA-MPJPE" in found.reason


def test_an_evaluation_without_a_loss_is_chosen_before_a_larger_gain_with_one():
    before = errors(BEFORE, pa_mpjpe=60.0)
    good, mixed = errors(BEFORE - 5, pa_mpjpe=59.0), errors(BEFORE - 19, pa_mpjpe=61.0)
    assert badness(before, good) < badness(before, mixed)
    assert compare(before, {10: mixed, 20: good}, GROUPS).step == 20


def test_the_best_of_many_evaluations_of_noise_is_rarely_better():
    """Choosing among twenty noisy evaluations must not turn chance into a gain."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(100):
        evaluations = {step: errors(BEFORE + rng.normal(0, 3, 8)) for step in range(1, 21)}
        wrong += compare(errors(BEFORE), evaluations, GROUPS).is_better
    assert wrong <= 12


def test_a_prediction_that_is_not_finite_is_worse():
    after = errors(BEFORE - 9, pa_mpjpe=np.array([np.inf] + [50.0] * 7))
    assert not compare(errors(BEFORE, pa_mpjpe=60.0), {10: after}, GROUPS).is_better
