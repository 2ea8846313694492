"""Drawn people's squares, compared with the squares of keypoints from files and detectors."""

import numpy as np

from data_pipelines.bodies.draw_bodies import _square
from pare_jax.keypoints.keypoints import SQUARE_SCALE, extent
from pare_jax.keypoints.sets import NUM_BODY_POINTS


def test_the_square_of_a_drawn_person_is_that_of_its_keypoints():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, NUM_BODY_POINTS, 5)).astype(np.float32)
    # All confident; some about the threshold; all unsure.
    rows[..., 2] = np.repeat([[0.4], [0.2], [0.0]], 20, 0) + 0.25 * rng.random(rows.shape[:2])
    rows[rng.random(rows.shape[:2]) < 0.4, 2] = 0.0
    centres, halves = _square(rows)
    for row, centre, half in zip(rows, centres, halves, strict=True):
        low, high = np.split(extent(row[:, :3]), 2)
        np.testing.assert_allclose(centre, (low + high) / 2, atol=1e-5)
        np.testing.assert_allclose(half, SQUARE_SCALE * (high - low).max() / 2, rtol=1e-5)
