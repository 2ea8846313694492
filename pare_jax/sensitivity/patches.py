"""Where patches lie on a network's crop, and what the network answers under them.

Patches are painted on the device, inside the compiled program: a crop is sent once, and of each
patch only where it is.
"""

import collections
import dataclasses
import functools
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

# Patch and stride over the side of the crop, where none are given: 40 and 8 pixels of 224.
_PATCH_SHARE = 40 / 224
_STRIDE_SHARE = 8 / 224
# The centre of a patch that covers nothing, so that the unoccluded picture is a place like others.
NOWHERE = (-1e6, -1e6)
# Arrays of JAX within the compiled program, of NumPy outside.
AnyArray: TypeAlias = Any

# Crops the network sees at once.
BATCH_SIZE = 32
# A clip has no more frames than this: ten seconds.
_MAX_FRAMES = 120


@dataclasses.dataclass(frozen=True)
class PatchGrid:
    """Places of a square patch, evenly over the whole crop and symmetric about its middle.

    At the edges part of the patch lies outside of the crop, where it covers nothing.

    Attributes:
        image_size: side of the network's crop, pixels.
        patch: side of the patch, pixels of the crop.
        stride: from one place to the next, pixels of the crop.
    """

    image_size: int
    patch: int
    stride: int

    @property
    def count(self) -> int:
        """How many places there are in a row, and how many rows."""
        return -(-self.image_size // self.stride)

    @property
    def axis(self) -> Float[np.ndarray, "n"]:
        """The centres' x in a row of places, or y in a column, pixels of the crop."""
        steps = np.arange(self.count) - (self.count - 1) / 2.0
        return self.image_size / 2.0 + steps * self.stride

    @property
    def centres(self) -> Float[np.ndarray, "n n 2"]:
        """The patch's centre (x, y) at every place, pixels of the crop; rows go down."""
        x, y = np.meshgrid(self.axis, self.axis)
        return np.stack([x, y], -1).astype(np.float32)

    def spread(self, values: Float[np.ndarray, "n n"], side: int) -> Float[np.ndarray, "side side"]:
        """Lay one value a place over the crop drawn at `side` pixels, interpolating between."""
        scale = self.image_size / side
        # Place k is at axis[k]; OpenCV counts pixels from their centres.
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
    """Choose the places of a patch.

    Args:
        image_size: side of the network's crop, pixels.
        patch: its side in pixels of the crop; None: as 40 is to 224.
        stride: pixels of the crop; None: as 8 is to 224.

    Raises:
        UserError: a patch or stride of less than a pixel or larger than the crop.
    """
    patch = max(1, round(_PATCH_SHARE * image_size)) if patch is None else patch
    stride = max(1, round(_STRIDE_SHARE * image_size)) if stride is None else stride
    for name, value in (("patch", patch), ("stride", stride)):
        if not 1 <= value <= image_size:
            raise UserError(
                f"{name} {value} does not fit: this network's crop has {image_size} pixels a side, "
                f"so the {name} must be between 1 and {image_size}"
            )
    return PatchGrid(image_size, patch, stride)


class PatchedPredictions(NamedTuple):
    """What the network answers under each patch; any leading axes.

    Attributes:
        joints: the pelvis at the origin, camera's axes, metres.
        betas: shape coefficients.
        rotations: of each joint relative to its parent, the root's into the camera frame.
        camera: the crop's (s, tx, ty).
    """

    joints: Float[AnyArray, "*patches 24 3"]
    betas: Float[AnyArray, "*patches 10"]
    rotations: Float[AnyArray, "*patches 24 3 3"]
    camera: Float[AnyArray, "*patches 3"]


def answers_under_patches(
    predictor: Predictor,
    crops: UInt8[np.ndarray, "n s s 3"],
    which: Int[np.ndarray, "patches"],
    centres: Float[np.ndarray, "patches 2"],
    patch: int,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int], object] | None = None,
) -> PatchedPredictions:
    """Predict crops with one patch on each.

    All batches run the same compiled program, the last one filled up; so do calls with as many
    crops, whatever their patches.

    Args:
        predictor: the network and its body.
        crops: of the network's size.
        which: the crop that each patch is laid on.
        centres: of the patches, pixels (x, y); `NOWHERE` covers nothing.
        patch: side of the patches, pixels.
        batch_size: patches predicted at once.
        advance: told after each batch how many patches it had.

    Returns:
        One row a patch.

    Raises:
        UserError: the network answers with NaN or infinity.
    """
    graphdef, state = nnx.split(predictor.network)
    on_device = jax.device_put(np.asarray(crops))
    total = len(which)
    # A short row of patches, such as a table's few, needs no larger program than itself.
    batch_size = min(batch_size, total)
    padding = -total % batch_size
    which = np.concatenate([np.asarray(which, np.int32), np.zeros(padding, np.int32)])
    centres = np.concatenate([centres, np.full((padding, 2), NOWHERE)]).astype(np.float32)
    parts: list[PatchedPredictions] = []
    under_way: collections.deque[PatchedPredictions] = collections.deque()

    def collect() -> None:
        parts.append(jax.device_get(under_way.popleft()))
        if advance is not None:
            advance(min(batch_size, total - batch_size * (len(parts) - 1)))

    for start in range(0, len(which), batch_size):
        chosen = slice(start, start + batch_size)
        under_way.append(
            _answers(
                state,
                predictor.body,
                on_device,
                which[chosen],
                centres[chosen],
                np.float32(patch),
                graphdef=graphdef,
            )
        )
        # The device works on a batch while the host takes in the one before.
        if len(under_way) > 1:
            collect()
    while under_way:
        collect()
    found = PatchedPredictions(
        *(np.concatenate(values)[:total] for values in zip(*parts, strict=True))
    )
    if not all(np.isfinite(values).all() for values in found):
        raise UserError(
            "the network's answers are not finite: the checkpoint is of a run that diverged; "
            "choose an earlier one"
        )
    return found


@functools.partial(jax.jit, static_argnames="graphdef")
def _answers(
    state: nnx.State,
    body: BodyModel,
    crops: UInt8[Array, "n s s 3"],
    which: Int[Array, "b"],
    centres: Float[Array, "b 2"],
    patch: Float[Array, ""],
    *,
    graphdef: nnx.GraphDef,
) -> PatchedPredictions:
    hidden = covered(centres, patch, crops.shape[1])
    # Grey is ImageNet's mean, which normalising takes to 0.
    pictures = jnp.where(hidden[..., None], 0.0, normalise(crops)[which])
    prediction = nnx.merge(graphdef, state)(pictures)
    joints = body.joints(prediction.betas, prediction.rotations)
    return PatchedPredictions(
        joints - joints[:, :1], prediction.betas, prediction.rotations, prediction.camera
    )


def covered(
    centres: Float[Array, "b 2"], patch: Float[Array, ""] | float, side: int
) -> Bool[Array, "b side side"]:
    """Say which pixels' centres each patch covers, for patches of `patch` pixels a side.

    A patch of a whole number of pixels covers as many, wherever it lies within the picture.
    """
    place = jnp.arange(side) + 0.5
    low, high = centres - patch / 2.0, centres + patch / 2.0
    inside = (place >= low[..., None]) & (place < high[..., None])  # (b, 2, side)
    return inside[:, 1, :, None] & inside[:, 0, None, :]


def route(places: PatchGrid) -> list[tuple[int, int]]:
    """Return the places (row, column) a clip goes through, back and forth from the top.

    Its rows are about a patch apart, so that the patch passes over everything once.
    """
    step = max(1, places.patch // places.stride)
    rows = _evenly(places.count, max(1, -(-places.count // step)))
    columns = _evenly(places.count, max(1, min(places.count, _MAX_FRAMES // len(rows))))
    found = []
    for number, line in enumerate(rows):
        found += [(line, column) for column in (columns if number % 2 == 0 else columns[::-1])]
    return found


def _evenly(count: int, wanted: int) -> list[int]:
    """Choose `wanted` of `count` numbers, each in the middle of its share."""
    return [int((k + 0.5) * count / wanted) for k in range(wanted)]
