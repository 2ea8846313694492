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
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.sets import COCO17, point_index
from pare_jax.models.prediction import Prediction
from pare_jax.prediction.network_inputs import UPRIGHT
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
    if not any(argument.startswith(("--boxes", "--keypoints")) for argument in argv):
        argv.insert(1, "--detector=whole")  # a default that needs no files
    status = predict.main(argv)
    printed = capsys.readouterr()
    # Slow machines print progress.
    errors = [line for line in printed.err.splitlines() if not line.endswith(" left")]
    return status, printed.out, errors


class PointReader(nnx.Module):
    """Predicts an upright person whose pelvis is at the middle of the hips, from body points."""

    def __call__(self, points):
        hips = jnp.array([point_index("left_hip"), point_index("right_hip")])
        place = points[:, hips, :2].mean(1)
        scale = jnp.full(len(points), 0.6)
        turn = geometry.axis_angle_to_matrix(jnp.array([jnp.pi, 0.0, 0.0]))
        rotations = jnp.broadcast_to(jnp.eye(3), (len(points), 24, 3, 3)).at[:, 0].set(turn)
        shift = place / scale[:, None] - jnp.array(Finder.pelvis)
        camera = jnp.concatenate([scale[:, None], shift], -1)
        return Prediction(rotations, jnp.zeros((len(points), 10)), camera)


class SpotSource:
    """Sees a person where a box has red pixels: COCO's points of an upright figure about them."""

    def look(self, image, boxes):
        found = []
        for x0, y0, x1, y1 in np.asarray(boxes, int):
            part = image[max(y0, 0) : y1, max(x0, 0) : x1].astype(int)
            rows, columns = np.nonzero(part[..., 0] - part[..., 1] > 100)
            if not len(rows):
                found.append(None)
                continue
            at = (columns.mean() + max(x0, 0) + 0.5, rows.mean() + max(y0, 0) + 0.5)
            found.append(coco_figure(at, np.array([x0, y0, x1, y1], float)))
        return found


def coco_figure(hips, box=None, size: float = 2.0) -> Keypoints:
    """Return COCO's keypoints of an upright figure whose hips are about a place."""
    places = (np.array(UPRIGHT) - (50.0, 49.0)) * size / 2 + hips
    return Keypoints(COCO17, places, np.full(len(places), 0.9), None, box, 0.8)


def make_point_predictor(body, source=None) -> Predictor:
    """Return a predictor with a `PointReader`."""
    make_predictor(body)  # sets the pelvis
    return Predictor(PointReader(), body, None, load_body_data(), source=source)
