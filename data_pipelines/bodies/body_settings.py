"""Settings of the bodies that a keypoint network is trained on (`config.data.bodies`)."""

import dataclasses

from pare_jax.errors import UserError

_PROBABILITIES = (
    *(
        "exchange",
        "high",
        "tilted",
        "failures",
        "missing",
        "dropped",
        "truncation",
        "occlusion",
        "swaps",
    ),
    *("neighbours", "depth", "annotated"),
)


@dataclasses.dataclass(frozen=True)
class BodySettings:
    """Probabilities and strengths of the variation of poses, cameras and keypoints.

    Lengths of keypoints' errors are shares of the person's extent in the picture.
    """

    exchange: float = 0.5  # probability that the legs, and that an arm, are another pose's
    jitter: float = 6.0  # degrees; standard deviation of the typical jitter of each joint
    shape: float = 1.0  # standard deviation of the shape coefficients
    pitch: float = 12.0  # degrees; standard deviation of the camera's pitch
    roll: float = 8.0  # degrees; standard deviation of the camera's roll
    high: float = 0.15  # probability of a camera far above or below
    tilted: float = 0.12  # probability of a body in any orientation
    nearest: float = 1.5  # metres from the camera, with the distances' logarithms uniform
    farthest: float = 15.0
    clicks: float = 1.0  # how much the places of hips and shoulders differ between sources
    noise: float = 0.012  # typical error of a seen point
    failures: float = 0.08  # mean share of points that a detector puts elsewhere
    missing: float = 0.15  # mean share of points that are missing one by one
    dropped: float = 0.0  # share of points that are missing for everybody, one by one
    truncation: float = 0.3  # probability that the picture's edge cuts the person
    occlusion: float = 0.25  # probability that something hides a part of the person
    # probability that left and right are exchanged, for legs and for arms; half for the whole body
    swaps: float = 0.04
    neighbours: float = 0.04  # probability that a limb is that of a neighbour
    depth: float = 0.55  # probability that depths are known
    # share of annotated people among those with another set than BlazePose's, which is half of all
    annotated: float = 0.3

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            self._check(field.name, 0 <= value < float("inf"), "0 or more")
            if field.name in _PROBABILITIES:
                self._check(field.name, value <= 1, "between 0 and 1")
        self._check("nearest", 0 < self.nearest <= self.farthest, f"up to {self.farthest} m")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise UserError(
                f"config.data.bodies.{name} is {getattr(self, name)!r}: it must be {wanted}"
            )
