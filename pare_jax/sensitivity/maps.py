"""Computes for one person how far each joint moves when a patch hides part of the crop."""

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import jax
import numpy as np
from jaxtyping import Array, Float

from pare_jax import geometry
from pare_jax.body.model import BodyModel
from pare_jax.io.images import Picture, cut_crop
from pare_jax.prediction.boxes import check_box, crop_of_box
from pare_jax.prediction.predictor import Predictor, check_picture
from pare_jax.sensitivity.patches import (
    BATCH_SIZE,
    NO_PATCH,
    PatchedPredictions,
    PatchGrid,
    patch_grid,
    predict_with_patches,
)
from pare_jax.skeleton import NUM_JOINTS

_MM = 1000.0
# Heat maps are drawn on a crop of the photograph finer than the network's.
_DRAWN_SIDE = 384


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """Distance that each joint of one person moves, by position of the patch on the crop.

    Joints are compared with the pelvis at the origin: the maps of the pelvis, joint 0, are zero.

    Attributes:
        maps: for each position of the patch and each joint, mm: the joint's error if the true
            joints are known, else its distance to the prediction without a patch.
        grid: the patch and its positions; map (row, column) belongs to `centres[row, column]`.
        baseline_joints: predicted without a patch, pelvis at the origin, camera's axes, metres.
        baseline_errors: their errors, mm; None if the true joints are unknown.
        crop: the network's crop at a finer size, to draw on.
        predictions: at every position, two leading axes.
        baseline: the prediction without a patch, no leading axis.
        body: the body model of the predictions.
    """

    maps: Float[np.ndarray, "h w 24"]
    grid: PatchGrid
    baseline_joints: Float[np.ndarray, "24 3"]
    baseline_errors: Float[np.ndarray, "24"] | None
    crop: Picture = dataclasses.field(repr=False)
    predictions: PatchedPredictions = dataclasses.field(repr=False)
    baseline: PatchedPredictions = dataclasses.field(repr=False)
    body: BodyModel = dataclasses.field(repr=False)

    @property
    def centres(self) -> Float[np.ndarray, "h w 2"]:
        """Centre (x, y) of the patch at every position, pixels of the network's crop."""
        return self.grid.centres

    @property
    def patch(self) -> int:
        """Side of the patch, pixels of the network's crop."""
        return self.grid.patch

    @property
    def overall(self) -> Float[np.ndarray, "h w"]:
        """Mean over the 24 joints, mm: MPJPE under the patch if the true joints are known."""
        return self.maps.mean(-1)

    @property
    def increase(self) -> Float[np.ndarray, "h w 24"]:
        """Error that the patch adds to each joint, mm; equal to `maps` without true joints."""
        return self.maps if self.baseline_errors is None else self.maps - self.baseline_errors

    def vertices(
        self, positions: Sequence[tuple[int, int]] | None = None
    ) -> Float[np.ndarray, "... vertices 3"]:
        """Return the predicted mesh in the crop's camera frame, metres.

        Args:
            positions: (row, column) of the grid; None: without a patch.

        Returns:
            (positions, vertices, 3), or (vertices, 3) without a patch.
        """
        if positions is None:
            chosen = PatchedPredictions(*(values[None] for values in self.baseline))
        else:
            rows, columns = np.array(positions).T
            chosen = PatchedPredictions(*(values[rows, columns] for values in self.predictions))
        posed = np.asarray(_vertices(self.body, chosen.betas, chosen.rotations, chosen.camera))
        return posed[0] if positions is None else posed


def occlusion_sensitivity(
    predictor: Predictor,
    image: Picture,
    box: Sequence[float] | None = None,
    patch: int | None = None,
    stride: int | None = None,
    truth: Float[np.ndarray, "24 3"] | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int], object] | None = None,
) -> Sensitivity:
    """Slide a patch over one person in a photograph.

    Args:
        predictor: network and body.
        image: RGB, (height, width, 3) uint8.
        box: tight box of the person, x0, y0, x1, y1 in pixels; None: the whole photograph.
        patch: side of the patch, pixels of the network's crop; None: 40/224 of the crop.
        stride: distance between positions, pixels of the network's crop; None: 8/224 of the crop.
        truth: true joints, metres, camera's axes, any origin; None: unknown.
        batch_size: patches predicted at once.
        advance: called after each batch with its number of patches.

    Returns:
        The maps.

    Raises:
        UserError: the image, box, patch or stride is not valid, or the network predicts NaN.
    """
    image = np.asarray(image)
    check_picture(image)
    height, width = image.shape[:2]
    corners = check_box((0.0, 0.0, width, height) if box is None else box, height, width)
    centre, side = crop_of_box(corners, predictor.crop_scale)
    return crop_sensitivity(
        predictor,
        cut_crop(image, centre, side, predictor.image_size),
        patch_grid(predictor.image_size, patch, stride),
        truth,
        drawn=cut_crop(image, centre, side, _DRAWN_SIDE),
        batch_size=batch_size,
        advance=advance,
    )


def crop_sensitivity(
    predictor: Predictor,
    crop: Picture,
    grid: PatchGrid,
    truth: Float[np.ndarray, "24 3"] | None = None,
    *,
    drawn: Picture | None = None,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int], object] | None = None,
) -> Sensitivity:
    """Slide a patch over one crop of the network's size; see `occlusion_sensitivity`.

    Args:
        crop: (image_size, image_size, 3) uint8.
        grid: the patch and its positions.
        drawn: the same square at a finer size, to draw on; None: the crop enlarged.

    Raises:
        UserError: the network predicts NaN.
    """
    centres = np.concatenate([[NO_PATCH], grid.centres.reshape(-1, 2)])
    found = predict_with_patches(
        predictor,
        crop[None],
        np.zeros(len(centres), int),
        centres,
        grid.patch,
        batch_size,
        advance,
    )
    baseline = PatchedPredictions(*(values[0] for values in found))
    shape = (grid.count, grid.count)
    predictions = PatchedPredictions(
        *(values[1:].reshape(*shape, *values.shape[1:]) for values in found)
    )
    errors = None
    reference = baseline.joints
    if truth is not None:
        reference = root_centred(truth)
        errors = distances(baseline.joints, reference)
    if drawn is None:
        drawn = cv2.resize(crop, (_DRAWN_SIDE, _DRAWN_SIDE), interpolation=cv2.INTER_CUBIC)
    return Sensitivity(
        maps=distances(predictions.joints, reference),
        grid=grid,
        baseline_joints=baseline.joints,
        baseline_errors=errors,
        crop=drawn,
        predictions=predictions,
        baseline=baseline,
        body=predictor.body,
    )


def root_centred(joints: Float[np.ndarray, "... 24 3"]) -> Float[np.ndarray, "... 24 3"]:
    """Translate joints so that the pelvis is at the origin.

    Raises:
        ValueError: the shape is not (..., 24, 3).
    """
    joints = np.asarray(joints, np.float64)
    if joints.shape[-2:] != (NUM_JOINTS, 3):
        raise ValueError(f"expected joints of shape (..., {NUM_JOINTS}, 3), got {joints.shape}")
    return joints - joints[..., :1, :]


def distances(
    joints: Float[np.ndarray, "... 24 3"], reference: Float[np.ndarray, "... 24 3"]
) -> Float[np.ndarray, "... 24"]:
    """Return each joint's distance to its reference, mm; inputs root-centred, metres."""
    return _MM * np.linalg.norm(np.asarray(joints, np.float64) - reference, axis=-1)


@jax.jit
def _vertices(
    body: BodyModel,
    betas: Float[Array, "b 10"],
    rotations: Float[Array, "b 24 3 3"],
    camera: Float[Array, "b 3"],
) -> Float[Array, "b vertices 3"]:
    return body(betas, rotations, geometry.camera_translation(camera)).vertices
