"""A pinhole camera as numpy sees it: what the drawing functions and predictions share."""

import dataclasses

import numpy as np
from jaxtyping import Float

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera; its frame is x right, y down, z forward.

    Attributes:
        focal_length: pixels, the same in x and y.
        principal_point: where the optical axis meets the picture, continuous pixels (x, y).
    """

    focal_length: float
    principal_point: tuple[float, float]

    def project(self, points: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 2"]:
        """Project points (camera frame, metres) to continuous pixels, in float64."""
        points = np.asarray(points, np.float64)
        return self.focal_length * points[..., :2] / points[..., 2:] + self.principal_point

    def seen_in(self, corner: tuple[float, float], scale: float) -> "Camera":
        """Return the camera of a cut-out that starts at `corner` and is enlarged by `scale`."""
        x, y = self.principal_point
        return Camera(self.focal_length * scale, ((x - corner[0]) * scale, (y - corner[1]) * scale))


def crop_camera(side: float) -> Camera:
    """Return the camera every network crop is taken to be seen by, for a crop of `side` pixels."""
    return Camera(FOCAL_LENGTH * side / CROP_RESOLUTION, (side / 2.0, side / 2.0))


def fit_camera(
    points: Float[np.ndarray, "n 3"], pixels: Float[np.ndarray, "n 2"]
) -> tuple[Camera, Float[np.ndarray, "3"]] | None:
    """Find a camera, and where the points stand before it, from where they are seen.

    A cut-out's camera is known by nobody once it is cut, but the perspective of a body's joints
    tells it: x (Z + t_z) = f X + c_x Z + (f t_x + c_x t_z) is linear in what is not known. Where
    the pixels were not made by a camera, or tell too little of it, it is one from far away.

    Args:
        points: in the camera's axes about an origin of their own, metres; six or more.
        pixels: where they are seen, continuous.

    Returns:
        The camera and the origin's place in its frame, metres; None if no camera sees them so.
    """
    points, pixels = np.asarray(points, np.float64), np.asarray(pixels, np.float64)
    if len(points) < 6 or not (np.isfinite(points).all() and np.isfinite(pixels).all()):
        return None
    fits = [fit for fit in (_perspective(points, pixels), _from_far(points, pixels)) if fit]
    errors = [np.abs(camera.project(points + place) - pixels).max() for camera, place in fits]
    return fits[int(np.argmin(errors))] if fits else None


def _perspective(points: np.ndarray, pixels: np.ndarray) -> tuple[Camera, np.ndarray] | None:
    depth = points[:, 2]
    rows = np.zeros((2, len(points), 6))  # f, c_x, c_y, the two constant terms, t_z
    for axis in (0, 1):
        rows[axis, :, 0] = points[:, axis]
        rows[axis, :, 1 + axis] = depth
        rows[axis, :, 3 + axis] = 1.0
        rows[axis, :, 5] = -pixels[:, axis]
    wanted = (pixels * depth[:, None]).T.reshape(-1)
    focal, *centre, a, b, distance = np.linalg.lstsq(rows.reshape(-1, 6), wanted, rcond=None)[0]
    if focal <= 0 or distance + depth.min() <= 0:
        return None
    place = [(term - c * distance) / focal for term, c in zip((a, b), centre, strict=True)]
    return Camera(float(focal), (float(centre[0]), float(centre[1]))), np.array([*place, distance])


def _from_far(points: np.ndarray, pixels: np.ndarray) -> tuple[Camera, np.ndarray] | None:
    """Fit a scale and a shift, as a camera a hundred sizes away has them."""
    flat, middle = points[:, :2] - points[:, :2].mean(0), pixels.mean(0)
    scale = float((flat * (pixels - middle)).sum() / max((flat**2).sum(), 1e-12))
    if scale <= 0:
        return None
    distance = 100.0 * float(np.ptp(points, axis=0).max())
    place = np.array([*-points[:, :2].mean(0), distance - points[:, 2].mean()])
    return Camera(scale * distance, (float(middle[0]), float(middle[1]))), place
