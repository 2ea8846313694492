"""Crops that a network is given, and the people made from its outputs."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8

from pare_jax import geometry
from pare_jax.errors import UserError
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.prediction.person import Person

# One person's arrays of the network and the body model by name, without a leading axis.
Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Crop:
    """The network's input for one person.

    Attributes:
        pixels: RGB; of size 0 for a network on keypoints.
        box: the person's, x0, y0, x1, y1 in pixels of the photograph.
        centre: of the crop, pixels of the photograph.
        side: of the crop, pixels of the photograph.
        keypoints: the person's, in pixels of the photograph, if they are known.
        points: see `pare_jax.keypoints.network_points`; None for a network on pixels.
    """

    pixels: UInt8[np.ndarray, "size size 3"]
    box: Float[np.ndarray, "4"]
    centre: Float[np.ndarray, "2"]
    side: float
    keypoints: Keypoints | None = None
    points: Float[np.ndarray, "points 5"] | None = None


class FitVerdict(NamedTuple):
    """The error and the problems of a fit to a person's keypoints.

    Attributes:
        error: mean distance of the keypoints that count from the body's points, in shares of the
            longer side of their extent; infinite if none counts.
        problems: why the fit is bad; "" for a good one.
        ignored: for each point of the person's set whether it is too far from the body to count.
    """

    error: float
    problems: str
    ignored: Bool[np.ndarray, " k"]


# Returns fitted outputs and a verdict on each crop's, None where it is not fitted.
Refine = Callable[
    [Mapping[str, Any], Sequence[Crop]], tuple[dict[str, np.ndarray], list[FitVerdict | None]]
]


class DivergedError(UserError):
    """The network's outputs are not finite for any photograph: its training diverged."""


class NobodyError(UserError):
    """The source of keypoints sees nobody in a box."""


def nobody_in(box: Any) -> str:
    """Return the words for a box in which the source of keypoints sees nobody."""
    corners = ",".join(f"{value:g}" for value in np.round(np.asarray(box, np.float64), 1))
    return f"no keypoints of a person are seen in box {corners}"


class PendingPeople:
    """People whom the network is still computing; reading them waits."""

    def __init__(
        self,
        outputs: Mapping[str, Any],
        crops: Sequence[Crop],
        faces: np.ndarray,
        check: Callable[[], None] | None = None,
        refine: Refine | None = None,
    ):
        """Take the arrays that were dispatched for these crops.

        Args:
            outputs: by name, one row for each crop and possibly rows of padding; an array that
                the network does not have is None.
            crops: the network's inputs.
            faces: of the people's meshes.
            check: raises DivergedError if the network's outputs are never finite.
            refine: fits the bodies to the crops' keypoints, when the people are read.
        """
        self._outputs = {name: value for name, value in outputs.items() if value is not None}
        self._crops, self._faces, self._check, self._refine = crops, faces, check, refine

    def wait(self) -> None:
        """Wait until everything is computed."""
        jax.block_until_ready(self._outputs)

    def outputs(self) -> Iterator[Outputs]:
        """Yield each crop's outputs of the network, in order."""
        rows = {name: np.asarray(value) for name, value in self._outputs.items()}
        for index in range(len(self._crops)):
            yield {name: value[index] for name, value in rows.items()}

    def _answers(self) -> Iterator[tuple[Outputs, Crop, FitVerdict | None]]:
        """Yield each crop with its outputs, fitted if that is asked for."""
        rows = {name: np.asarray(value) for name, value in self._outputs.items()}
        verdicts: list[FitVerdict | None] = [None] * len(self._crops)
        if self._refine is not None:
            rows, verdicts = self._refine(rows, self._crops)
        for index, (crop, verdict) in enumerate(zip(self._crops, verdicts, strict=True)):
            yield {name: value[index] for name, value in rows.items()}, crop, verdict

    def people(self) -> list[Person]:
        """Return one person for each crop, in order.

        Raises:
            UserError: the network's outputs are not finite.
        """
        people = []
        for outputs, crop, verdict in self._answers():
            name = not_finite(outputs)
            if name is not None:
                raise UserError(
                    f"the network's {name} are not finite: its training diverged; choose an "
                    "earlier checkpoint, WORKDIR/checkpoints/STEP"
                )
            people.append(person_of(outputs, crop, self._faces, verdict))
        return people

    def people_or_none(self) -> list[Person | None]:
        """Return one person for each crop, in order; None where the outputs are not finite.

        Raises:
            DivergedError: the network's outputs are not finite for any photograph.
        """
        people: list[Person | None] = []
        for outputs, crop, verdict in self._answers():
            is_finite = not_finite(outputs) is None
            if not is_finite and self._check is not None:
                self._check()
            person = person_of(outputs, crop, self._faces, verdict) if is_finite else None
            people.append(person)
        return people


def not_finite(outputs: Mapping[str, Any]) -> str | None:
    """Return the name of the first array that is not finite; None if all are finite."""
    return next((name for name, value in outputs.items() if not np.isfinite(value).all()), None)


def person_of(
    outputs: Mapping[str, Any], crop: Crop, faces: np.ndarray, verdict: FitVerdict | None = None
) -> Person:
    """Make a person from one crop's outputs.

    Args:
        outputs: arrays of the network and the body model, without a leading axis.
        crop: the network's input; the outputs are in its camera's frame.
        faces: of the mesh.
        verdict: on the fit, if the body is fitted to keypoints.
    """
    # The crop's camera in pixels of the photograph: only the unit of length changes.
    focal_length = float(geometry.full_frame_focal_length(crop.side))
    joints = outputs["joints_3d"].astype(np.float64)
    joints_2d = focal_length * joints[:, :2] / joints[:, 2:] + crop.centre
    return Person(
        **outputs,
        focal_length=focal_length,
        principal_point=crop.centre,
        joints_2d=joints_2d,
        box=crop.box,
        crop_centre=crop.centre,
        crop_side=crop.side,
        faces=faces,
        keypoints=None if crop.keypoints is None else _rows_of(crop.keypoints),
        keypoint_set=None if crop.keypoints is None else crop.keypoints.set.name,
        fit_error=None if verdict is None else verdict.error,
        fit_problems=None if verdict is None else verdict.problems,
        fit_ignored=None if verdict is None else verdict.ignored,
    )


def _rows_of(keypoints: Keypoints) -> Float[np.ndarray, "k 3"]:
    """Return x, y and confidence of each point; zeros where they are unknown."""
    rows = np.concatenate([keypoints.points, keypoints.confidence[:, None]], axis=1)
    known = np.isfinite(rows).all(1, keepdims=True) & (rows[:, 2:] > 0)
    return np.where(known, rows, 0.0)
