"""The rasterizer, compared with geometry computed by hand."""

import numpy as np
import pytest

from pare_jax.rendering import rasterizer
from pare_jax.rendering.normals import vertex_normals

SQUARE_FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def _square(left, top, right, bottom, depth):
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return np.array([(x, y, depth) for x, y in corners], np.float32)


def _sphere(steps=24):
    """Return a unit sphere; its faces are counter-clockwise from outside, right-handed frame."""
    theta, phi = np.meshgrid(
        np.linspace(1e-3, np.pi - 1e-3, steps), np.linspace(0, 2 * np.pi, 2 * steps, endpoint=False)
    )
    vertices = np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1
    )
    index = np.arange(2 * steps * steps).reshape(2 * steps, steps)
    right = np.roll(index, -1, axis=0)
    a, b, c, d = index[:, :-1], index[:, 1:], right[:, 1:], right[:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return vertices.reshape(-1, 3), faces.astype(np.int32)


def test_pixels_are_sampled_at_their_centres():
    # Covers the centres of columns 2 to 4 and rows 1 to 2, by 0.01 on each side.
    square = _square(2.49, 1.49, 4.51, 2.51, 3.0)
    face = rasterizer.rasterize(square, SQUARE_FACES, np.ones((4, 1)), 6, 9).face
    expected = np.zeros((6, 9), bool)
    expected[1:3, 2:5] = True
    np.testing.assert_array_equal(face != rasterizer.EMPTY, expected)


@pytest.mark.parametrize("first", [0, 1])
def test_nearer_mesh_hides_farther_one_in_either_order(first):
    squares = [_square(0, 0, 8, 8, 5.0), _square(2, 2, 6, 6, 4.0)]
    buffer = rasterizer.new_buffer(8, 8)
    start = [0, 0]
    for number in (first, 1 - first):
        start[number] = rasterizer.draw(buffer, squares[number], SQUARE_FACES)
    near = (buffer.face() - start[1]) // 2 == 0
    expected = np.zeros((8, 8), bool)
    expected[2:6, 2:6] = True
    np.testing.assert_array_equal(near, expected)
    np.testing.assert_allclose(buffer.depth(), np.where(expected, 4.0, 5.0), rtol=1e-5)


def test_depth_and_colours_are_right_on_a_slanted_plane():
    # In perspective, inverse depth is linear in the picture and depth is not.
    height = width = 32
    corners = np.array([[2, 3, 2.0], [30, 1, 3.0], [29, 31, 6.0]])
    raster = rasterizer.rasterize(
        corners.astype(np.float32), np.array([[0, 1, 2]]), corners.astype(np.float32), height, width
    )
    rows, columns = np.nonzero(raster.face == 0)
    assert len(rows) > 200
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    shares = np.linalg.solve(np.vstack([corners[:, :2].T, np.ones(3)]), pixels)
    depth = 1.0 / (shares / corners[:, 2:]).sum(0)
    np.testing.assert_allclose(raster.depth[rows, columns], depth, rtol=1e-4)
    weighted = shares / corners[:, 2:] * depth
    np.testing.assert_allclose(raster.colour[rows, columns], weighted.T @ corners, rtol=1e-4)


def test_culling_keeps_the_side_that_faces_the_camera():
    vertices, faces = _sphere()
    points = np.column_stack([40 * vertices[:, :2] + 50, vertices[:, 2] + 5]).astype(np.float32)
    both = rasterizer.rasterize(points, faces, vertices, 100, 100)
    culled = rasterizer.rasterize(points, faces, vertices, 100, 100, cull="back")
    np.testing.assert_array_equal(both.face, culled.face)
    seen = both.face >= 0
    assert both.depth[seen].max() < 5.05
    area = np.pi * 40**2
    assert abs(seen.sum() - area) < 0.01 * area
    normals = vertex_normals(vertices, faces)
    assert (np.einsum("vi,vi->v", normals, vertices)[1:-1] > 0.98).all()


def test_faces_that_reach_behind_the_camera_are_dropped():
    buffer = rasterizer.new_buffer(8, 8, near=0.5)
    square = _square(0, 0, 8, 8, 2.0)
    square[3, 2] = -1.0
    rasterizer.draw(buffer, square, SQUARE_FACES)
    # Only the face without that corner is drawn, and it keeps its number.
    assert set(np.unique(buffer.face())) == {rasterizer.EMPTY, 0}
    assert np.isinf(buffer.depth()[-1, 0])


def test_flat_colours_and_bad_counts():
    square = _square(0, 0, 4, 4, 2.0)
    labels = np.array([[7], [9]])
    picture = rasterizer.rasterize(square, SQUARE_FACES, labels, 4, 4).colour[..., 0]
    assert picture[0, 3] == 7
    assert picture[3, 0] == 9
    with pytest.raises(ValueError, match=r"\b3\b"):
        rasterizer.rasterize(square, SQUARE_FACES, np.ones((3, 1)), 4, 4)


def test_labels_of_one_mesh_among_others():
    buffer = rasterizer.new_buffer(8, 8)
    vertex_labels = np.array([3, 3, 5, 7])
    labels = rasterizer.face_labels(vertex_labels, SQUARE_FACES)
    assert labels.tolist() == [3, 3]  # two corners agree; all differ, so the first decides
    rasterizer.draw(buffer, _square(0, 0, 4, 8, 1.0), SQUARE_FACES)
    first = rasterizer.draw(buffer, _square(2, 0, 6, 8, 2.0), SQUARE_FACES)
    seen = rasterizer.pixel_table(buffer, first, labels)[buffer.face()]
    expected = np.zeros((8, 8), np.uint8)
    expected[:, 4:6] = 3  # not where the nearer mesh or nothing is
    np.testing.assert_array_equal(seen, expected)
