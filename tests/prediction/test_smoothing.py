"""The 1-euro filters, robust shapes, and smoothing of whole tracks and frame by frame."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pare_jax.prediction import smoothing
from pare_jax.prediction.smoothing import (
    CameraFilter,
    Motion,
    MotionSmoother,
    RotationFilter,
    Smoothing,
    VectorFilter,
    robust_shape,
    smooth_motion,
)

CUTOFFS = (1.5, 0.7)


def filtered(make, values, rate=25.0):
    one = make(*CUTOFFS)
    return np.stack([one(number / rate, value) for number, value in enumerate(values)])


def shaking(frames=150, noise=0.05, seed=0):
    """Return noisy and true rotations of two swinging joints."""
    rng = np.random.default_rng(seed)
    angle = 0.5 * np.sin(2 * np.pi * 0.9 * np.arange(frames) / 25.0)
    true = Rotation.from_rotvec(np.stack([angle, 0 * angle, 0.3 * angle], -1).repeat(2, 0))
    noisy = true * Rotation.from_rotvec(rng.normal(0, noise, (2 * frames, 3)))
    return noisy.as_matrix().reshape(-1, 2, 3, 3), true.as_matrix().reshape(-1, 2, 3, 3)


def angle_between(a, b):
    relative = np.swapaxes(a, -1, -2) @ b
    return np.linalg.norm(
        Rotation.from_matrix(relative.reshape(-1, 3, 3)).as_rotvec(), axis=-1
    ).reshape(a.shape[:-2])


def jitter(rotations):
    """Return the mean change from one step to the next, radians."""
    steps = np.swapaxes(rotations[:-1], -1, -2) @ rotations[1:]
    return angle_between(steps[:-1], steps[1:]).mean()


def test_constant_input_is_unchanged():
    vector = np.array([[1.0, -2.0, 3.0]])
    np.testing.assert_allclose(filtered(VectorFilter, [vector] * 20), [vector] * 20)
    rotation = Rotation.random(3, rng=np.random.default_rng(0)).as_matrix()
    np.testing.assert_allclose(filtered(RotationFilter, [rotation] * 20), [rotation] * 20)


def test_vectors_follow_the_papers_formulas():
    """One number is filtered as in the paper's Algorithm 1."""
    values = np.random.default_rng(0).normal(size=30).cumsum()
    (min_cutoff, beta), rate = CUTOFFS, 25.0

    def alpha(cutoff):
        return 1.0 / (1.0 + rate / (2 * np.pi * cutoff))

    expected, speed = [values[0]], 0.0
    for value in values[1:]:
        speed = alpha(1.0) * (value - expected[-1]) * rate + (1 - alpha(1.0)) * speed
        share = alpha(min_cutoff + beta * abs(speed))
        expected.append(share * value + (1 - share) * expected[-1])
    np.testing.assert_allclose(filtered(VectorFilter, values[:, None])[:, 0], expected)


def test_rotations_about_one_axis_are_filtered_like_their_angle():
    angles = 0.2 * np.random.default_rng(1).normal(size=40).cumsum()
    rotations = Rotation.from_rotvec(angles[:, None] * [0, 0, 1.0]).as_matrix()[:, None]
    smooth = Rotation.from_matrix(filtered(RotationFilter, rotations)[:, 0]).as_rotvec()
    expected = filtered(VectorFilter, angles[:, None])[:, 0]
    np.testing.assert_allclose(np.exp(1j * smooth[:, 2]), np.exp(1j * expected), atol=1e-9)


def test_noise_is_reduced_and_the_lag_is_bounded():
    noisy, true = shaking()
    smooth = filtered(RotationFilter, noisy)
    assert jitter(smooth) < 0.4 * jitter(noisy)
    # Without noise the result lags at most 2 frames behind the swing.
    clean = filtered(RotationFilter, true)
    lag = [angle_between(clean[30:], true[30 - d : len(true) - d]).mean() for d in range(6)]
    assert np.argmin(lag) <= 2
    assert angle_between(clean, true).max() < 0.25


def test_the_result_does_not_depend_on_the_rotations_frame():
    noisy, _ = shaking()
    turn, offset = Rotation.random(2, rng=np.random.default_rng(2)).as_matrix()
    smooth = filtered(RotationFilter, noisy)
    np.testing.assert_allclose(filtered(RotationFilter, turn @ noisy), turn @ smooth, atol=1e-9)
    np.testing.assert_allclose(filtered(RotationFilter, noisy @ offset), smooth @ offset, atol=1e-9)
    np.testing.assert_allclose(
        smooth @ np.swapaxes(smooth, -1, -2), np.eye(3) + 0 * smooth, atol=1e-9
    )


def test_the_frame_rate_changes_little():
    """The same motion, sampled twice as often, gives nearly the same result."""

    def swing(rate):
        time = np.arange(int(4 * rate)) / rate
        return filtered(VectorFilter, np.sin(2 * np.pi * 0.5 * time)[:, None], rate)[:, 0]

    np.testing.assert_allclose(swing(100.0)[::2], swing(50.0), atol=0.04)


def test_the_filter_restarts_after_a_long_gap():
    one = VectorFilter(*CUTOFFS)
    one(0.0, np.array([0.0]))
    assert 0 < one(0.04, np.array([1.0]))[0] < 1
    assert one(3.0, np.array([7.0]))[0] == 7.0
    with pytest.raises(ValueError, match=r"time 3\.0"):
        one(3.0, np.array([7.0]))


def test_the_translation_does_not_jump_with_the_crop():
    """A body at rest, with a focal length and a principal point that change in every frame."""
    rng = np.random.default_rng(0)
    camera = CameraFilter(*CUTOFFS)
    point, scale = np.array([420.0, 300.0]), 150.0  # pixels, and pixels a metre
    for number in range(30):
        focal, middle = rng.uniform(3000, 6000), rng.uniform(200, 600, 2)
        depth = focal / scale
        true = np.array([*((point - middle) * depth / focal), depth])
        np.testing.assert_allclose(camera(number / 25, true, focal, middle), true, rtol=1e-9)


@pytest.mark.parametrize("depth", [-4.0, 0.0, np.nan, np.inf])
def test_a_body_behind_the_camera_is_no_observation(depth):
    """It keeps its last place, also for another crop's camera, and the next frame continues."""
    camera, reference = CameraFilter(*CUTOFFS), CameraFilter(*CUTOFFS)
    odd, middle = np.array([0.1, 0.2, depth]), np.array([200.0, 150.0])
    np.testing.assert_array_equal(camera(0.0, odd, 1000.0, middle), odd)
    for time, x in ((0.04, 0.0), (0.08, 0.3)):
        seen = [one(time, np.array([x, 0.1, 5.0]), 1000.0, middle) for one in (camera, reference)]
        np.testing.assert_array_equal(*seen)
    held = camera(0.12, odd, 2000.0, middle + 10)
    np.testing.assert_allclose(2000.0 / held[2], 1000.0 / seen[0][2])
    np.testing.assert_allclose(
        middle + 10 + held[:2] * 2000.0 / held[2], middle + seen[0][:2] * 1000.0 / seen[0][2]
    )
    after = [one(0.16, np.array([0.3, 0.1, 5.1]), 1000.0, middle) for one in (camera, reference)]
    np.testing.assert_array_equal(*after)


def test_shape_is_robust_and_weighted():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=10)
    betas = truth + rng.normal(0, 0.1, (60, 10))
    betas[::10] += 5.0  # a tenth is far off
    assert np.abs(robust_shape(betas) - truth).max() < 0.2
    assert np.abs(betas.mean(0) - truth).max() > 0.4
    scores = np.zeros(60)
    scores[7] = 1.0
    np.testing.assert_allclose(robust_shape(betas, scores), betas[7])
    np.testing.assert_allclose(robust_shape(betas[:1]), betas[0])
    given = np.full(60, np.nan)  # boxes from the user have full weight
    np.testing.assert_array_equal(robust_shape(betas, given), robust_shape(betas))
    np.testing.assert_allclose(robust_shape(np.tile(truth, (5, 1))), truth)


def motion(frames=40):
    rng = np.random.default_rng(0)
    rotations, _ = shaking(frames * 12)
    return Motion(
        times=np.arange(frames) / 25,
        rotations=rotations.reshape(frames, 24, 3, 3),
        betas=rng.normal(size=(frames, 10)),
        translations=rng.normal((0.0, 0.0, 5.0), 0.05, (frames, 3)),
        focal_lengths=np.full(frames, 1000.0),
        principal_points=np.full((frames, 2), 200.0),
        scores=np.ones(frames),
    )


@pytest.mark.parametrize("off", ["rotations", "shape", "camera"])
def test_each_part_can_be_switched_off(off):
    before = motion()
    after = smooth_motion(before, dataclasses.replace(Smoothing(), **{off: False}))
    changed = {
        "rotations": not np.array_equal(after.rotations, before.rotations),
        "shape": not np.array_equal(after.betas, before.betas),
        "camera": not np.array_equal(after.translations, before.translations),
    }
    assert changed == {name: name != off for name in changed}


def test_frame_by_frame_equals_the_whole_track_except_for_the_shape():
    before = motion()
    after = smooth_motion(before)
    assert (after.betas == after.betas[0]).all()
    smoother = MotionSmoother()
    for index, time in enumerate(before.times):
        rotations, betas, translation = smoother(
            time,
            before.rotations[index],
            before.betas[index],
            before.translations[index],
            before.focal_lengths[index],
            before.principal_points[index],
        )
        np.testing.assert_array_equal(rotations, after.rotations[index])
        np.testing.assert_array_equal(translation, after.translations[index])
    np.testing.assert_allclose(betas, after.betas[0])


def test_the_shape_so_far_uses_spread_frames_at_a_bounded_cost(monkeypatch):
    betas = np.random.default_rng(0).normal(size=(5000, 10)) + 3.0
    lengths = []
    fit = smoothing.robust_shape
    monkeypatch.setattr(
        smoothing,
        "robust_shape",
        lambda betas, scores: lengths.append(len(betas)) or fit(betas, scores),
    )
    smoother = MotionSmoother(Smoothing(rotations=False, camera=False))
    at_rest = np.eye(3)[None].repeat(24, 0), np.zeros(3), 1000.0, np.zeros(2)
    after = np.stack(
        [smoother(n / 15, at_rest[0], one, *at_rest[1:], 0.9)[1] for n, one in enumerate(betas)]
    )
    first = [fit(betas[: number + 1]) for number in range(100)]
    np.testing.assert_allclose(after[:100], first, rtol=1e-12)
    assert max(lengths) <= 128
    assert len(lengths) < 600  # of 5000 frames
    # The last shape is that of every 64th frame, from the first to the last.
    kept = betas[:5000:64]
    assert len(kept) > 64
    np.testing.assert_allclose(after[-1], fit(kept), rtol=1e-12)
    np.testing.assert_allclose(after[-1], 3.0, atol=0.5)
    assert np.abs(np.diff(after[-2000:], axis=0)).max() < 0.25
