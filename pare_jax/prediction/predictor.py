"""Predicts people: photographs and boxes in, `Person`s out."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from pare_jax import geometry
from pare_jax.body.io import BodyData
from pare_jax.body.model import BodyModel, body_from_data
from pare_jax.crop import BOX_SCALE
from pare_jax.errors import UserError
from pare_jax.io.images import Picture, cut_crop
from pare_jax.models.folding import fold
from pare_jax.models.inference import predict_step
from pare_jax.prediction.answers import Crop, DivergedError, PendingPeople, not_finite, person_of
from pare_jax.prediction.boxes import check_box, crop_of_box
from pare_jax.prediction.focal_length import given_focal_length
from pare_jax.prediction.person import Person
from pare_jax.training.config import check_crop_scale, crop_scale_of, warning_of
from pare_jax.training.trained_run import load_model, split_checkpoint
from pare_jax.training.workdir import load_run_body

# People computed at once; fewer are padded to a power of two, so that few programs are compiled.
MAX_BATCH = 16
# A smaller photograph cannot show a person.
MIN_PICTURE_SIDE = 16

Box = Sequence[float]
# The arrays of a batch of people by name; None for an array that the network does not have.
_Arrays = dict[str, jax.Array | None]


class Predictor:
    """A trained network with its body model: photographs and boxes in, `Person`s out.

    Attributes:
        body: the body model of the predictions.
        image_size: side of the network's input, pixels.
        crop_scale: side of a crop over the longer side of its box.
        network: maps normalised crops to a `Prediction`; for inference only.
        body_data: the body model as read from its file, for animations and pages; may be None.
        warning: a sentence about the network that its users must see; None if there is none.
    """

    def __init__(
        self,
        module: nnx.Module,
        body: BodyModel,
        image_size: int,
        body_data: BodyData | None = None,
        crop_scale: float = BOX_SCALE,
        warning: str | None = None,
    ):
        """Take a network and fold its batch normalisations into its convolutions.

        Args:
            module: maps normalised crops to a `Prediction`.
            body: the body model that it was trained with.
            image_size: side of its crops, pixels.
            body_data: the same body model as read from its file.
            crop_scale: side of a crop over the longer side of its box.
            warning: see the attribute.
        """
        self.body = body
        self.body_data = body_data
        self.warning = warning
        self.image_size = image_size
        self.crop_scale = crop_scale
        self.network = fold(module)
        self._program, self._weights = compiled_network(self.network)
        self._diverged: bool | None = None  # None until outputs that are not finite are met

    @functools.cached_property
    def faces(self) -> np.ndarray:
        """The triangles of the body model's mesh, (F, 3)."""
        return np.asarray(self.body.faces)

    def __call__(
        self,
        image: Picture,
        boxes: Iterable[Box] | None = None,
        focal_length: float | None = None,
    ) -> list[Person]:
        """Predict the people in one photograph.

        Args:
            image: RGB, (height, width, 3) uint8, as `pare_jax.io.images.read_image` returns it.
            boxes: tight boxes of people, (N, 4): x0, y0, x1, y1 in pixels. None: the whole
                photograph is one person.
            focal_length: of the camera that took the photograph, pixels of `image`, for people's
                places in its scene; None: unknown. Pixels do not depend on it.

        Returns:
            One person for each box, in order.

        Raises:
            UserError: another kind of array, a bad box or focal length, or outputs that are not
                finite.
        """
        return self.batch([image], [boxes], [focal_length])[0]

    def batch(
        self,
        images: Sequence[Picture],
        boxes: Sequence[Iterable[Box] | None] | None = None,
        focal_lengths: Sequence[float | None] | None = None,
    ) -> list[list[Person]]:
        """Predict the people in several photographs, up to `MAX_BATCH` people at once.

        Args:
            images: RGB, of any sizes.
            boxes: of each photograph, as in `__call__`; None: each photograph is one person.
            focal_lengths: of each photograph, as in `__call__`; None: all are unknown.

        Returns:
            For each photograph one person for each box, in order.

        Raises:
            UserError: as `__call__`; or another number of lists of boxes or of focal lengths than
                of photographs.
        """
        boxes = [None] * len(images) if boxes is None else boxes
        focal_lengths = [None] * len(images) if focal_lengths is None else focal_lengths
        if len(focal_lengths) != len(images):
            raise UserError(
                f"photographs: {len(images)}, focal lengths: {len(focal_lengths)}; give one for "
                "each photograph, None where it is unknown"
            )
        if len(boxes) != len(images):
            raise UserError(
                f"photographs: {len(images)}, lists of boxes: {len(boxes)}; give one list for "
                "each photograph, [] for nobody"
            )
        images = [np.asarray(image) for image in images]
        checked = [_checked_boxes(image, own) for image, own in zip(images, boxes, strict=True)]
        focals = [
            given_focal_length(pixels, (image.shape[1], image.shape[0]))
            for image, pixels in zip(images, focal_lengths, strict=True)
        ]
        jobs = [(image, box) for image, own in zip(images, checked, strict=True) for box in own]
        people = (
            person
            for start in range(0, len(jobs), MAX_BATCH)
            for person in self.start(
                [self.crop(*job) for job in jobs[start : start + MAX_BATCH]]
            ).people()
        )
        return [
            [focal.of(next(people)) for _ in own]
            for own, focal in zip(checked, focals, strict=True)
        ]

    def crop(self, image: Picture, box: Box | Float[np.ndarray, "4"]) -> Crop:
        """Cut out the network's input for the person in a box.

        Args:
            image: RGB, (height, width, 3) uint8.
            box: x0, y0, x1, y1 in pixels.

        Raises:
            UserError: a bad box.
        """
        checked = check_box(box, *image.shape[:2])
        centre, side = crop_of_box(checked, self.crop_scale)
        return Crop(cut_crop(image, centre, side, self.image_size), checked, centre, side)

    def start(self, crops: Sequence[Crop], pad_to: int = 0) -> PendingPeople:
        """Start the network on crops and return before it has finished.

        Args:
            crops: at least one; all are computed at once.
            pad_to: fewer crops are padded to this number, so that one program serves all.

        Returns:
            The people, once they are computed.
        """
        padded = max(pad_to, 1 << (len(crops) - 1).bit_length())
        inputs = np.zeros((padded, self.image_size, self.image_size, 3), np.uint8)
        for row, crop in zip(inputs, crops, strict=False):
            row[:] = crop.pixels
        outputs = self._program(self._weights, self.body, inputs)
        return PendingPeople(outputs, crops, self.faces, lambda: self._check_diverged(padded))

    def _check_diverged(self, batch_size: int) -> None:
        """Raise DivergedError if the outputs are not finite even for a grey photograph."""
        if self._diverged is None:
            size = self.image_size
            grey = np.full((size, size, 3), 128, np.uint8)
            crop = self.crop(grey, (0.0, 0.0, size, size))
            outputs = next(self.start([crop], pad_to=batch_size).outputs())
            self._diverged = not_finite(outputs) is not None
        if self._diverged:
            raise DivergedError(
                "the network's outputs are not finite for any photograph: its training diverged; "
                "choose an earlier checkpoint, WORKDIR/checkpoints/STEP"
            )

    def pose(
        self,
        betas: Float[np.ndarray, "n 10"],
        rotations: Float[np.ndarray, "n 24 3 3"],
        translations: Float[np.ndarray, "n 3"],
        boxes: Float[np.ndarray, "n 4"],
    ) -> list[Person]:
        """Pose the body model in known poses, such as a smoothed track's, without the network.

        Args:
            betas: shape coefficients.
            rotations: relative to the parent joint, the root's into the camera frame.
            translations: in the frame of each box's crop camera, metres.
            boxes: tight boxes, pixels of the photograph.

        Returns:
            One person for each row, without attention.
        """
        people = []
        for start in range(0, len(betas), MAX_BATCH):
            rows = slice(start, start + MAX_BATCH)
            people += self._posed(betas[rows], rotations[rows], translations[rows], boxes[rows])
        return people

    def _posed(self, betas, rotations, translations, boxes) -> list[Person]:
        count = len(betas)
        padding = (1 << (count - 1).bit_length()) - count
        padded = [
            np.concatenate([value, np.repeat(value[:1], padding, axis=0)]).astype(np.float32)
            for value in map(np.asarray, (betas, rotations, translations))
        ]
        boxes = np.asarray(boxes, np.float64)
        no_pixels = np.zeros((0, 0, 3), np.uint8)
        crops = [Crop(no_pixels, box, *crop_of_box(box, self.crop_scale)) for box in boxes]
        outputs = PendingPeople(_known_people(self.body, *padded), crops, self.faces).outputs()
        return [person_of(row, crop, self.faces) for row, crop in zip(outputs, crops, strict=True)]


def load_predictor(
    checkpoint_or_workdir: str | Path,
    weights: str = "auto",
    body: str | Path | None = None,
    crop_scale: float | None = None,
    say: Callable[[str], object] | None = None,
) -> Predictor:
    """Load a trained network and its body model.

    Args:
        checkpoint_or_workdir: a run's folder, or one checkpoint's folder within it.
        weights: "swa", "last", or "auto" for the run's `eval.weights`.
        body: file of the run's body model, if it has moved; None: the path in the run's config.
        crop_scale: side of a crop over the longer side of its box; None: the run's, which is 1.2
            for runs without the key.
        say: see `load_model`.

    Returns:
        The predictor; its first call compiles the network.

    Raises:
        UserError: no such run, a damaged checkpoint or one of another architecture; a body model
            that is missing or is not the run's; or a crop scale out of range.
    """
    if crop_scale is not None:
        check_crop_scale(crop_scale, "crop_scale")
    config, module = load_model(checkpoint_or_workdir, weights, say)
    scale = crop_scale_of(config, checkpoint_or_workdir) if crop_scale is None else crop_scale
    workdir, _ = split_checkpoint(checkpoint_or_workdir)
    data = load_run_body(workdir, config, body)
    return Predictor(
        module,
        body_from_data(data),
        config.image_size,
        data,
        crop_scale=scale,
        warning=warning_of(config),
    )


def check_picture(image: np.ndarray) -> None:
    """Raise UserError unless this is an RGB uint8 photograph large enough to show a person."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"expected a photograph of shape (height, width, 3) and type uint8, not {image.shape} "
            f"{image.dtype}; pare_jax.io.images.read_image reads any file as one"
        )
    height, width = image.shape[:2]
    if min(height, width) < MIN_PICTURE_SIDE:
        raise UserError(
            f"the photograph of {width} x {height} pixels is too small to show a person; "
            f"each side needs at least {MIN_PICTURE_SIDE}"
        )


def _checked_boxes(image: np.ndarray, boxes: Iterable[Box] | None) -> list[np.ndarray]:
    check_picture(image)
    height, width = image.shape[:2]
    boxes = [(0.0, 0.0, width, height)] if boxes is None else boxes
    return [check_box(box, height, width) for box in boxes]


def compiled_network(network: nnx.Module) -> tuple[Callable[..., _Arrays], list[jax.Array]]:
    """Return a jitted function that predicts people from crops, and the weights that it takes.

    Args:
        network: maps normalised crops to a `Prediction`.

    Returns:
        (weights, body, images) -> arrays of `Person` by name, with images (b, s, s, 3) uint8; and
        the weights.
    """
    graphdef, params, batch_stats = nnx.split(network, nnx.Param, ...)
    # The function keeps the graph, and weights are a flat list: hashing HRNet's graph at each
    # call would take 4 ms, and walking its state 0.9 ms.
    weights, structure = jax.tree.flatten((params, batch_stats))

    @jax.jit
    def predict_people(weights: list[jax.Array], body: BodyModel, images: jax.Array) -> _Arrays:
        params, batch_stats = jax.tree.unflatten(structure, weights)
        prediction = predict_step(params, batch_stats, images, graphdef=graphdef)
        translation = geometry.camera_translation(prediction.camera)
        return {
            **_posed_body(body, prediction.betas, prediction.rotations, translation),
            "camera_crop": prediction.camera,
            "attention": prediction.attention,
        }

    return predict_people, weights


@jax.jit
def _known_people(
    body: BodyModel,
    betas: Float[Array, "n 10"],
    rotations: Float[Array, "n 24 3 3"],
    translation: Float[Array, "n 3"],
) -> _Arrays:
    # The crop camera is the inverse of `geometry.camera_translation`.
    depth = translation[:, 2:]
    scale = 2.0 * geometry.FOCAL_LENGTH / (geometry.CROP_RESOLUTION * depth)
    return {
        **_posed_body(body, betas, rotations, translation),
        "camera_crop": jnp.concatenate([scale, translation[:, :2]], axis=1),
    }


def _posed_body(
    body: BodyModel,
    betas: Float[Array, "n 10"],
    rotations: Float[Array, "n 24 3 3"],
    translation: Float[Array, "n 3"],
) -> _Arrays:
    posed = body(betas, rotations, translation)
    pose = geometry.matrix_to_axis_angle(rotations)
    return {
        "betas": betas,
        "rotations": rotations,
        "pose": pose.reshape(len(betas), -1),
        "translation": translation,
        "joints_3d": posed.joints,
        "vertices": posed.vertices,
    }
