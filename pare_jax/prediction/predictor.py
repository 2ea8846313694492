"""Predicts people: photographs and boxes in, `Person`s out."""

import copy
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float

from pare_jax.body.io import BodyData
from pare_jax.body.model import BodyModel
from pare_jax.crop import BOX_SCALE
from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.keypoints.keypoints import Keypoints, box_of_keypoints
from pare_jax.models.baseline import Baseline
from pare_jax.models.folding import fold
from pare_jax.models.keypoint_network import KeypointNetwork
from pare_jax.prediction.answers import (
    Crop,
    DivergedError,
    NobodyError,
    PendingPeople,
    Refine,
    nobody_in,
    not_finite,
    person_of,
)
from pare_jax.prediction.boxes import check_box, crop_of_box
from pare_jax.prediction.focal_length import given_focal_length
from pare_jax.prediction.keypoint_source import KeypointSource, PeopleSource
from pare_jax.prediction.network_inputs import NO_PIXELS, NetworkInput, PixelInput, PointInput
from pare_jax.prediction.network_programs import NetworkProgram, pose_people
from pare_jax.prediction.person import Person
from pare_jax.prediction.refinement import Refiner

# People computed at once; fewer are padded to a power of two, so that few programs are compiled.
MAX_BATCH = 16
# A smaller photograph cannot show a person.
MIN_PICTURE_SIDE = 16

Box = Sequence[float]


class Predictor:
    """A trained network with its body model: photographs and boxes in, `Person`s out.

    Attributes:
        body: the body model of the predictions.
        crop_scale: side of a crop over the longer side of its box.
        network: maps normalised inputs to a `Prediction`; for inference only.
        body_data: the body model as read from its file, for animations and pages; may be None.
        warning: a sentence about the network that its users must see; None if there is none.
        input: what the network sees of a person.
        source: finds the keypoints that the network or `refine` needs; None: they must be given.
        refine: fits predicted bodies to keypoints, see `with_refinement`; None: they stay as
            predicted.
    """

    def __init__(
        self,
        module: nnx.Module,
        body: BodyModel,
        image_size: int | None = None,
        body_data: BodyData | None = None,
        crop_scale: float = BOX_SCALE,
        warning: str | None = None,
        source: KeypointSource | None = None,
    ):
        """Take a network and fold its batch normalisations into its convolutions.

        Args:
            module: maps normalised crops, or points, to a `Prediction`.
            body: the body model that it was trained with.
            image_size: side of its crops, pixels; None: the network sees keypoints.
            body_data: the same body model as read from its file.
            crop_scale: side of a crop over the longer side of its box.
            warning: see the attribute.
            source: see the attribute.
        """
        self.body = body
        self.body_data = body_data
        self.warning = warning
        self.crop_scale = crop_scale
        self.source = source
        self.refine: Refine | None = None
        self.input: NetworkInput = (
            PointInput() if image_size is None else PixelInput(image_size, crop_scale)
        )
        self.network = fold(module)
        self._program = NetworkProgram(self.network)
        self._diverged: bool | None = None  # None until outputs that are not finite are met

    @property
    def image_size(self) -> int:
        """Side of the network's crops, pixels.

        Raises:
            UserError: the network sees keypoints.
        """
        if not isinstance(self.input, PixelInput):
            raise UserError("this network sees keypoints: choose a --checkpoint that sees pixels")
        return self.input.size

    @property
    def has_attention(self) -> bool:
        """True if the network predicts attention maps."""
        return not isinstance(self.network, Baseline | KeypointNetwork)

    @functools.cached_property
    def faces(self) -> np.ndarray:
        """The triangles of the body model's mesh, (F, 3)."""
        return np.asarray(self.body.faces)

    def __call__(
        self,
        image: Picture,
        boxes: Iterable[Box] | None = None,
        focal_length: float | None = None,
        keypoints: Sequence[Keypoints | None] | None = None,
    ) -> list[Person]:
        """Predict the people in one photograph.

        Args:
            image: RGB, (height, width, 3) uint8, as `pare_jax.io.images.read_image` returns it.
            boxes: tight boxes of people, (N, 4): x0, y0, x1, y1 in pixels. None: the people in
                `keypoints`; without these the people whom the source of keypoints finds, or for a
                network on pixels one person who fills the photograph.
            focal_length: of the camera that took the photograph, pixels of `image`, for people's
                places in its scene; None: unknown. Pixels do not depend on it.
            keypoints: of each person, in pixels; then no source of keypoints is needed. With
                boxes also None for a person whose keypoints the source finds.

        Returns:
            One person for each box, in order, without those in whose box the source of keypoints
            sees nobody.

        Raises:
            UserError: another kind of array, a bad box, bad keypoints or focal length, keypoints
                are needed but have no source, or outputs that are not finite.
        """
        return self.batch([image], [boxes], [focal_length], [keypoints])[0]

    def batch(
        self,
        images: Sequence[Picture],
        boxes: Sequence[Iterable[Box] | None] | None = None,
        focal_lengths: Sequence[float | None] | None = None,
        keypoints: Sequence[Sequence[Keypoints | None] | None] | None = None,
    ) -> list[list[Person]]:
        """Predict the people in several photographs, up to `MAX_BATCH` people at once.

        Args:
            images: RGB, of any sizes.
            boxes: of each photograph, as in `__call__`; None: none are given.
            focal_lengths: of each photograph, as in `__call__`; None: all are unknown.
            keypoints: of each photograph, as in `__call__`; None: none are given.

        Returns:
            For each photograph what `__call__` returns.

        Raises:
            UserError: as `__call__`; or another number of lists of boxes, of focal lengths or of
                lists of keypoints than of photographs.
        """
        count = len(images)
        boxes = _one_each(boxes, count, "lists of boxes", "[] for nobody")
        focal_lengths = _one_each(focal_lengths, count, "focal lengths", "None for unknown")
        keypoints = _one_each(keypoints, count, "lists of keypoints", "[] for nobody")
        images = [np.asarray(image) for image in images]
        asked = [
            self._checked(image, own, seen)
            for image, own, seen in zip(images, boxes, keypoints, strict=True)
        ]
        focals = [
            given_focal_length(pixels, (image.shape[1], image.shape[0]))
            for image, pixels in zip(images, focal_lengths, strict=True)
        ]
        queries = (
            (number, crop)
            for number, (image, given) in enumerate(zip(images, asked, strict=True))
            for crop in self.crops(image, *given)
            if crop is not None
        )
        people: list[list[Person]] = [[] for _ in images]
        while batch := list(itertools.islice(queries, MAX_BATCH)):
            predicted = self.start([crop for _, crop in batch]).people()
            for (number, _), person in zip(batch, predicted, strict=True):
                people[number].append(focals[number].of(person))
        return people

    def _checked(
        self,
        image: Picture,
        boxes: Iterable[Box] | None,
        keypoints: Sequence[Keypoints | None] | None,
    ) -> tuple[list[np.ndarray], Sequence[Keypoints | None]]:
        """Return a box for each person of a photograph, and the keypoints that are known."""
        check_picture(image)
        height, width = image.shape[:2]
        given: Iterable[Box | np.ndarray]
        if boxes is not None:
            given = boxes
        elif keypoints is not None:
            keypoints = [one for one in keypoints if one is not None]
            given = [box_of_keypoints(one) for one in keypoints if one is not None]
        elif self.input.needs_keypoints and isinstance(self.source, PeopleSource):
            keypoints = self.source.find(image)
            given = [box_of_keypoints(one) for one in keypoints]
        else:
            given = [(0.0, 0.0, width, height)]
        checked = [check_box(box, height, width) for box in given]
        if keypoints is None:
            return checked, [None] * len(checked)
        if len(keypoints) != len(checked):
            raise UserError(
                f"boxes: {len(checked)}, keypoints: {len(keypoints)}; give the keypoints of the "
                "person in each box"
            )
        return checked, keypoints

    def with_refinement(self, source: KeypointSource | None = None) -> "Predictor":
        """Return a predictor with the same network that fits its bodies to keypoints.

        Args:
            source: of the keypoints; None: that of this predictor.

        Raises:
            UserError: the body model's file is not known.
        """
        if self.body_data is None:
            raise UserError("fitting needs the body model's data: pass `body_data` to Predictor")
        other = copy.copy(self)
        other.source = source or self.source
        other.refine = Refiner(self.body, self.body_data)
        return other

    def warm_up(self) -> None:
        """Compile the network for one person, for a predictor that answers many times.

        The first call does not wait for it, and on a CPU the network runs faster for one person:
        its program then holds the weights.
        """
        if not self._program.holds_weights:
            self._program = NetworkProgram(self.network, holds_weights=True)
        self.start([self.input.blank()]).people_or_none()

    def crop(
        self,
        image: Picture,
        box: Box | Float[np.ndarray, "4"],
        keypoints: Keypoints | None = None,
    ) -> Crop:
        """Make the network's input for the person in a box.

        Args:
            image: RGB, (height, width, 3) uint8.
            box: x0, y0, x1, y1 in pixels.
            keypoints: the person's; None: the source finds them, if the network needs them.

        Raises:
            UserError: a bad box or bad keypoints, keypoints are needed but have no source.
            NobodyError: the source of keypoints sees nobody in the box.
        """
        (crop,) = self.crops(image, [box], [keypoints])
        if crop is None:
            raise NobodyError(f"{nobody_in(box)}: give another box, or the person's keypoints")
        return crop

    def crops(
        self,
        image: Picture,
        boxes: Sequence[Box | Float[np.ndarray, "4"]],
        keypoints: Sequence[Keypoints | None] | None = None,
    ) -> list[Crop | None]:
        """Make the network's input for each box; None where it lacks two keypoints.

        Args:
            image: as in `crop`.
            boxes: as in `crop`.
            keypoints: of the person in each box, as in `crop`; None: none are given.

        Raises:
            UserError: as `crop`.
        """
        checked = [check_box(box, *image.shape[:2]) for box in boxes]
        seen: list[Keypoints | None] = [None] * len(checked)
        if keypoints is not None:
            seen = [own if own is None else own.in_named_set() for own in keypoints]
        unknown = [number for number, own in enumerate(seen) if own is None]
        if unknown and (self.input.needs_keypoints or self.refine is not None):
            if self.source is None:
                raise UserError("keypoints are needed: give keypoints, or a source of them")
            found = self.source.look(image, [checked[number] for number in unknown])
            for number, own in zip(unknown, found, strict=True):
                seen[number] = own
        seen = [own if own is not None and own.known > 1 else None for own in seen]
        needed = self.input.needs_keypoints
        return [
            None if needed and own is None else self.input.crop(image, box, own)
            for box, own in zip(checked, seen, strict=True)
        ]

    def start(self, crops: Sequence[Crop], pad_to: int = 0) -> PendingPeople:
        """Start the network on crops and return before it has finished.

        Args:
            crops: at least one; all are computed at once.
            pad_to: fewer crops are padded to this number, so that one program serves all.

        Returns:
            The people, once they are computed.
        """
        padded = max(pad_to, 1 << (len(crops) - 1).bit_length())
        inputs = self.input.stack(crops, padded)
        outputs = self._program(self.body, inputs)
        check = functools.partial(self._check_diverged, padded)
        return PendingPeople(outputs, crops, self.faces, check, self.refine)

    def _check_diverged(self, batch_size: int) -> None:
        """Raise DivergedError if the outputs are not finite even for a blank input."""
        if self._diverged is None:
            blank = self.input.blank()
            outputs = next(self.start([blank], pad_to=batch_size).outputs())
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
        squares: Float[np.ndarray, "n 3"] | None = None,
    ) -> list[Person]:
        """Pose the body model in known poses, such as a smoothed track's, without the network.

        Args:
            betas: shape coefficients.
            rotations: relative to the parent joint, the root's into the camera frame.
            translations: in the frame of each crop's camera, metres.
            boxes: tight boxes, pixels of the photograph.
            squares: centre x and y and side of each crop, pixels of the photograph; None: those
                that a network on pixels has around the boxes.

        Returns:
            One person for each row, without attention.
        """
        if squares is None:
            around = (crop_of_box(box, self.crop_scale) for box in np.asarray(boxes, np.float64))
            squares = np.array([(*centre, side) for centre, side in around]).reshape(-1, 3)
        people = []
        for start in range(0, len(betas), MAX_BATCH):
            rows = slice(start, start + MAX_BATCH)
            poses = (betas[rows], rotations[rows], translations[rows])
            people += self._posed(*poses, boxes[rows], squares[rows])
        return people

    def _posed(self, betas, rotations, translations, boxes, squares) -> list[Person]:
        crops = [
            Crop(NO_PIXELS, box, square[:2], float(square[2]))
            for box, square in zip(
                np.asarray(boxes, np.float64), np.asarray(squares, np.float64), strict=True
            )
        ]
        outputs = PendingPeople(
            pose_people(self.body, betas, rotations, translations), crops, self.faces
        ).outputs()
        return [person_of(row, crop, self.faces) for row, crop in zip(outputs, crops, strict=True)]


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


def _one_each(given: Sequence[Any] | None, count: int, what: str, none: str) -> Sequence[Any]:
    """Return one value for each photograph; raise UserError for another number of them."""
    if given is None:
        return [None] * count
    if len(given) != count:
        raise UserError(
            f"photographs: {count}, {what}: {len(given)}; give one for each photograph, {none}"
        )
    return given
