"""A person's turned square, and tiles."""

import numpy as np
import pytest

from pare_jax.keypoints.squares import Square, square_of, tiles


@pytest.mark.parametrize("degrees", [0, 30, 90, -135])
def test_the_top_is_straight_above_the_middle_in_the_square(degrees):
    turn = np.deg2rad(degrees)
    middle, top = (
        np.array([50.0, 60.0]),
        np.array([50.0, 60.0]) + 20 * np.array([np.sin(turn), -np.cos(turn)]),
    )
    square = square_of(middle, top)
    assert square.side == pytest.approx(2.5 * 20)
    np.testing.assert_allclose(square.to_photo(np.array([[0.5, 0.5], [0.5, 0.1]])), [middle, top])
    # One metre upwards in the square is one metre towards the top in the photograph.
    up = square.turned_back(np.array([[0.0, -1.0, 0.7]]))
    np.testing.assert_allclose(up, [[np.sin(turn), -np.cos(turn), 0.7]], atol=1e-12)


@pytest.mark.parametrize(("side", "degrees"), [(40.0, 25), (200.0, -70), (90.0, 180)])
def test_a_cut_pixel_lies_where_to_photo_says(side, degrees):
    picture = np.zeros((240, 320, 3), np.uint8)
    rows, columns = np.mgrid[:240, :320] + 0.5
    square = Square(np.array([150.0, 110.0]), side, np.deg2rad(degrees))
    place = np.array([0.7, 0.35])
    x, y = square.to_photo(place)
    picture[(columns - x) ** 2 + (rows - y) ** 2 < (0.06 * side) ** 2] = 255
    cut = square.cut(picture, 100)[..., 0].astype(float)
    y, x = np.mgrid[:100, :100] + 0.5
    centre = np.array([(cut * x).sum(), (cut * y).sum()]) / cut.sum()
    np.testing.assert_allclose(centre / 100, place, atol=0.006)


def test_agreement_falls_with_distance_turn_and_size():
    square = Square(np.array([100.0, 100.0]), 250.0)
    others = [
        Square(np.array([100.0, 100.0]), 250.0),
        Square(np.array([110.0, 100.0]), 250.0),
        Square(np.array([110.0, 100.0]), 250.0, 0.3),
        Square(np.array([110.0, 100.0]), 400.0, 0.3),
        Square(np.array([400.0, 100.0]), 250.0),
    ]
    agreements = [square.agreement(other) for other in others]
    assert agreements[0] == 1
    assert agreements == sorted(agreements, reverse=True)
    assert agreements[-1] < 1e-6


@pytest.mark.parametrize(
    ("width", "height", "side"), [(640, 427, 284), (300, 300, 300), (90, 40, 90)]
)
def test_tiles_cover_the_picture_and_overlap(width, height, side):
    covered = np.zeros((height, width), int)
    for tile in tiles(width, height, side, 1 / 3):
        x, y = np.rint(tile.centre - side / 2).astype(int)
        covered[max(y, 0) : y + side, max(x, 0) : x + side] += 1
    assert covered.min() == 1
    middles = sorted({tile.centre[0] for tile in tiles(width, height, side, 1 / 3)})
    assert all(np.diff(middles) <= side * 2 / 3 + 1e-9)
