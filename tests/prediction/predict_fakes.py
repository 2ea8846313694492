"""A stand-in for a trained network that finds red spots, and photographs with red spots."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pare_jax import geometry, predict
from pare_jax.body.io import load_body_data
from pare_jax.models.prediction import Prediction
from pare_jax.prediction.predictor import Predictor

SIZE = 64
SPOT = (250, 40, 40)
BLUE = (40, 40, 250)


class Finder(nnx.Module):
    """Predicts an upright person whose pelvis is at the centre of the crop's red pixels.

    With `fails_on_blue`, one number of the output for a crop with blue pixels is NaN.
    """

    def __init__(self, attention: bool = True, scale: float = 0.6, fails_on_blue: bool = False):
        self.fails_on_blue = fails_on_blue
        self.scale = nnx.Param(jnp.float32(scale))
        self.attention = attention

    def __call__(self, images):
        red = (images[..., 0] - images[..., 1] > 2.0).astype(jnp.float32)
        red = red / jnp.maximum(red.sum((1, 2), keepdims=True), 1.0)
        grid = (jnp.arange(SIZE) + 0.5) / (SIZE / 2) - 1
        x, y = (red.sum(1) * grid).sum(-1), (red.sum(2) * grid).sum(-1)
        scale = jnp.broadcast_to(self.scale[...], x.shape)
        turn = geometry.axis_angle_to_matrix(jnp.array([jnp.pi, 0.0, 0.0]))
        rotations = jnp.broadcast_to(jnp.eye(3), (len(images), 24, 3, 3)).at[:, 0].set(turn)
        # The body model's pelvis is not at its origin; see `pelvis`.
        camera = jnp.stack([scale, x / scale - self.pelvis[0], y / scale - self.pelvis[1]], -1)
        attention = None
        if self.attention:
            attention = jnp.full((len(images), 16, 16, 24), 1 / 256)
        betas = jnp.zeros((len(images), 10))
        if self.fails_on_blue:
            blue = (images[..., 2] - images[..., 0] > 2.0).any((1, 2))
            betas = betas.at[:, 3].set(jnp.where(blue, jnp.nan, 0.0))
        return Prediction(rotations, betas, camera, None, attention)

    pelvis = (0.0, 0.0)


def make_predictor(
    body, *, attention: bool = True, scale: float = 0.6, fails_on_blue: bool = False
) -> Predictor:
    """Return a predictor with a `Finder`; with a scale of NaN all its outputs are NaN."""
    turn = geometry.axis_angle_to_matrix(jnp.array([jnp.pi, 0.0, 0.0]))
    rotations = jnp.broadcast_to(jnp.eye(3), (24, 3, 3)).at[0].set(turn)
    joints = jax.jit(body.joints)(jnp.zeros(10), rotations)
    Finder.pelvis = tuple(np.asarray(joints)[0, :2].tolist())
    return Predictor(Finder(attention, scale, fails_on_blue), body, SIZE, load_body_data())


def photo_with_spots(
    *centres: tuple[float, float],
    height: int = 300,
    width: int = 400,
    colour: tuple[int, int, int] = SPOT,
):
    """Return a grey photograph with discs of radius 12 pixels, by default red, at (x, y)."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    picture = np.full((height, width, 3), 120, np.uint8)
    for x, y in centres:
        picture[(columns - x) ** 2 + (rows - y) ** 2 < 144] = colour
    return picture


def box_about(x: float, y: float, width: float = 100, height: float = 180):
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def run_predict(output: Path, arguments: Sequence[object], capsys: pytest.CaptureFixture):
    """Run the command; return its exit status, its output and its lines on stderr."""
    argv = ["predict", "--checkpoint=run", f"--output={output}", *map(str, arguments)]
    if not any(argument.startswith("--boxes") for argument in argv):
        argv.insert(1, "--detector=whole")  # a default that needs no files
    status = predict.main(argv)
    printed = capsys.readouterr()
    # Slow machines print progress.
    errors = [line for line in printed.err.splitlines() if not line.endswith(" left")]
    return status, printed.out, errors
