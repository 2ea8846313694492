"""Positions of a patch on a network's crop, and predictions with the patch at each position.

The compiled program paints the patches. A crop is sent to the device once, a patch as its centre.
"""

import collections
import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8

from pare_jax.body.model import BodyModel
from pare_jax.errors import UserError
from pare_jax.models.inference import normalise
from pare_jax.prediction.predictor import Predictor

# Default patch and stride relative to the crop's side: 40 and 8 pixels of 224.
_PATCH_SHARE = 40 / 224
_STRIDE_SHARE = 8 / 224
# A centre so far outside the crop that its patch covers nothing: the prediction without a patch.
NO_PATCH = (-1e6, -1e6)
# JAX arrays inside the compiled program, NumPy arrays outside.
AnyArray: TypeAlias = Any

# Crops predicted at once.
BATCH_SIZE = 32
# Longest clip: ten seconds.
_MAX_FRAMES = 120

# One compiled program for each predictor. Its graph definition is bound, because hashing it in
# every call costs milliseconds.
_programs: weakref.WeakKeyDictionary[Predictor, Callable[..., "PatchedPredictions"]] = (
    weakref.WeakKeyDictionary()
)


@dataclasses.dataclass(frozen=True)
class PatchGrid:
    """Positions of a square patch: a regular grid, symmetric about the crop's centre.

    At the crop's edges a part of the patch lies outside and covers nothing.

    Attributes:
        image_size: side of the network's crop, pixels.
        patch: side of the patch, pixels of the crop.
        stride: distance between neighbouring positions, pixels of the crop.
    """

    image_size: int
    patch: int
    stride: int

    @property
    def count(self) -> int:
        """Number of positions in a row, and number of rows."""
        return -(-self.image_size // self.stride)

    @property
    def axis(self) -> Float[np.ndarray, "n"]:
        """x of the centres in a row, equal to y in a column, pixels of the crop."""
        steps = np.arange(self.count) - (self.count - 1) / 2.0
        return self.image_size / 2.0 + steps * self.stride

    @property
    def centres(self) -> Float[np.ndarray, "n n 2"]:
        """Centre (x, y) of the patch at every position, top row first, pixels of the crop."""
        x, y = np.meshgrid(self.axis, self.axis)
        return np.stack([x, y], -1).astype(np.float32)

    def spread(self, values: Float[np.ndarray, "n n"], side: int) -> Float[np.ndarray, "side side"]:
        """Interpolate one value a position over the crop drawn at `side` pixels."""
        scale = self.image_size / side
        # Position k is at axis[k]; OpenCV's coordinates are those of pixel centres.
        start = (0.5 * scale - self.axis[0]) / self.stride
        affine = np.array([[scale / self.stride, 0, start], [0, scale / self.stride, start]])
        return cv2.warpAffine(
            np.asarray(values, np.float32),
            affine,
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )


def patch_grid(image_size: int, patch: int | None = None, stride: int | None = None) -> PatchGrid:
    """Return the grid of a patch's positions.

    Args:
        image_size: side of the network's crop, pixels.
        patch: side of the patch, pixels of the crop; None: 40/224 of the crop.
        stride: distance between positions, pixels of the crop; None: 8/224 of the crop.

    Raises:
        UserError: the patch or stride is smaller than one pixel or larger than the crop.
    """
    patch = max(1, round(_PATCH_SHARE * image_size)) if patch is None else patch
    stride = max(1, round(_STRIDE_SHARE * image_size)) if stride is None else stride
    for name, value in (("patch", patch), ("stride", stride)):
        if not 1 <= value <= image_size:
            raise UserError(
                f"{name} {value} does not fit a crop of {image_size} pixels a side: "
                f"give a {name} from 1 to {image_size}"
            )
    return PatchGrid(image_size, patch, stride)


class PatchedPredictions(NamedTuple):
    """Predictions with a patch on the crop; any leading axes.

    Attributes:
        joints: pelvis at the origin, camera's axes, metres.
        betas: shape coefficients.
        rotations: each joint's relative to its parent; the root's is into the camera frame.
        camera: the crop camera (s, tx, ty).
    """

    joints: Float[AnyArray, "*patches 24 3"]
    betas: Float[AnyArray, "*patches 10"]
    rotations: Float[AnyArray, "*patches 24 3 3"]
    camera: Float[AnyArray, "*patches 3"]


def predict_with_patches(
    predictor: Predictor,
    crops: UInt8[np.ndarray, "n s s 3"],
    crop_numbers: Int[np.ndarray, "patches"],
    centres: Float[np.ndarray, "patches 2"],
    patch: int,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int], object] | None = None,
) -> PatchedPredictions:
    """Predict crops with one patch on each.

    Every batch runs the same compiled program; the last batch is padded. Calls with the same
    predictor, number of crops and batch size share the program, whatever the size of the patch.

    Args:
        predictor: network and body.
        crops: at the network's size.
        crop_numbers: for each patch the index of its crop.
        centres: of the patches, pixels (x, y); `NO_PATCH` covers nothing.
        patch: side of the patches, pixels.
        batch_size: patches predicted at once.
        advance: called after each batch with its number of patches.

    Returns:
        One row a patch.

    Raises:
        UserError: the network predicts NaN or infinity.
    """
    program = _program(predictor)
    on_device = jax.device_put(np.asarray(crops))
    total = len(crop_numbers)
    # Few patches, such as a table's, need no larger batch than their number.
    batch_size = min(batch_size, total)
    padding = -total % batch_size
    crop_numbers = np.pad(np.asarray(crop_numbers, np.int32), (0, padding))
    centres = np.concatenate([centres, np.full((padding, 2), NO_PATCH)]).astype(np.float32)
    parts: list[PatchedPredictions] = []
    pending: collections.deque[PatchedPredictions] = collections.deque()

    def collect() -> None:
        parts.append(jax.device_get(pending.popleft()))
        if advance is not None:
            advance(min(batch_size, total - batch_size * (len(parts) - 1)))

    for start in range(0, len(crop_numbers), batch_size):
        batch = slice(start, start + batch_size)
        pending.append(
            program(
                predictor.body, on_device, crop_numbers[batch], centres[batch], np.float32(patch)
            )
        )
        # The device computes this batch while the host fetches the one before.
        if len(pending) > 1:
            collect()
    while pending:
        collect()
    predictions = PatchedPredictions(
        *(np.concatenate(values)[:total] for values in zip(*parts, strict=True))
    )
    if not all(np.isfinite(values).all() for values in predictions):
        raise UserError(
            "the network's predictions are not finite: its training diverged; "
            "choose an earlier checkpoint, WORKDIR/checkpoints/STEP"
        )
    return predictions


def _program(predictor: Predictor) -> Callable[..., PatchedPredictions]:
    """Return the compiled program of a predictor's network; made once."""
    program = _programs.get(predictor)
    if program is None:
        graphdef, state = nnx.split(predictor.network)
        program = functools.partial(jax.jit(functools.partial(_predict, graphdef)), state)
        _programs[predictor] = program
    return program


def _predict(
    graphdef: nnx.GraphDef,
    state: nnx.State,
    body: BodyModel,
    crops: UInt8[Array, "n s s 3"],
    crop_numbers: Int[Array, "b"],
    centres: Float[Array, "b 2"],
    patch: Float[Array, ""],
) -> PatchedPredictions:
    hidden = covered(centres, patch, crops.shape[1])
    # The patch is ImageNet's mean, which normalises to 0.
    images = jnp.where(hidden[..., None], 0.0, normalise(crops)[crop_numbers])
    prediction = nnx.merge(graphdef, state)(images)
    joints = body.joints(prediction.betas, prediction.rotations)
    return PatchedPredictions(
        joints - joints[:, :1], prediction.betas, prediction.rotations, prediction.camera
    )


def covered(
    centres: Float[Array, "b 2"], patch: Float[Array, ""] | float, side: int
) -> Bool[Array, "b side side"]:
    """Return masks of the pixels whose centres lie under each patch of `patch` pixels a side.

    A patch of n whole pixels covers n x n pixels wherever it lies inside the crop.
    """
    pixel = jnp.arange(side) + 0.5
    low, high = centres - patch / 2.0, centres + patch / 2.0
    inside = (pixel >= low[..., None]) & (pixel < high[..., None])  # (b, 2, side)
    return inside[:, 1, :, None] & inside[:, 0, None, :]


def route(grid: PatchGrid) -> list[tuple[int, int]]:
    """Return the positions (row, column) that a clip shows, row by row, back and forth.

    Rows are about one patch apart, so that the patch passes over everything once.
    """
    step = max(1, grid.patch // grid.stride)
    rows = _evenly(grid.count, max(1, -(-grid.count // step)))
    columns = _evenly(grid.count, max(1, min(grid.count, _MAX_FRAMES // len(rows))))
    positions = []
    for number, row in enumerate(rows):
        positions += [(row, column) for column in (columns if number % 2 == 0 else columns[::-1])]
    return positions


def _evenly(count: int, wanted: int) -> list[int]:
    """Return `wanted` of `count` indices, each in the middle of its share."""
    return [int((k + 0.5) * count / wanted) for k in range(wanted)]
