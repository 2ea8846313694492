"""Heat maps of what a patch does to each joint of one person."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import jax
import numpy as np
from jaxtyping import Array, Float

from pare_jax import geometry
from pare_jax.body.model import BodyModel
from pare_jax.errors import UserError
from pare_jax.io.files import write_together
from pare_jax.io.images import Picture, cut_crop, encode_png
from pare_jax.io.video import VIDEO_OUTPUT_SUFFIXES, VideoWriter
from pare_jax.prediction.boxes import check_box, crop_of_box
from pare_jax.prediction.person import npz_bytes
from pare_jax.prediction.predictor import Predictor, check_picture
from pare_jax.sensitivity import heat_maps as drawing
from pare_jax.sensitivity.patches import (
    BATCH_SIZE,
    NOWHERE,
    PatchedPredictions,
    PatchGrid,
    answers_under_patches,
    patch_grid,
    route,
)
from pare_jax.skeleton import JOINT_NAMES, NUM_JOINTS

_MM = 1000.0
# Pictures are drawn from a cut of the photograph finer than the network's.
_DRAWN_SIDE = 384
_CLIP_FRAME_RATE = 12
# Meshes posed at once for a clip.
_POSED_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What a patch does to each joint of one person, wherever it lies on the crop.

    Joints are compared with their pelvis at the origin, so that the pelvis itself, joint 0, has
    maps of zeros.

    Attributes:
        maps: for every place of the patch and each joint, mm: the error, where the truth is known;
            otherwise how far the joint is from where it is predicted without patch.
        grid: the patch and its places; map (row, column) is of the place `centres[row, column]`.
        baseline_joints: predicted without patch, pelvis at the origin, camera's axes, metres.
        baseline_errors: their errors, mm; None where the truth is not known.
        crop: the square the network saw, at a size to draw on.
        answers: what was predicted at every place, two leading axes.
        baseline: what was predicted without patch, no leading axis.
        body: that the predictions are posed on.
    """

    maps: Float[np.ndarray, "h w 24"]
    grid: PatchGrid
    baseline_joints: Float[np.ndarray, "24 3"]
    baseline_errors: Float[np.ndarray, "24"] | None
    crop: Picture = dataclasses.field(repr=False)
    answers: PatchedPredictions = dataclasses.field(repr=False)
    baseline: PatchedPredictions = dataclasses.field(repr=False)
    body: BodyModel = dataclasses.field(repr=False)

    @property
    def centres(self) -> Float[np.ndarray, "h w 2"]:
        """The patch's centre (x, y) at every place, pixels of the network's crop."""
        return self.grid.centres

    @property
    def patch(self) -> int:
        """Side of the patch, pixels of the network's crop."""
        return self.grid.patch

    @property
    def overall(self) -> Float[np.ndarray, "h w"]:
        """Mean of all 24 joints, mm: with the truth known this is the MPJPE under the patch."""
        return self.maps.mean(-1)

    @property
    def increase(self) -> Float[np.ndarray, "h w 24"]:
        """What the patch adds to each joint's error, mm; the change, if the truth is not known."""
        return self.maps if self.baseline_errors is None else self.maps - self.baseline_errors

    def vertices(
        self, places: "Sequence[tuple[int, int]] | None" = None
    ) -> Float[np.ndarray, "... vertices 3"]:
        """Pose the mesh, in the crop's camera frame, metres.

        Args:
            places: (row, column) of the grid; None: without patch.

        Returns:
            (places, vertices, 3), or (vertices, 3) without patch.
        """
        if places is None:
            chosen = PatchedPredictions(*(values[None] for values in self.baseline))
        else:
            rows, columns = np.array(places).T
            chosen = PatchedPredictions(*(values[rows, columns] for values in self.answers))
        posed = _vertices(self.body, chosen.betas, chosen.rotations, chosen.camera)
        return np.asarray(posed)[0] if places is None else np.asarray(posed)

    def picture(self) -> Picture:
        """Draw the sheet: the crop with the patch, the mesh, and the map of every joint."""
        return drawing.sensitivity_sheet(self, self.vertices(), np.asarray(self.body.faces))

    def frames(self) -> Iterator[Picture]:
        """Draw the pictures of a clip: the patch sliding over the crop, the mesh following it."""
        faces = np.asarray(self.body.faces)
        scene = drawing.ClipScene(self)
        places_of_clip = route(self.grid)
        for start in range(0, len(places_of_clip), _POSED_AT_ONCE):
            places = places_of_clip[start : start + _POSED_AT_ONCE]
            padded = places + [places[-1]] * (_POSED_AT_ONCE - len(places))
            for place, vertices in zip(places, self.vertices(padded), strict=False):
                yield scene.frame(place, vertices, faces)

    def save(self, path: str | Path) -> None:
        """Write one file; it is there whole or not at all.

        Args:
            path: its suffix says what: `.png` the sheet, `.webm` or `.mp4` the clip, `.npz` the
                maps and the patch's geometry as arrays: maps, overall, centres, patch, stride,
                image_size, baseline_joints, joint_names, and baseline_errors if there are any.

        Raises:
            UserError: another suffix, or a file that cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".png":
            write_together(path.parent, {path.name: encode_png(self.picture())})
        elif suffix == ".npz":
            write_together(path.parent, {path.name: npz_bytes(self._arrays())})
        elif suffix in VIDEO_OUTPUT_SUFFIXES:
            write_together(path.parent, {})
            with VideoWriter(path, _CLIP_FRAME_RATE) as video:
                for frame in self.frames():
                    video.write(frame)
        else:
            raise UserError(f"{path}: sensitivity is saved as .png, .npz, .webm or .mp4")

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {
            "maps": self.maps.astype(np.float32),
            "overall": self.overall.astype(np.float32),
            "centres": self.centres,
            "patch": np.int32(self.grid.patch),
            "stride": np.int32(self.grid.stride),
            "image_size": np.int32(self.grid.image_size),
            "baseline_joints": self.baseline_joints.astype(np.float32),
            "joint_names": np.array(JOINT_NAMES),
        }
        if self.baseline_errors is not None:
            arrays["baseline_errors"] = self.baseline_errors.astype(np.float32)
        return {name: np.asarray(value) for name, value in arrays.items()}


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
        predictor: the network and its body.
        image: RGB, (height, width, 3) uint8.
        box: the person's tight box, x0, y0, x1, y1 in pixels; None: the whole picture.
        patch: side of the patch in pixels of the network's crop; None: as 40 is to 224.
        stride: from place to place in pixels of the network's crop; None: as 8 is to 224.
        truth: the true joints, metres, camera's axes, their origin anywhere; None: not known.
        batch_size: patches predicted at once.
        advance: told after each batch how many patches it had.

    Returns:
        The maps.

    Raises:
        UserError: not such a picture, a bad box, patch or stride, or a network that answers with
            NaN.
    """
    image = np.asarray(image)
    check_picture(image)
    height, width = image.shape[:2]
    corners = check_box((0.0, 0.0, width, height) if box is None else box, height, width)
    centre, side = crop_of_box(corners)
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
    """Slide a patch over a crop of the network's own size; see `occlusion_sensitivity`.

    Args:
        crop: (image_size, image_size, 3) uint8.
        grid: the patch and its places.
        drawn: the same square at a size to draw on; None: the crop enlarged.

    Raises:
        UserError: the network answers with NaN.
    """
    places = np.concatenate([[NOWHERE], grid.centres.reshape(-1, 2)])
    found = answers_under_patches(
        predictor,
        crop[None],
        np.zeros(len(places), int),
        places,
        grid.patch,
        batch_size,
        advance,
    )
    baseline = PatchedPredictions(*(values[0] for values in found))
    rows = (grid.count, grid.count)
    answers = PatchedPredictions(
        *(values[1:].reshape(*rows, *values.shape[1:]) for values in found)
    )
    errors = None
    reference = baseline.joints
    if truth is not None:
        reference = root_centred(truth)
        errors = distances(baseline.joints, reference)
    if drawn is None:
        drawn = cv2.resize(crop, (_DRAWN_SIDE, _DRAWN_SIDE), interpolation=cv2.INTER_CUBIC)
    return Sensitivity(
        maps=distances(answers.joints, reference),
        grid=grid,
        baseline_joints=baseline.joints,
        baseline_errors=errors,
        crop=drawn,
        answers=answers,
        baseline=baseline,
        body=predictor.body,
    )


def root_centred(joints: Float[np.ndarray, "... 24 3"]) -> Float[np.ndarray, "... 24 3"]:
    """Move joints so that the pelvis is at the origin.

    Raises:
        ValueError: not 24 joints.
    """
    joints = np.asarray(joints, np.float64)
    if joints.shape[-2:] != (NUM_JOINTS, 3):
        raise ValueError(f"expected joints of shape (..., {NUM_JOINTS}, 3), got {joints.shape}")
    return joints - joints[..., :1, :]


def distances(
    joints: Float[np.ndarray, "... 24 3"], reference: Float[np.ndarray, "... 24 3"]
) -> Float[np.ndarray, "... 24"]:
    """Return how far joints are from where they should be, mm; both root-centred, metres."""
    return _MM * np.linalg.norm(np.asarray(joints, np.float64) - reference, axis=-1)


@jax.jit
def _vertices(
    body: BodyModel,
    betas: Float[Array, "b 10"],
    rotations: Float[Array, "b 24 3 3"],
    camera: Float[Array, "b 3"],
) -> Float[Array, "b vertices 3"]:
    return body(betas, rotations, geometry.camera_translation(camera)).vertices
