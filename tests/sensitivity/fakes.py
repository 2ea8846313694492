"""A network in which each forearm depends on one region of the crop, and nothing else does."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from pare_jax import geometry
from pare_jax.body.model import body_from_data
from pare_jax.models.prediction import Prediction
from pare_jax.prediction.predictor import Predictor
from pare_jax.skeleton import joint_index
from tests.prediction.made_up_people import small_body

SIZE = 32
# Each elbow bends by the mean of the red channel over these rows and columns of the crop.
REGIONS = {
    "left_elbow": (slice(6, 10), slice(20, 26)),
    "right_elbow": (slice(18, 24), slice(3, 8)),
}
# The joints that each elbow moves.
MOVED = {
    "left_elbow": ("left_wrist", "left_hand"),
    "right_elbow": ("right_wrist", "right_hand"),
}
RED = (230, 90, 60)


class Elbows(nnx.Module):
    """Predicts an upright person whose elbows bend with the colour of their regions."""

    def __init__(self, gain: float = 1.0):
        self.gain = nnx.Param(jnp.float32(gain))

    def __call__(self, images):
        axis_angle = jnp.zeros((len(images), 24, 3)).at[:, 0, 0].set(jnp.pi)
        for name, (rows, columns) in REGIONS.items():
            bend = images[:, rows, columns, 0].mean((1, 2)) * self.gain[...]
            axis_angle = axis_angle.at[:, joint_index(name), 1].set(bend)
        count = len(images)
        camera = jnp.broadcast_to(jnp.array([0.9, 0.0, 0.0]), (count, 3))
        rotations = geometry.axis_angle_to_matrix(axis_angle)
        return Prediction(rotations, jnp.zeros((count, 10)), camera, None, None)


def make_predictor(gain: float = 1.0) -> Predictor:
    return Predictor(Elbows(gain), body_from_data(small_body()), SIZE)


def red_crop() -> np.ndarray:
    """Return a crop without the patch's colour."""
    return np.full((SIZE, SIZE, 3), RED, np.uint8)


def pixels_covered(centre, patch: float) -> np.ndarray:
    """Return a mask of the pixels whose centres lie under the patch; the slow reference."""
    hidden = np.zeros((SIZE, SIZE), bool)
    for y in range(SIZE):
        for x in range(SIZE):
            inside_x = centre[0] - patch / 2 <= x + 0.5 < centre[0] + patch / 2
            inside_y = centre[1] - patch / 2 <= y + 0.5 < centre[1] + patch / 2
            hidden[y, x] = inside_x and inside_y
    return hidden
