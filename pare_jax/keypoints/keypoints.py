"""The keypoints of one person in one photograph."""

import dataclasses

import numpy as np
from jaxtyping import Float

from pare_jax.errors import UserError
from pare_jax.keypoints.sets import BODY_POINTS, SETS, KeypointSet

# A square around known points has this many times the longer side of their extent.
SQUARE_SCALE = 1.2
# Points with less confidence do not count in a person's extent, unless fewer than two have more.
SURE = 0.3
# A person's box reaches beyond the joints by this share of their extent's longer side.
_BEYOND_JOINTS = 0.1


@dataclasses.dataclass(frozen=True)
class Keypoints:
    """One person's keypoints.

    Attributes:
        set: the names of the points.
        points: pixels of the photograph (x, y); of any value where the confidence is 0.
        confidence: 0 to 1; 0: unknown.
        world: metres about the middle of the hips, camera axes (x right, y down, z forward); NaN:
            unknown. None for sources without 3D points.
        box: x0, y0, x1, y1 of the person, pixels; None: the extent of the points.
        score: of the detection, 0 to 1; None for points from annotators.
    """

    set: KeypointSet
    points: Float[np.ndarray, "k 2"]
    confidence: Float[np.ndarray, " k"]
    world: Float[np.ndarray, "k 3"] | None = None
    box: Float[np.ndarray, "4"] | None = None
    score: float | None = None

    def __post_init__(self):
        count = len(self.set.points)
        if np.shape(self.points) != (count, 2) or np.shape(self.confidence) != (count,):
            raise UserError(
                f"points of shape {np.shape(self.points)} with confidences of shape "
                f"{np.shape(self.confidence)} are not {self.set.name}'s {count} keypoints"
            )

    @property
    def known(self) -> int:
        """The number of known body points; those within one pixel of each other count once."""
        rows = self.body_points()
        return len(np.unique(np.round(rows[rows[:, 2] > 0, :2]), axis=0))

    def in_named_set(self) -> "Keypoints":
        """Return the same keypoints, as body points if their set is none of `sets.SETS`."""
        if self.set == SETS.get(self.set.name, BODY_POINTS):
            return self
        rows = self.body_points().astype(np.float64)
        world = None if self.world is None else self.body_world()
        return dataclasses.replace(
            self, set=BODY_POINTS, points=rows[:, :2], confidence=rows[:, 2], world=world
        )

    def body_points(self) -> Float[np.ndarray, "points 3"]:
        """Return x, y in pixels and the confidence of every body point; 0 where unknown."""
        known = self.confidence > 0
        known &= np.isfinite(self.points).all(-1) & np.isfinite(self.confidence)
        rows = np.concatenate([self.points, np.clip(self.confidence, 0, 1)[:, None]], axis=1)
        return self.set.spread(np.where(known[:, None], rows, 0.0)).astype(np.float32)

    def body_world(self) -> Float[np.ndarray, "points 3"]:
        """Return the 3D place of every body point, metres, camera axes; NaN where unknown."""
        world = np.full((len(self.points), 3), np.nan) if self.world is None else self.world
        return self.set.spread(world, fill=np.nan).astype(np.float32)


def extent(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "4"]:
    """Return the box x0, y0, x1, y1 around the points that are known with confidence.

    If these are fewer than two, all known points count.

    Args:
        points: x, y and confidence.

    Raises:
        UserError: fewer than two points are known.
    """
    confidence = points[:, 2]
    known = confidence > min(SURE, 0.5 * float(confidence.max(initial=0.0)))
    if known.sum() < 2:
        known = confidence > 0
    if known.sum() < 2:
        raise UserError(f"{int(known.sum())} keypoints are known; give at least 2")
    chosen = points[known, :2].astype(np.float64)
    return np.concatenate([chosen.min(0), chosen.max(0)])


def box_of_keypoints(keypoints: Keypoints) -> Float[np.ndarray, "4"]:
    """Return the keypoints' own box, else one a little larger than their extent, pixels.

    A box that is wholly apart from the points is not theirs, and is not used.

    Raises:
        UserError: fewer than two points are known.
    """
    own = keypoints.box
    box = extent(keypoints.body_points())
    if own is not None and (box[:2] <= own[2:]).all() and (box[2:] >= own[:2]).all():
        return own
    margin = max(_BEYOND_JOINTS * float((box[2:] - box[:2]).max()), 1.0)
    return box + margin * np.array([-1.0, -1.0, 1.0, 1.0])
