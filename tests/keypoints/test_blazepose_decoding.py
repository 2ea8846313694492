"""Decoding BlazePose's outputs, on made-up ones."""

import numpy as np

from pare_jax.keypoints.blazepose_decoding import (
    DETECTOR_SIDE,
    anchors,
    decode_landmarks,
    decode_people,
    refine,
)


def logit(share):
    return np.log(share / (1 - share))


def test_anchors_are_the_cells_of_three_strides_row_by_row():
    found = anchors()
    assert found.shape == (28 * 28 * 2 + 14 * 14 * 2 + 7 * 7 * 6, 2)
    np.testing.assert_allclose(found[:3] * 28, [[0.5, 0.5], [0.5, 0.5], [1.5, 0.5]])
    np.testing.assert_allclose(found[28 * 28 * 2 + 28] * 14, [0.5, 1.5])
    np.testing.assert_allclose(found[-1] * 7, [6.5, 6.5])


def test_people_are_decoded_from_offsets_to_their_anchors():
    rows, logits = np.zeros((2254, 12)), np.full((2254, 1), -20.0)
    number = 2254 - 6  # the last cell of stride 32
    rows[number] = [11.2, -11.2, 22.4, 44.8, 0, 22.4, 0, -22.4, 1, 2, 3, 4]
    logits[number] = logit(0.8)
    logits[5] = logit(0.3)
    found = decode_people(rows, logits, 0.5)
    np.testing.assert_allclose(found.scores, [0.8])
    x, y = np.array([208.0, 208.0]) / DETECTOR_SIDE
    np.testing.assert_allclose(found.boxes[0], [x, y - 0.15, x + 0.1, y + 0.05])
    np.testing.assert_allclose(found.points[0, :2], [[x, y + 0.1], [x, y - 0.1]])


def test_answers_about_one_person_are_averaged_by_their_scores():
    rows, logits = np.zeros((2254, 12)), np.full(2254, -20.0)
    # Two anchors of one cell, and one of a distant cell.
    rows[[0, 1, 2000], 2:4] = 40.0
    rows[0, 4], rows[1, 4] = 10.0, 30.0
    logits[[0, 1, 2000]] = logit(np.array([0.6, 0.9, 0.7]))
    found = decode_people(rows, logits, 0.5)
    np.testing.assert_allclose(found.scores, [0.9, 0.7])
    offset = (found.points[0, 0, 0] - anchors()[0, 0]) * DETECTOR_SIDE
    assert np.isclose(offset, (0.6 * 10 + 0.9 * 30) / 1.5)
    assert decode_people(rows, logits, 0.95).points.shape == (0, 4, 2)


def test_landmarks_have_places_confidence_and_world_points():
    values = np.zeros((39, 5))
    values[7] = [64, 128, 5, logit(0.5), logit(0.8)]
    world = np.zeros((39, 3))
    world[7] = [0.1, 0.2, 0.3]
    seen = decode_landmarks(values.ravel(), 0.75, np.full((64, 64, 39), -9.0), world.ravel())
    np.testing.assert_allclose(seen.points[7], [0.25, 0.5])
    np.testing.assert_allclose(seen.confidence[[7, 8]], [0.4, 0.25])
    np.testing.assert_allclose(seen.world[7], [0.1, 0.2, 0.3])
    assert seen.presence == 0.75


def test_heat_moves_a_point_to_its_centroid_only_where_it_is_sure():
    heat = np.full((64, 64, 4), -20.0)
    for point, height in enumerate((4.0, -0.1, 4.0)):
        heat[20, [11, 12], point] = height
    points = np.array([[10.2, 22.9], [10.2, 22.9], [30.0, 22.0], [-3.0, 80.0]]) / 64
    moved = refine(points, heat)
    np.testing.assert_allclose(moved[0] * 64, [11.5, 20], atol=1e-3)
    # Not sure enough, out of the window's reach, outside the map.
    np.testing.assert_array_equal(moved[1:], points[1:])
