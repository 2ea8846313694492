"""What a network was shown of a person, and what it answers."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from pare_jax import geometry
from pare_jax.errors import UserError
from pare_jax.prediction.person import Person


@dataclasses.dataclass(frozen=True)
class Crop:
    """What the network looks at for one person.

    Attributes:
        pixels: RGB.
        box: of the person, x0, y0, x1, y1 in pixels of the photograph.
        centre: of the crop, pixels of the photograph.
        side: of the crop, pixels of the photograph.
    """

    pixels: UInt8[np.ndarray, "size size 3"]
    box: Float[np.ndarray, "4"]
    centre: Float[np.ndarray, "2"]
    side: float


class DivergedError(UserError):
    """The network answers no picture with finite numbers: its weights are of no use."""


class PendingPeople:
    """People whom the network is still computing; asking for them waits."""

    def __init__(
        self,
        answers: Mapping[str, Any],
        crops: Sequence[Crop],
        faces: np.ndarray,
        check: Callable[[], None] | None = None,
    ):
        """Take the arrays that were dispatched for these crops.

        Args:
            answers: by name, a row for each crop or more.
            crops: what the network was shown.
            faces: of the people's meshes.
            check: raises DivergedError for a network that answers nobody.
        """
        self._answers, self._crops, self._faces = answers, crops, faces
        self._check = check

    def wait(self) -> None:
        """Wait until everything is computed."""
        jax.block_until_ready(self._answers)

    def is_ready(self) -> bool:
        """Return whether everything is computed, without waiting."""
        return all(value.is_ready() for value in jax.tree.leaves(self._answers))

    def people(self) -> list[Person]:
        """Return one person a crop, in order.

        Raises:
            UserError: the network's answers are not finite.
        """
        people = []
        for answer, crop in self._each():
            name = not_finite(answer)
            if name is not None:
                raise UserError(
                    f"the network's {name} are not finite: the checkpoint is of a run that "
                    "diverged; choose an earlier one, WORKDIR/checkpoints/STEP"
                )
            people.append(person_of(answer, crop, self._faces))
        return people

    def people_or_none(self) -> list[Person | None]:
        """Return one person a crop, in order; None where the answer is not finite.

        Raises:
            DivergedError: the network has no finite answer to any picture, so that it is not this
                one's fault.
        """
        people: list[Person | None] = []
        for answer, crop in self._each():
            finite = not_finite(answer) is None
            if not finite and self._check is not None:
                self._check()
            people.append(person_of(answer, crop, self._faces) if finite else None)
        return people

    def _each(self) -> Iterator[tuple[dict[str, np.ndarray], Crop]]:
        answers = {
            name: np.asarray(value) for name, value in self._answers.items() if value is not None
        }
        for row, crop in enumerate(self._crops):
            yield {name: value[row] for name, value in answers.items()}, crop


def not_finite(answer: Mapping[str, Any]) -> str | None:
    """Return the name of the first of an answer's arrays that is not finite."""
    return next((name for name, value in answer.items() if not np.isfinite(value).all()), None)


def person_of(answer: Mapping[str, Any], crop: Crop, faces: np.ndarray) -> Person:
    """Put together what is known of a person.

    Args:
        answer: the network's and the body's arrays, without a leading axis.
        crop: what the network was shown; its camera is that of the answer.
        faces: of the mesh.
    """
    # The crop's camera, in the photograph's pixels: nothing moves but the unit of length.
    focal_length = float(geometry.full_frame_focal_length(crop.side))
    joints = answer["joints_3d"].astype(np.float64)
    joints_2d = focal_length * joints[:, :2] / joints[:, 2:] + crop.centre
    return Person(
        **answer,
        focal_length=focal_length,
        principal_point=crop.centre,
        joints_2d=joints_2d,
        box=crop.box,
        crop_centre=crop.centre,
        crop_side=crop.side,
        faces=faces,
    )
