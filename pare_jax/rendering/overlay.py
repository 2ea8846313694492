"""Draws shaded meshes over pictures, and views of them from a person's left and from behind."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int

from pare_jax.rendering.attention_maps import attention_cells, fit
from pare_jax.rendering.camera import Camera, crop_camera
from pare_jax.rendering.normals import vertex_normals
from pare_jax.rendering.rasterizer import shade
from pare_jax.rendering.text import Colour, Picture, caption, grid, paper, row

# A colour for each person, readable on skin, asphalt and grass; the first is the default.
BODY_COLOURS: tuple[Colour, ...] = (
    (120, 180, 245),
    (140, 215, 150),
    (225, 150, 225),
    (240, 215, 110),
    (125, 220, 220),
    (250, 130, 60),
)
# Joints whose attention maps a summary shows; the ends of the limbs are hidden most often.
SUMMARY_JOINTS = ("head", "left_wrist", "right_wrist", "left_knee", "right_knee")

# Directions towards the lights in the camera frame (x right, y down, z forward), and strengths.
_LIGHTS = (((-0.5, -0.7, -0.6), 0.62), ((0.8, -0.1, -0.5), 0.22), ((0.0, 0.0, -1.0), 0.18))
_AMBIENT = 0.22
# Share of the panel that the mesh fills in side and back views.
_FILLED = 0.88
# A viewer stays level up to this cosine of the angle between the horizontal and the body's axis
# towards the viewer: 60 degrees.
_LEAST_LEVEL = 0.5
# The root's rotation of a person who stands upright and faces the camera.
_FACING_THE_CAMERA = np.diag([1.0, -1.0, -1.0])
LEFT_SIDE, BEHIND = "person's left side", "from behind"
# Meshes that would cover more supersampled pixels than this are drawn without supersampling; at
# that size their edges are fine enough.
_MAX_SUPERSAMPLED = 1_000_000

Vertices = Float[np.ndarray, "vertices 3"]
Faces = Int[np.ndarray, "faces 3"]


def draw_mesh(
    picture: Picture,
    vertices: Vertices,
    faces: Faces,
    camera: Camera,
    colour: Colour | Float[np.ndarray, "vertices 3"] = BODY_COLOURS[0],
    opacity: float = 0.9,
    normals: Vertices | None = None,
) -> Picture:
    """Draw a shaded mesh over a picture, with soft edges.

    Args:
        picture: (height, width, 3) uint8.
        vertices: camera frame, metres, the translation included.
        faces: counter-clockwise seen from outside; back faces are drawn only if the mesh reaches
            behind the camera, because its inside is visible then.
        camera: the picture's camera.
        colour: RGB of the lit surface, or of each vertex.
        opacity: 1 hides the picture below.
        normals: of the vertices, from `vertex_normals`; None: they are computed.

    Returns:
        The picture with the mesh in it.
    """
    picture = np.ascontiguousarray(picture).copy()
    vertices = np.asarray(vertices, np.float64)
    depth = np.ascontiguousarray(vertices[:, 2])
    in_front = depth > 1e-3
    all_in_front = bool(in_front.all())
    if not in_front.any() or not np.isfinite(vertices).all():
        return picture
    projected = camera.project(vertices if all_in_front else vertices[in_front])
    region = _covered(projected, picture.shape[:2])
    if region is None:
        return picture
    left, top, right, bottom = region
    height, width = bottom - top, right - left
    scale = 2 if 4 * height * width <= _MAX_SUPERSAMPLED else 1
    # Vertices behind the camera get any valid position: their faces are not drawn.
    positions = vertices if all_in_front else np.where(in_front[:, None], vertices, 1.0)
    pixels = camera.seen_in((left, top), scale).project(positions)
    normals = vertex_normals(vertices, faces) if normals is None else normals
    colours, seen = shade(
        np.column_stack([pixels, depth]).astype(np.float32),
        np.asarray(faces),
        _shade(normals, colour),
        height * scale,
        width * scale,
        near=max(1e-3, 0.9 * float(depth[in_front].min())),
        far=1.1 * float(depth.max()),
        cull="back" if all_in_front else "none",
    )
    # Colour, which is 0 outside the mesh, and coverage are averaged alike, so that the outside
    # does not darken the edges.
    mask = seen.astype(np.float32)
    if scale > 1:
        colours = cv2.resize(colours, (width, height), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    # Most of the region is not covered.
    covered = np.flatnonzero(mask)
    below = picture[top:bottom, left:right].reshape(-1, 3)
    shares = np.float32(opacity) * mask.ravel()[covered, None]
    mixed = below[covered] * (np.float32(1.0) - shares)
    mixed += np.float32(opacity) * colours.reshape(-1, 3)[covered]
    below[covered] = np.clip(np.round(mixed, out=mixed), 0, 255)
    picture[top:bottom, left:right] = below.reshape(height, width, 3)
    return picture


def own_views(root: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "2 3 3"]:
    """Return the rotations from the camera frame into two views: the person's left, and behind.

    The viewer stands at the person's left, or behind, as the pelvis faces, and turns about the
    camera's vertical alone, so that the ground stays level. If the body's axis towards the viewer
    is closer than 30 degrees to the vertical, as that of a person who lies on one side or is seen
    from above may be, the viewer looks along that axis, and the body's head is up.

    Args:
        root: the root's rotation into the camera frame; the body's axes are left, up and front.
    """
    root = np.asarray(root, np.float64)
    if not np.isfinite(root).all():
        root = _FACING_THE_CAMERA
    left, up, front = root.T
    return np.stack([_looking_at(left, up), _looking_at(-front, up)])


def _looking_at(towards_viewer: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return the rotation into the frame of a viewer who is in one direction from the body."""
    level = towards_viewer * (1.0, 0.0, 1.0)
    length = np.linalg.norm(level)
    if length >= _LEAST_LEVEL:
        forward, down = -level / length, np.array([0.0, 1.0, 0.0])
    else:
        forward, down = -towards_viewer, -up
    return np.stack([np.cross(down, forward), down, forward])


def bounds_in_views(
    vertices: Vertices, root: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "views 2 3"]:
    """Return the lowest and the highest corner of a mesh in each of its `own_views`, metres."""
    return np.stack([_bounds(vertices @ view.T) for view in own_views(root)])


def side_view(
    vertices: Vertices,
    faces: Faces,
    root: Float[np.ndarray, "3 3"],
    height: int,
    width: int,
    colour: Colour = BODY_COLOURS[0],
    normals: Vertices | None = None,
) -> Picture:
    """Draw a mesh on a plain background, seen from the person's left; see `own_views`.

    An upright person faces the panel's left edge. The mesh is centred and fills the panel.

    Args:
        vertices: camera frame, metres.
        faces: counter-clockwise seen from outside.
        root: the root's rotation into the camera frame.
        height: of the panel, pixels.
        width: of the panel, pixels.
        colour: RGB of the lit surface.
        normals: of the vertices, from `vertex_normals`; None: they are computed.

    Returns:
        (height, width, 3) uint8.
    """
    return _panels(vertices, faces, own_views(root)[:1], height, width, colour, normals)[0]


def side_and_back_view(
    vertices: Vertices,
    faces: Faces,
    root: Float[np.ndarray, "3 3"],
    height: int = 480,
    width: int | None = None,
    colour: Colour = BODY_COLOURS[0],
    bounds: Float[np.ndarray, "2 2 3"] | None = None,
) -> Picture:
    """Draw a mesh from the person's left and from behind, at one scale; see `own_views`.

    Args:
        vertices: camera frame, metres.
        faces: counter-clockwise seen from outside.
        root: the root's rotation into the camera frame.
        height: of each panel, pixels.
        width: of each panel, pixels; None: three quarters of the height.
        colour: RGB of the lit surface.
        bounds: corners of the volume that fills each panel, as `bounds_in_views` returns them;
            the same for all frames of a track. None: the mesh's own.

    Returns:
        Two panels side by side, each with a caption below.
    """
    width = max(1, round(height * 0.75)) if width is None else width
    views = own_views(root)
    side, back = _panels(vertices, faces, views, height, width, colour, bounds=bounds)
    return row([caption(side, LEFT_SIDE), caption(back, BEHIND)])


def _panels(
    vertices: np.ndarray,
    faces: np.ndarray,
    views: np.ndarray,
    height: int,
    width: int,
    colour: Colour,
    normals: np.ndarray | None = None,
    bounds: np.ndarray | None = None,
) -> list[Picture]:
    """Draw the mesh in each view, with the bounds centred, at the largest scale that fits all."""
    panels = [paper(height, width) for _ in views]
    vertices = np.asarray(vertices, np.float64)
    if not len(vertices) or not np.isfinite(vertices).all():
        return panels
    normals = vertex_normals(vertices, faces) if normals is None else normals
    turned = [vertices @ view.T for view in views]
    corners = np.stack([_bounds(points) for points in turned]) if bounds is None else bounds
    low, high = corners[:, 0], corners[:, 1]
    size = np.maximum(high - low, 1e-6)
    distance = 10.0 * float(size.max())
    fit_all = np.minimum(width / size[:, 0], height / size[:, 1]) * (distance - size[:, 2] / 2.0)
    camera = Camera(_FILLED * float(fit_all.min()), (width / 2.0, height / 2.0))
    for number, view in enumerate(views):
        points = turned[number] - (low[number] + high[number]) / 2.0
        points[:, 2] += distance
        panels[number] = draw_mesh(
            panels[number], points, faces, camera, colour, 1.0, normals @ view.T
        )
    return panels


def sample_panel(
    image: Picture,
    vertices: Vertices,
    faces: Faces,
    root: Float[np.ndarray, "3 3"],
    attention: Float[np.ndarray, "h w 24"] | None = None,
    joints: Sequence[str] = SUMMARY_JOINTS,
    cell: int = 224,
    columns: int | None = None,
) -> Picture:
    """Draw one sample: input, mesh over the input, side view, attention maps.

    Args:
        image: the network's crop, (S, S, 3) uint8.
        vertices: frame of `crop_camera`, metres, the translation included.
        faces: counter-clockwise seen from outside.
        root: the root's rotation into the camera frame.
        attention: attention maps of all joints; None: the network has none.
        joints: names of the joints whose maps are shown.
        cell: side of each picture, pixels.
        columns: pictures in a row; None: all.

    Returns:
        The pictures, each with a caption.
    """
    image = fit(np.asarray(image), cell)
    over = draw_mesh(image, vertices, faces, crop_camera(cell))
    pictures = [
        caption(image, "input"),
        caption(over, "prediction"),
        caption(side_view(vertices, faces, root, cell, cell), LEFT_SIDE),
    ]
    if attention is not None:
        pictures += attention_cells(image, attention, joints, cell, "attention: ")
    return row(pictures) if columns is None else grid(pictures, columns)


def _shade(normals: np.ndarray, colour: Colour | Float[np.ndarray, "vertices 3"]) -> np.ndarray:
    """Return the vertices' colours, 0 to 255, under three lights fixed to the camera."""
    light = np.full(len(normals), _AMBIENT)
    for direction, strength in _LIGHTS:
        unit = np.asarray(direction) / np.linalg.norm(direction)
        light += strength * np.maximum(normals @ unit, 0.0)
    return np.clip(np.asarray(colour) * light[:, None], 0.0, 255.0).astype(np.float32)


def _covered(pixels: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Return the part of the picture (left, top, right, bottom) that holds the points, if any."""
    size = np.array([shape[1], shape[0]])
    low, high = _bounds(pixels)
    low = np.clip(np.floor(low) - 1, 0, size).astype(int)
    high = np.clip(np.ceil(high) + 1, 0, size).astype(int)
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each column's minimum and maximum, several times faster than numpy over rows."""
    columns = np.ascontiguousarray(points.T)
    return columns.min(1), columns.max(1)
