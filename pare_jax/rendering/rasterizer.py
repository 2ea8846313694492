"""Triangle meshes -> pixels, in numpy and OpenCV's software rasteriser.

A `FaceBuffer` remembers, for every pixel, the number of the front-most face and its depth. Any
number of meshes are drawn into the same buffer and hide each other; colours, part labels or any
other quantity of the mesh are then looked up or interpolated only where the mesh is seen.

Points are (x, y, depth): x and y in continuous pixels with the origin at the picture's top-left
corner (pixel i covers [i, i + 1), sampled at i + 0.5), depth in metres along the viewing axis.

What `cv2.triangleRasterize` does, found by experiment on OpenCV 5.0: it samples pixel centres; its
camera looks along -z with y up; it interpolates the *inverse* depth, so depth is exact on a plane;
its near and far values only scale the depth buffer and clip nothing, so that faces that reach
behind the camera would be drawn inside out. Those are dropped here. Unless a settings object says
otherwise the Python binding culls faces, and a fresh settings object draws white.
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
    """The front-most face at every pixel; made by `new_buffer`, filled by `draw`.

    Attributes:
        near: nothing closer than this is drawn (metres).
        far: nothing farther than this is drawn (metres).
        num_faces: faces drawn so far, over all meshes; the next mesh's faces count on from here.
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
        """Return a buffer that can be drawn into without changing this one."""
        return dataclasses.replace(
            self, _numbers=self._numbers.copy(), _inverse_depth=self._inverse_depth.copy()
        )

    def face(self) -> Int[np.ndarray, "height width"]:
        """Return the number of the front-most face at every pixel, EMPTY where there is none."""
        return self._numbers[..., 0].astype(np.int32)

    def depth(self) -> Float[np.ndarray, "height width"]:
        """Return the depth of the front-most surface in metres, infinity where there is none."""
        rows, columns = np.indices(self.size, sparse=True)
        return self.depth_at(rows, columns).astype(np.float32)

    def depth_at(
        self, rows: Int[np.ndarray, "*n"], columns: Int[np.ndarray, "*n"]
    ) -> Float[np.ndarray, "*n"]:
        """Return `depth()` at some pixels only."""
        stored = self._inverse_depth[rows, columns].astype(np.float64)
        inverse = 1.0 / self.near - stored * (1.0 / self.near - 1.0 / self.far)
        return np.where(stored < 1.0, 1.0 / inverse, np.inf)


def new_buffer(height: int, width: int, near: float = 0.1, far: float = 100.0) -> FaceBuffer:
    """Make an empty buffer.

    Args:
        height: rows of pixels.
        width: columns of pixels.
        near: faces with a corner closer than this are not drawn (metres, > 0).
        far: surfaces farther than this are not drawn; depth is stored in 32 bits between the two,
            finest near the camera, so keep `near` as large as the scene allows.

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
    """Draw a mesh into a buffer, behind what is nearer and in front of what is farther.

    Args:
        buffer: changed in place.
        points: (x, y, depth): pixels, pixels, metres.
        faces: vertex numbers; a face is seen from the front when its corners run counter-clockwise
            for the one who looks at the picture, as SMPL's outward faces do.
        cull: "back" leaves out faces seen from behind; faster for closed meshes.

    Returns:
        The number of this mesh's face 0 in `buffer.face()`; its others follow.
    """
    first = buffer.num_faces
    buffer.num_faces += len(faces)
    x, y, depth = np.ascontiguousarray(points.T, dtype=np.float32)
    kept = _could_be_seen(x, y, depth > buffer.near, faces, buffer.size, cull)
    if not len(kept):
        return first
    drawn = faces[kept]
    # Flat shading takes the colour of a face's first corner: give every face a corner of its own,
    # in front of the corners that faces share.
    place = np.zeros(len(points), np.int32)
    place[drawn[:, 1:]] = 1
    used = np.flatnonzero(place)
    place[used] = np.arange(len(drawn), len(drawn) + len(used))
    order = np.concatenate([drawn[:, 0], used])
    indices = np.empty((len(drawn), 3), np.int32)
    indices[:, 0] = np.arange(len(drawn))
    indices[:, 1:] = place[drawn[:, 1:]]
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
        points: (x, y, depth) of the mesh as it was drawn.
        faces: the mesh's faces.
        values: what to interpolate, a row a vertex.
        rows: row of each pixel.
        columns: column of each pixel.
        face: the mesh's face seen at each pixel, counted from the mesh's own face 0.

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
    """One mesh drawn alone.

    Attributes:
        colour: colours where the mesh is seen, 0 elsewhere.
        depth: metres, infinity where the mesh is not seen.
        face: number of the face seen, EMPTY where there is none.
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
    """Draw one mesh with a colour (or any other quantity) for each vertex or each face.

    Args:
        points: (x, y, depth): pixels, pixels, metres.
        faces: vertex numbers.
        colours: a row a vertex, interpolated, or a row a face, flat; per vertex if both fit.
        height: rows of pixels.
        width: columns of pixels.
        cull: "back" leaves out faces seen from behind.
        near: see `new_buffer`.
        far: see `new_buffer`.

    Returns:
        Colours, depth and face numbers.

    Raises:
        ValueError: the colours fit neither the vertices nor the faces.
    """
    if len(colours) not in (len(points), len(faces)):
        raise ValueError(
            f"{len(colours)} colours for {len(points)} vertices and {len(faces)} faces"
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
    """Draw one mesh with colours interpolated between its vertices, and nothing else of it.

    Colours equal those of `rasterize` but for rounding, in a third of the time.

    Args:
        points: (x, y, depth): pixels, pixels, metres.
        faces: vertex numbers.
        colours: of the vertices.
        height: rows of pixels.
        width: columns of pixels.
        near: see `new_buffer`.
        far: see `new_buffer`.
        cull: "back" leaves out faces seen from behind; half the time for closed meshes.

    Returns:
        Colours, 0 where the mesh is not seen, and where it is.
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
    """Return the label that most of a face's corners have, the first corner's when all differ."""
    a, b, c = vertex_labels[faces].T
    return np.where(b == c, b, a).astype(np.uint8)


def pixel_table(
    buffer: FaceBuffer, first: int, labels: UInt8[np.ndarray, " faces"]
) -> UInt8[np.ndarray, " numbers"]:
    """Return what to index with `FaceBuffer.face()` to know a mesh's labels at the pixels.

    Args:
        buffer: with all meshes drawn.
        first: what `draw` returned for the mesh.
        labels: of its faces.

    Returns:
        A label for each face number, EMPTY included: 0 where the mesh is not seen.
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
    """Numbers of the faces that may cover a pixel's centre.

    OpenCV spends some 60 ns on every corner and as much on every face it is given; on a picture of
    a person most faces look away or fall between pixel centres, and numpy finds them cheaper.
    """
    a, b, c = np.ascontiguousarray(faces.T)
    ax, bx, cx = x[a], x[b], x[c]
    ay, by, cy = y[a], y[b], y[c]
    height, width = size
    # The first and last pixel centre inside the face's bounds, a rounding error wider.
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
    """Points in OpenCV's camera frame (y up, -z forward) that project to the given pixels."""
    camera = np.empty((len(x), 3), np.float32)
    camera[:, 0] = (2.0 * x - width) / height * depth
    camera[:, 1] = (1.0 - 2.0 / height * y) * depth
    camera[:, 2] = -depth
    return camera


def _make_settings(shading: int) -> cv2.TriangleRasterizeSettings:
    settings = cv2.TriangleRasterizeSettings()
    settings.setShadingType(shading)
    settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
    # Read and write the depth buffer as it is, without converting it at every call.
    return settings.setGlCompatibleMode(cv2.RASTERIZE_COMPAT_INVDEPTH)


_SETTINGS = _make_settings(cv2.RASTERIZE_SHADING_FLAT)
_SMOOTH = _make_settings(cv2.RASTERIZE_SHADING_SHADED)
