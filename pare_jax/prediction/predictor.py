"""A trained network with its body: pictures in, people out."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from pare_jax import geometry
from pare_jax.body.io import BodyData, load_body_data
from pare_jax.body.model import BodyModel, body_from_data
from pare_jax.errors import UserError
from pare_jax.io.images import Picture, cut_crop
from pare_jax.models.folding import fold
from pare_jax.models.inference import predict_step
from pare_jax.prediction.answers import Crop, DivergedError, PendingPeople, not_finite, person_of
from pare_jax.prediction.boxes import check_box, crop_of_box
from pare_jax.prediction.person import Person
from pare_jax.training.checkpoints import load_model, split_checkpoint
from pare_jax.training.workdir import check_same_body

# People computed at once; fewer are padded to a power of two, so that few programs are compiled.
MAX_BATCH = 16
# Below this a picture cannot show a person.
MIN_PICTURE_SIDE = 16

Box = Sequence[float]


class Predictor:
    """A trained network with its body: pictures in, `Person`s out.

    Attributes:
        body: the body model the predictions are posed on.
        image_size: side of the network's input, pixels.
        network: maps normalised crops to a `Prediction`; for inference alone.
        body_data: the body as it was read, for animations and pages; None if it was not given.
    """

    def __init__(
        self,
        module: nnx.Module,
        body: BodyModel,
        image_size: int,
        body_data: BodyData | None = None,
    ):
        """Take a network; its batch normalisations are folded into its convolutions.

        Args:
            module: maps normalised crops to a `Prediction`.
            body: the body it was trained with.
            image_size: the side of its crops in pixels.
            body_data: the same body as it was read.
        """
        self.body = body
        self.body_data = body_data
        self.image_size = image_size
        self.network = fold(module)
        self._graphdef, self._params, self._batch_stats = nnx.split(self.network, nnx.Param, ...)
        self._is_sound: bool | None = None  # whether it answers a blank picture, once it is asked

    @functools.cached_property
    def faces(self) -> np.ndarray:
        """The triangles of the body's mesh, (F, 3)."""
        return np.asarray(self.body.faces)

    def __call__(self, image: Picture, boxes: Iterable[Box] | None = None) -> list[Person]:
        """Predict the people in one picture.

        Args:
            image: RGB, (height, width, 3) uint8, as `pare_jax.io.images.read_image` gives it.
            boxes: tight boxes of people, (N, 4): x0, y0, x1, y1 in pixels. None: the whole picture
                is one person.

        Returns:
            One person a box, in order.

        Raises:
            UserError: not such a picture, a bad box, or a network that answers with NaN.
        """
        return self.batch([image], [boxes])[0]

    def batch(
        self,
        images: Sequence[Picture],
        boxes: Sequence[Iterable[Box] | None] | None = None,
    ) -> list[list[Person]]:
        """Predict the people in several pictures, up to `MAX_BATCH` at once across pictures.

        Args:
            images: RGB, of any sizes.
            boxes: of each picture, as `__call__` takes them; None: every picture is one person.

        Returns:
            For each picture one person a box, in order.

        Raises:
            UserError: as `__call__`, or not as many lists of boxes as pictures; nothing is
                computed then.
        """
        boxes = [None] * len(images) if boxes is None else boxes
        if len(boxes) != len(images):
            raise UserError(
                f"pictures: {len(images)}, lists of boxes: {len(boxes)}; give one list for each "
                "picture, [] where there is nobody"
            )
        checked = [
            _checked(np.asarray(image), own) for image, own in zip(images, boxes, strict=True)
        ]
        jobs = [
            (np.asarray(image), box)
            for image, own in zip(images, checked, strict=True)
            for box in own
        ]
        found: Iterator[Person] = (
            person
            for start in range(0, len(jobs), MAX_BATCH)
            for person in self.start(
                [self.crop(*job) for job in jobs[start : start + MAX_BATCH]]
            ).people()
        )
        return [[next(found) for _ in own] for own in checked]

    def crop(self, image: Picture, box: Box | Float[np.ndarray, "4"]) -> Crop:
        """Cut out what the network looks at for the person in a box.

        Args:
            image: RGB, (height, width, 3) uint8.
            box: x0, y0, x1, y1 in pixels.

        Raises:
            UserError: a bad box.
        """
        checked = check_box(box, *image.shape[:2])
        centre, side = crop_of_box(checked)
        return Crop(cut_crop(image, centre, side, self.image_size), checked, centre, side)

    def start(self, crops: Sequence[Crop], pad_to: int = 0) -> PendingPeople:
        """Let the network begin and come back at once.

        Args:
            crops: 1 to any number, all computed at once.
            pad_to: fewer are filled up to as many, so that no other program is compiled.

        Returns:
            What will tell the people.
        """
        padded = max(pad_to, 1 << (len(crops) - 1).bit_length())
        inputs = np.zeros((padded, self.image_size, self.image_size, 3), np.uint8)
        for row, crop in zip(inputs, crops, strict=False):
            row[:] = crop.pixels
        answers = _answer(
            self._params, self._batch_stats, self.body, inputs, graphdef=self._graphdef
        )
        return PendingPeople(answers, crops, self.faces, lambda: self._check_sound(padded))

    def _check_sound(self, batch: int) -> None:
        """Raise DivergedError if not even a blank picture has a finite answer."""
        if self._is_sound is None:
            size = self.image_size
            grey = np.full((size, size, 3), 128, np.uint8)
            blank = self.crop(grey, (0.0, 0.0, size, size))
            answer, _ = next(self.start([blank], pad_to=batch)._each())
            self._is_sound = not_finite(answer) is None
        if not self._is_sound:
            raise DivergedError(
                "the network has no finite answer to any picture: the checkpoint is of a run that "
                "diverged; choose an earlier one, WORKDIR/checkpoints/STEP"
            )

    def pose(
        self,
        betas: Float[np.ndarray, "n 10"],
        rotations: Float[np.ndarray, "n 24 3 3"],
        translations: Float[np.ndarray, "n 3"],
        boxes: Float[np.ndarray, "n 4"],
    ) -> list[Person]:
        """Put the body into poses that are known, such as a smoothed track's; no network runs.

        Args:
            betas: shape coefficients.
            rotations: relative to the parent joint, the root's into the camera frame.
            translations: in the frame of each box's crop camera, metres.
            boxes: tight boxes, pixels of the photograph.

        Returns:
            One person a row, without attention.
        """
        people = []
        for start in range(0, len(betas), MAX_BATCH):
            rows = slice(start, start + MAX_BATCH)
            people += self._posed(betas[rows], rotations[rows], translations[rows], boxes[rows])
        return people

    def _posed(self, betas, rotations, translations, boxes) -> list[Person]:
        count = len(betas)
        padded = 1 << (count - 1).bit_length()
        fill = [
            np.concatenate([value, np.repeat(value[:1], padded - count, axis=0)]).astype(np.float32)
            for value in map(np.asarray, (betas, rotations, translations))
        ]
        answers = {name: np.asarray(value) for name, value in _posed_body(self.body, *fill).items()}
        people = []
        for row, box in enumerate(np.asarray(boxes, np.float64)):
            crop = Crop(np.zeros((0, 0, 3), np.uint8), box, *crop_of_box(box))
            answer = {name: value[row] for name, value in answers.items()}
            people.append(person_of(answer, crop, self.faces))
        return people


def load_predictor(
    checkpoint_or_workdir: str | Path,
    weights: str = "auto",
    body: str | Path | None = None,
) -> Predictor:
    """Load a trained network and its body.

    Args:
        checkpoint_or_workdir: a run's folder, or one checkpoint's folder within it.
        weights: "swa", "last", or "auto" for what the run's evaluation uses.
        body: file of the run's body model, if it has moved; None: the path in the run's config.

    Returns:
        The predictor; its first call compiles the network.

    Raises:
        UserError: no such run, a damaged checkpoint, one of another architecture, no body, or
            not the one it was trained with.
    """
    config, module = load_model(checkpoint_or_workdir, weights)
    data = load_body_data(body or config.body_model or None)
    check_same_body(split_checkpoint(checkpoint_or_workdir)[0], data)
    return Predictor(module, body_from_data(data), config.image_size, data)


def check_picture(image: np.ndarray) -> None:
    """Raise UserError unless this is an RGB uint8 picture large enough to show a person."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"expected a picture of shape (height, width, 3) and type uint8, not {image.shape} "
            f"{image.dtype}; pare_jax.io.images.read_image makes one of any file"
        )
    height, width = image.shape[:2]
    if min(height, width) < MIN_PICTURE_SIDE:
        raise UserError(
            f"the picture is {width} x {height} pixels: too small to show a person "
            f"(at least {MIN_PICTURE_SIDE} are needed)"
        )


def _checked(image: np.ndarray, boxes: Iterable[Box] | None) -> list[np.ndarray]:
    check_picture(image)
    height, width = image.shape[:2]
    boxes = [(0.0, 0.0, width, height)] if boxes is None else boxes
    return [check_box(box, height, width) for box in boxes]


@functools.partial(jax.jit, static_argnames="graphdef")
def _answer(
    params: nnx.State,
    batch_stats: nnx.State,
    body: BodyModel,
    images: jax.Array,
    *,
    graphdef: nnx.GraphDef,
) -> dict[str, jax.Array | None]:
    prediction = predict_step(params, batch_stats, images, graphdef=graphdef)
    translation = geometry.camera_translation(prediction.camera)
    return {
        **_posed_fields(body, prediction.betas, prediction.rotations, translation),
        "camera_crop": prediction.camera,
        "attention": prediction.attention,
    }


@jax.jit
def _posed_body(
    body: BodyModel, betas: jax.Array, rotations: jax.Array, translation: jax.Array
) -> dict[str, jax.Array]:
    # The crop's camera is where `geometry.camera_translation` would have it.
    depth = translation[:, 2:]
    scale = 2.0 * geometry.FOCAL_LENGTH / (geometry.CROP_RESOLUTION * depth)
    return {
        **_posed_fields(body, betas, rotations, translation),
        "camera_crop": jax.numpy.concatenate([scale, translation[:, :2]], axis=1),
    }


def _posed_fields(
    body: BodyModel, betas: jax.Array, rotations: jax.Array, translation: jax.Array
) -> dict[str, jax.Array]:
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
