"""Pinhole cameras in NumPy, for drawing and for predictions; fits a camera to points."""

import dataclasses

import numpy as np
from jaxtyping import Float

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera with the frame x right, y down, z forward.

    Attributes:
        focal_length: pixels, the same in x and y.
        principal_point: intersection of optical axis and picture, continuous pixels (x, y).
    """

    focal_length: float
    principal_point: tuple[float, float]

    def project(self, points: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 2"]:
        """Project points (camera frame, metres) to continuous pixels, in float64."""
        points = np.asarray(points, np.float64)
        return self.focal_length * points[..., :2] / points[..., 2:] + self.principal_point

    def seen_in(self, corner: tuple[float, float], scale: float) -> "Camera":
        """Return the camera of the part that starts at `corner`, enlarged by `scale`."""
        x, y = self.principal_point
        return Camera(self.focal_length * scale, ((x - corner[0]) * scale, (y - corner[1]) * scale))


def crop_camera(side: float) -> Camera:
    """Return the camera that every crop is assumed to have, for a crop of `side` pixels."""
    return Camera(FOCAL_LENGTH * side / CROP_RESOLUTION, (side / 2.0, side / 2.0))


def fit_camera(
    points: Float[np.ndarray, "n 3"], pixels: Float[np.ndarray, "n 2"]
) -> tuple[Camera, Float[np.ndarray, "3"]] | None:
    """Fit a camera and a translation that project points to pixels.

    The perspective of a body's joints determines the camera of a crop:
    x (Z + t_z) = f X + c_x Z + (f t_x + c_x t_z) is linear in the unknowns. If a camera far away
    fits the pixels better, that one is returned.

    Args:
        points: in the camera's axes about any origin, metres; six or more.
        pixels: their projections, continuous pixels.

    Returns:
        The camera and the points' translation into its frame, metres; None if no camera fits.
    """
    points, pixels = np.asarray(points, np.float64), np.asarray(pixels, np.float64)
    if len(points) < 6 or not (np.isfinite(points).all() and np.isfinite(pixels).all()):
        return None
    fits = [fit for fit in (_perspective(points, pixels), _from_far(points, pixels)) if fit]
    errors = [np.abs(camera.project(points + shift) - pixels).max() for camera, shift in fits]
    return fits[int(np.argmin(errors))] if fits else None


def _perspective(points: np.ndarray, pixels: np.ndarray) -> tuple[Camera, np.ndarray] | None:
    """Solve the linear equations of `fit_camera`."""
    depth = points[:, 2]
    rows = np.zeros((2, len(points), 6))  # f, c_x, c_y, the two constant terms, t_z
    for axis in (0, 1):
        rows[axis, :, 0] = points[:, axis]
        rows[axis, :, 1 + axis] = depth
        rows[axis, :, 3 + axis] = 1.0
        rows[axis, :, 5] = -pixels[:, axis]
    target = (pixels * depth[:, None]).T.reshape(-1)
    focal, *centre, a, b, distance = np.linalg.lstsq(rows.reshape(-1, 6), target, rcond=None)[0]
    if focal <= 0 or distance + depth.min() <= 0:
        return None
    shift = [(term - c * distance) / focal for term, c in zip((a, b), centre, strict=True)]
    return Camera(float(focal), (float(centre[0]), float(centre[1]))), np.array([*shift, distance])


def _from_far(points: np.ndarray, pixels: np.ndarray) -> tuple[Camera, np.ndarray] | None:
    """Fit scale and shift: a camera at a hundred times the points' extent."""
    flat, middle = points[:, :2] - points[:, :2].mean(0), pixels.mean(0)
    scale = float((flat * (pixels - middle)).sum() / max((flat**2).sum(), 1e-12))
    if scale <= 0:
        return None
    distance = 100.0 * float(np.ptp(points, axis=0).max())
    shift = np.array([*-points[:, :2].mean(0), distance - points[:, 2].mean()])
    return Camera(scale * distance, (float(middle[0]), float(middle[1]))), shift
