"""Rasterizes triangle meshes with NumPy and OpenCV: faces, depths and colours of pixels.

A `FaceBuffer` stores the number and depth of the front-most face at each pixel. Any number of
meshes are drawn into one buffer and hide each other. Colours, part labels or other values of a mesh
are then looked up or interpolated only where the mesh is visible.

Points are (x, y, depth). x and y are continuous pixels from the picture's top-left corner: pixel i
covers [i, i + 1) and is sampled at i + 0.5. Depth is in metres along the optical axis.

Behaviour of `cv2.triangleRasterize`, found by experiment on OpenCV 5.0:

* It samples pixel centres. Its camera looks along -z, with y up.
* It interpolates the *inverse* depth, so depth is exact on a plane.
* Near and far only scale the depth buffer; they clip nothing. Faces that reach behind the camera
  would be drawn inside out, so they are dropped here.
* By default the Python binding culls faces, and a new settings object draws white.
"""

import dataclasses
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

# (x, y, w) -> picture, for OpenCV's 90 degree field of view; see `_to_camera`.
_IDENTITY = np.eye(4, dtype=np.float32)[:3]
_FIELD_OF_VIEW = np.pi / 2

EMPTY = -1


@dataclasses.dataclass
class FaceBuffer:
    """The front-most face at each pixel; made by `new_buffer`, filled by `draw`.

    Attributes:
        near: nothing closer than this is drawn (metres).
        far: nothing farther than this is drawn (metres).
        num_faces: faces of all meshes drawn so far; the number of the next mesh's first face.
    """

    near: float
    far: float
    _numbers: np.ndarray
    _inverse_depth: np.ndarray
    num_faces: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """The buffer's (height, width)."""
        height, width = self._inverse_depth.shape
        return height, width

    def copy(self) -> "FaceBuffer":
        """Return an independent copy."""
        return dataclasses.replace(
            self, _numbers=self._numbers.copy(), _inverse_depth=self._inverse_depth.copy()
        )

    def face(self) -> Int[np.ndarray, "height width"]:
        """Return the number of the front-most face at each pixel, EMPTY where there is none."""
        return self._numbers[..., 0].astype(np.int32)

    def depth(self) -> Float[np.ndarray, "height width"]:
        """Return the depth of the front-most face in metres, infinity where there is none."""
        rows, columns = np.indices(self.size, sparse=True)
        return self.depth_at(rows, columns).astype(np.float32)

    def depth_at(
        self, rows: Int[np.ndarray, "*n"], columns: Int[np.ndarray, "*n"]
    ) -> Float[np.ndarray, "*n"]:
        """Return `depth()` at the given pixels only, in float64."""
        stored = self._inverse_depth[rows, columns].astype(np.float64)
        inverse = 1.0 / self.near - stored * (1.0 / self.near - 1.0 / self.far)
        return np.where(stored < 1.0, 1.0 / inverse, np.inf)


def new_buffer(height: int, width: int, near: float = 0.1, far: float = 100.0) -> FaceBuffer:
    """Make an empty buffer.

    Args:
        height: rows of pixels.
        width: columns of pixels.
        near: faces with a corner closer than this are not drawn (metres, > 0). Depth is stored in
            32 bits from `near` to `far`, finest near the camera: keep `near` as large as possible.
        far: surfaces farther than this are not drawn (metres).

    Returns:
        A buffer without faces.
    """
    return FaceBuffer(
        near=near,
        far=far,
        _numbers=np.full((height, width, 3), EMPTY, np.float32),
        _inverse_depth=np.ones((height, width), np.float32),
    )


def draw(
    buffer: FaceBuffer,
    points: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    cull: Literal["none", "back"] = "none",
) -> int:
    """Draw a mesh into a buffer; nearer faces hide farther ones.

    Args:
        buffer: changed in place.
        points: (x, y, depth): pixels, pixels, metres.
        faces: vertex numbers; the corners of a front face are counter-clockwise in the picture, as
            those of SMPL's faces seen from outside.
        cull: "back" skips back faces; faster for closed meshes.

    Returns:
        The number of this mesh's face 0 in `buffer.face()`; its other faces follow.
    """
    first = buffer.num_faces
    buffer.num_faces += len(faces)
    x, y, depth = np.ascontiguousarray(points.T, dtype=np.float32)
    kept = _could_be_seen(x, y, depth > buffer.near, faces, buffer.size, cull)
    if not len(kept):
        return first
    drawn = faces[kept]
    # Flat shading takes the colour of a face's first corner: each face gets a first corner of its
    # own. The corners that faces share come after those.
    new_number = np.zeros(len(points), np.int32)
    new_number[drawn[:, 1:]] = 1
    used = np.flatnonzero(new_number)
    new_number[used] = np.arange(len(drawn), len(drawn) + len(used))
    order = np.concatenate([drawn[:, 0], used])
    indices = np.empty((len(drawn), 3), np.int32)
    indices[:, 0] = np.arange(len(drawn))
    indices[:, 1:] = new_number[drawn[:, 1:]]
    colours = np.zeros((len(order), 3), np.float32)
    colours[: len(drawn), 0] = first + kept
    cv2.triangleRasterize(
        _to_camera(x[order], y[order], depth[order], *buffer.size),
        indices,
        colours,
        buffer._numbers,
        buffer._inverse_depth,
        _IDENTITY,
        _FIELD_OF_VIEW,
        buffer.near,
        buffer.far,
        _SETTINGS,
    )
    return first


def interpolate(
    points: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    values: Float[np.ndarray, "vertices channels"],
    rows: Int[np.ndarray, " pixels"],
    columns: Int[np.ndarray, " pixels"],
    face: Int[np.ndarray, " pixels"],
) -> Float[np.ndarray, "pixels channels"]:
    """Interpolate values of the vertices at pixel centres, with perspective correction.

    Args:
        points: (x, y, depth) of the drawn mesh.
        faces: the mesh's faces.
        values: values to interpolate, one row for each vertex.
        rows: row of each pixel.
        columns: column of each pixel.
        face: number of the mesh's face at each pixel; the mesh's first face is 0.

    Returns:
        The values at each pixel's centre.
    """
    first, second, third = np.ascontiguousarray(faces[face].T)
    x, y, depth = np.ascontiguousarray(points.T, dtype=np.float32)
    cx, cy = x[third], y[third]
    px = columns.astype(np.float32) + np.float32(0.5) - cx
    py = rows.astype(np.float32) + np.float32(0.5) - cy
    acx, acy = x[first] - cx, y[first] - cy
    bcx, bcy = x[second] - cx, y[second] - cy
    area = acx * bcy - acy * bcx
    area[area == 0] = np.inf  # slivers without area fall back on their third corner
    # Rounding may lead a hair outside the face: the third corner's share absorbs it.
    a = np.clip((px * bcy - py * bcx) / area, 0, 1)
    b = np.clip((py * acx - px * acy) / area, 0, 1 - a)
    a, b, c = a / depth[first], b / depth[second], (1 - a - b) / depth[third]
    total = a + b + c
    values = np.asarray(values)
    kind = np.result_type(values.dtype, np.float32)
    result = values[first] * (a / total).astype(kind)[:, None]
    result += values[second] * (b / total).astype(kind)[:, None]
    result += values[third] * (c / total).astype(kind)[:, None]
    return result


@dataclasses.dataclass(frozen=True)
class Raster:
    """A picture of one mesh.

    Attributes:
        colour: colours where the mesh is visible, 0 elsewhere.
        depth: metres, infinity where the mesh is not visible.
        face: number of the visible face, EMPTY where there is none.
    """

    colour: Float[np.ndarray, "height width channels"]
    depth: Float[np.ndarray, "height width"]
    face: Int[np.ndarray, "height width"]


def rasterize(
    points: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    colours: Float[np.ndarray, "elements channels"],
    height: int,
    width: int,
    cull: Literal["none", "back"] = "none",
    near: float = 0.1,
    far: float = 100.0,
) -> Raster:
    """Draw one mesh with a colour, or any other value, for each vertex or each face.

    Args:
        points: (x, y, depth): pixels, pixels, metres.
        faces: vertex numbers.
        colours: one row for each vertex, interpolated, or for each face, flat; of the vertices if
            there are as many vertices as faces.
        height: rows of pixels.
        width: columns of pixels.
        cull: "back" skips back faces.
        near: see `new_buffer`.
        far: see `new_buffer`.

    Returns:
        Colours, depth and face numbers.

    Raises:
        ValueError: the number of colours is neither that of the vertices nor of the faces.
    """
    if len(colours) not in (len(points), len(faces)):
        raise ValueError(
            f"expected {len(points)} colours (vertices) or {len(faces)} (faces), not {len(colours)}"
        )
    buffer = new_buffer(height, width, near, far)
    draw(buffer, points, faces, cull)
    face = buffer.face()
    rows, columns = np.nonzero(face != EMPTY)
    seen = face[rows, columns]
    picture = np.zeros((height, width, colours.shape[1]), colours.dtype)
    if len(colours) == len(points):
        picture[rows, columns] = interpolate(points, faces, colours, rows, columns, seen)
    else:
        picture[rows, columns] = colours[seen]
    return Raster(colour=picture, depth=buffer.depth(), face=face)


def shade(
    points: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    colours: Float[np.ndarray, "vertices 3"],
    height: int,
    width: int,
    near: float = 0.1,
    far: float = 100.0,
    cull: Literal["none", "back"] = "none",
) -> tuple[Float[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """Draw one mesh with colours interpolated between its vertices, without depth or faces.

    Colours equal those of `rasterize` up to rounding, in a third of the time.

    Args:
        points: (x, y, depth): pixels, pixels, metres.
        faces: vertex numbers.
        colours: of the vertices.
        height: rows of pixels.
        width: columns of pixels.
        near: see `new_buffer`.
        far: see `new_buffer`.
        cull: "back" skips back faces; half the time for closed meshes.

    Returns:
        Colours, 0 where the mesh is not visible, and a mask of the pixels where it is.
    """
    picture = np.zeros((height, width, 3), np.float32)
    inverse_depth = np.ones((height, width), np.float32)
    x, y, depth = np.ascontiguousarray(points.T, dtype=np.float32)
    kept = _could_be_seen(x, y, depth > near, faces, (height, width), cull)
    if len(kept):
        cv2.triangleRasterize(
            _to_camera(x, y, depth, height, width),
            np.ascontiguousarray(faces[kept], np.int32),
            np.ascontiguousarray(colours, np.float32),
            picture,
            inverse_depth,
            _IDENTITY,
            _FIELD_OF_VIEW,
            near,
            far,
            _SMOOTH,
        )
    return picture, inverse_depth < 1.0


def face_labels(
    vertex_labels: Int[np.ndarray, " vertices"], faces: Int[np.ndarray, "faces 3"]
) -> UInt8[np.ndarray, " faces"]:
    """Return the label of most of each face's corners, or the first corner's if all differ."""
    a, b, c = vertex_labels[faces].T
    return np.where(b == c, b, a).astype(np.uint8)


def pixel_table(
    buffer: FaceBuffer, first: int, labels: UInt8[np.ndarray, " faces"]
) -> UInt8[np.ndarray, " numbers"]:
    """Return the table from face numbers to one mesh's labels: `table[buffer.face()]`.

    Args:
        buffer: all meshes are drawn into it.
        first: the number that `draw` returned for the mesh.
        labels: of the mesh's faces.

    Returns:
        A label for each face number; 0 for EMPTY and for other meshes.
    """
    table = np.zeros(buffer.num_faces + 1, np.uint8)  # EMPTY, -1, is the last entry
    table[first : first + len(labels)] = labels
    return table


def _could_be_seen(
    x: np.ndarray,
    y: np.ndarray,
    in_front: np.ndarray,
    faces: np.ndarray,
    size: tuple[int, int],
    cull: str,
) -> np.ndarray:
    """Return the numbers of the faces that may cover a pixel's centre.

    OpenCV takes about 60 ns for each corner and for each face. Most faces of a person look away or
    lie between pixel centres, and NumPy finds those faster.
    """
    a, b, c = np.ascontiguousarray(faces.T)
    ax, bx, cx = x[a], x[b], x[c]
    ay, by, cy = y[a], y[b], y[c]
    height, width = size
    # First and last pixel centre inside the face's bounds, widened by a rounding error.
    slack = 1e-3
    left = np.ceil(np.minimum(np.minimum(ax, bx), cx) - (0.5 + slack))
    right = np.floor(np.maximum(np.maximum(ax, bx), cx) - (0.5 - slack))
    top = np.ceil(np.minimum(np.minimum(ay, by), cy) - (0.5 + slack))
    bottom = np.floor(np.maximum(np.maximum(ay, by), cy) - (0.5 - slack))
    kept = (left <= right) & (top <= bottom)
    kept &= (right >= 0) & (left < width) & (bottom >= 0) & (top < height)
    if cull == "back":
        kept &= (ax - cx) * (by - cy) < (ay - cy) * (bx - cx)
    if not in_front.all():
        kept &= in_front[a] & in_front[b] & in_front[c]
    return np.flatnonzero(kept)


def _to_camera(
    x: np.ndarray, y: np.ndarray, depth: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Return points in OpenCV's camera frame (y up, -z forward) that project to the pixels."""
    camera = np.empty((len(x), 3), np.float32)
    camera[:, 0] = (2.0 * x - width) / height * depth
    camera[:, 1] = (1.0 - 2.0 / height * y) * depth
    camera[:, 2] = -depth
    return camera


def _make_settings(shading: int) -> cv2.TriangleRasterizeSettings:
    settings = cv2.TriangleRasterizeSettings()
    settings.setShadingType(shading)
    settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
    # Use the depth buffer without converting it in each call.
    return settings.setGlCompatibleMode(cv2.RASTERIZE_COMPAT_INVDEPTH)


_SETTINGS = _make_settings(cv2.RASTERIZE_SHADING_FLAT)
_SMOOTH = _make_settings(cv2.RASTERIZE_SHADING_SHADED)
