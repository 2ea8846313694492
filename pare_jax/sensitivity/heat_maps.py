"""Draws occlusion sensitivity: a sheet of heat maps, and the frames of a clip."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int

from pare_jax.crop import PATCH_COLOUR
from pare_jax.rendering.attention_maps import fit
from pare_jax.rendering.camera import crop_camera
from pare_jax.rendering.overlay import draw_mesh
from pare_jax.rendering.text import INK, PAPER, Picture, caption, draw_text, grid, row, text_width
from pare_jax.sensitivity.maps import Sensitivity
from pare_jax.sensitivity.patches import route
from pare_jax.skeleton import JOINT_NAMES

# The brightest colour is this quantile of a map's values: scaled to the maximum, a few extreme
# positions would darken all others.
_BRIGHTEST = 0.995
# Brightness of the crop where the heat is 0, and the first colour used of the colour map, whose
# darkest colours look like the crop.
_DIMMED, _FIRST_COLOUR = 0.7, 0.25
# Meshes posed at once for a clip.
_POSED_AT_ONCE = 16
_COLUMNS = 6
_CELL = 192
_FRAME = 384
_BAR_WIDTH = 92
# The maximum of a scale is one of these times a power of ten.
_ROUND_NUMBERS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

Vertices = Float[np.ndarray, "vertices 3"]
Faces = Int[np.ndarray, "faces 3"]


def paint_patch(crop: Picture, centre: Float[np.ndarray, "2"], patch: float) -> Picture:
    """Return the crop with a patch on it, as the network sees it.

    Args:
        crop: square, of any size.
        centre: of the patch (x, y), pixels of `crop`.
        patch: side of the patch, pixels of `crop`.
    """
    picture = crop.copy()
    left, top, right, bottom = _corners(centre, patch, len(crop))
    picture[top:bottom, left:right] = PATCH_COLOUR
    return picture


def sensitivity_sheet(found: Sensitivity) -> Picture:
    """Draw the sheet: the crop with the patch, the mesh, and one heat map a joint.

    The upper row has the patch at its true size, the mesh predicted without a patch, and the mean
    over all joints with its own scale. The rows below have a map of each joint, all on one scale,
    with its maximum. If the true joints are known, colours show the error that the patch adds, so
    that a joint with a large error everywhere stays dark; captions give the error itself.
    """
    crop = fit(found.crop, _CELL)
    to_cell = _CELL / found.grid.image_size
    patch = paint_patch(crop, np.full(2, _CELL / 2.0), found.patch * to_cell)
    _outline(patch, np.full(2, _CELL / 2.0), found.patch * to_cell)
    mesh = draw_mesh(crop, found.vertices(), np.asarray(found.body.faces), crop_camera(_CELL))
    size = found.grid.image_size
    increase = found.increase
    overall, scale = _heated(crop, found, increase.mean(-1))
    top = row(
        [
            caption(patch, f"patch {found.patch} of {size} px"),
            caption(mesh, "without patch"),
            caption(overall, "mean of all joints"),
            scale_bar(_CELL, scale, increase.mean(-1).max()),
            _notes(found),
        ]
    )
    end = scale_end(increase[..., 1:])
    cells = []
    for joint, name in enumerate(JOINT_NAMES):
        cell, _ = _heated(crop, found, increase[..., joint], end)
        cells.append(caption(cell, _joint_caption(found, joint, name)))
    maps = row([grid(cells, _COLUMNS), scale_bar(2 * _CELL, end, increase.max())])
    gap = 12
    sheet = np.full(
        (top.shape[0] + gap + maps.shape[0], max(top.shape[1], maps.shape[1]), 3), PAPER, np.uint8
    )
    sheet[: top.shape[0], : top.shape[1]] = top
    sheet[top.shape[0] + gap :, : maps.shape[1]] = maps
    return sheet


def sensitivity_frames(found: Sensitivity) -> Iterator[Picture]:
    """Draw the frames of a clip: the patch slides over the crop and the mesh follows."""
    faces = np.asarray(found.body.faces)
    scene = _ClipFrames(found)
    positions = route(found.grid)
    for start in range(0, len(positions), _POSED_AT_ONCE):
        batch = positions[start : start + _POSED_AT_ONCE]
        # Full batches, so that one program is compiled.
        padded = batch + [batch[-1]] * (_POSED_AT_ONCE - len(batch))
        for position, vertices in zip(batch, found.vertices(padded), strict=False):
            yield scene.draw(position, vertices, faces)


def draw_heat(picture: Picture, heat: Float[np.ndarray, "height width"]) -> Picture:
    """Colour a picture by one number a pixel: grey at 0, brightest at 1.

    Args:
        picture: (height, width, 3) uint8.
        heat: one number a pixel, clipped to [0, 1].

    Returns:
        Picture of the same size.
    """
    heat = np.clip(heat, 0.0, 1.0)
    index = np.round(255 * (_FIRST_COLOUR + (1.0 - _FIRST_COLOUR) * heat)).astype(np.uint8)
    colours = cv2.applyColorMap(index, cv2.COLORMAP_INFERNO)[..., ::-1]
    # The picture turns grey, so that every colour is heat.
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    weight = np.sqrt(heat)[..., None] * 0.85
    return np.round((1.0 - weight) * grey * _DIMMED + weight * colours).astype(np.uint8)


def scale_end(values: np.ndarray) -> float:
    """Return the maximum of a colour scale for these values: a round number, mm."""
    high = max(float(np.quantile(values, _BRIGHTEST)), 1.0)
    power = 10.0 ** np.floor(np.log10(high))
    return power * next(n for n in _ROUND_NUMBERS if n * power >= high * (1 - 1e-9))


def scale_bar(height: int, end: float, largest: float) -> Picture:
    """Draw the colour scale of a heat map, from 0 at the bottom to `end` mm at the top.

    Args:
        height: of the returned picture, pixels.
        end: value of the brightest colour, mm.
        largest: maximum of the values shown, mm; the scale says "and more" if it exceeds `end`.
    """
    bar = np.full((height, _BAR_WIDTH, 3), PAPER, np.uint8)
    margin, width = 12, 18
    ground = np.full((height - 2 * margin, width, 3), 128, np.uint8)
    heat = np.linspace(1.0, 0.0, len(ground), dtype=np.float32)[:, None].repeat(width, 1)
    bar[margin : height - margin, 6 : 6 + width] = draw_heat(ground, heat)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = margin + (1.0 - share) * (len(ground) - 1)
        cv2.line(bar, (6 + width, round(y)), (10 + width, round(y)), INK, 1)
        text = f"{share * end:.4g}" + (" mm" if share == 1.0 else "")
        draw_text(bar, text, (14 + width, y - 4.5), 9, INK)
    if largest > end:
        draw_text(bar, "and more", (14 + width, margin + 8.5), 9, INK)
    return bar


class _ClipFrames:
    """Draws frames: left the mesh over the crop with the patch, right the mean heat map.

    The map and the scale are the same in all frames and are drawn once.
    """

    def __init__(self, found: Sensitivity):
        self._found = found
        self._crop = fit(found.crop, _FRAME)
        overall = found.increase.mean(-1)
        self._map, end = _heated(self._crop, found, overall)
        self._bar = scale_bar(_FRAME, end, overall.max())
        self._to_frame = _FRAME / found.grid.image_size

    def draw(self, position: tuple[int, int], vertices: Vertices, faces: Faces) -> Picture:
        """Draw the frame of one position (row, column); vertices in the crop's camera frame."""
        found = self._found
        centre = found.centres[position] * self._to_frame
        patch = found.patch * self._to_frame
        left = paint_patch(self._crop, centre, patch)
        left = draw_mesh(left, vertices, faces, crop_camera(_FRAME), opacity=0.75)
        right = self._map.copy()
        for picture in (left, right):
            _outline(picture, centre, patch)
        worst = int(np.argmax(found.increase[position]))
        kind, sign = ("change", "") if found.baseline_errors is None else ("error", "+")
        most = f"{found.increase[position][worst]:{sign}.0f} mm"
        name = JOINT_NAMES[worst].replace("_", " ")
        pictures = [
            caption(left, f"{name} suffers most: {most}"),
            caption(right, f"mean {kind} of all joints: {found.overall[position]:.0f} mm"),
            self._bar,
        ]
        return row(pictures)


def _heated(
    crop: Picture, found: Sensitivity, values: np.ndarray, end: float | None = None
) -> tuple[Picture, float]:
    """Draw one map over the crop; returns the picture and the maximum of its scale, mm."""
    end = end or scale_end(values)
    return draw_heat(crop, found.grid.spread(values, len(crop)) / end), end


def _joint_caption(found: Sensitivity, joint: int, name: str) -> str:
    name = name.replace("_", " ")
    if joint == 0:
        return f"{name} (the origin)"
    most = f"up to {found.maps[..., joint].max():.0f} mm"
    if found.baseline_errors is None:
        return f"{name}: {most}"
    return f"{name}: {found.baseline_errors[joint]:.0f}, {most}"


def _notes(found: Sensitivity) -> Picture:
    """Draw the legend of a sheet as text."""
    if found.baseline_errors is None:
        lines = ["Colour: how far a joint moves", "when the patch is centred here."]
    else:
        lines = [
            "Colour: what the patch adds to the error",
            "of a joint when it is centred here.",
            f"Mean error without patch: {found.baseline_errors.mean():.0f} mm.",
        ]
    lines += [
        f"{found.grid.count**2} positions, every {found.grid.stride} px:",
        f"on average {found.overall.mean():.0f} mm,",
        f"at the worst position {found.overall.max():.0f} mm.",
        "Pelvis at the origin.",
    ]
    height = 10.0
    width = max(text_width(line, height) for line in lines) + 16
    notes = np.full((_CELL, width, 3), PAPER, np.uint8)
    for number, line in enumerate(lines):
        draw_text(notes, line, (8, 12 + 24 * number), height, INK)
    return notes


def _outline(picture: Picture, centre: Float[np.ndarray, "2"], patch: float) -> None:
    """Draw the patch's edge onto `picture`: white on dark, visible on any background."""
    left, top, right, bottom = _corners(centre, patch, len(picture))
    for colour, width in ((INK, 3), (PAPER, 1)):
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour, width)


def _corners(
    centre: Sequence[float] | np.ndarray, patch: float, side: int
) -> tuple[int, int, int, int]:
    """Return the pixels under a patch: first column and row, and last column and row plus one."""
    low = np.clip(np.ceil(np.asarray(centre) - patch / 2.0 - 0.5), 0, side).astype(int)
    high = np.clip(np.ceil(np.asarray(centre) + patch / 2.0 - 0.5), 0, side).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
