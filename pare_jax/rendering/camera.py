"""A pinhole camera as numpy sees it: what the drawing functions and predictions share."""

import dataclasses

import numpy as np
from jaxtyping import Float

# pare_jax.geometry's FOCAL_LENGTH and CROP_RESOLUTION, said again because that module loads jax
# (a test holds the two together).
FOCAL_LENGTH = 5000.0
CROP_RESOLUTION = 224


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
