"""Sets of 2D keypoints (COCO, OpenPose, Halpe, MPII, BlazePose, SPIN ...) and their common points.

Each point of a set is a *body point*, one of `POINT_NAMES`. So every network and every fit works
with one array of body points, in which the points that a set does not have are unknown.
`body_points.py` ties body points to the body model.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

from pare_jax.errors import UserError


def _sides(*names: str) -> tuple[str, ...]:
    """Return left and right of each name, side by side."""
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


# The union of all sets. A thumb, index and pinky are knuckles, as BlazePose has them; `foot_index`
# is the tip of the second toe. `pelvis` and `thorax` are the middles of the hips and shoulders.
POINT_NAMES = (
    "nose",
    *_sides("eye", "ear", "mouth", "shoulder", "elbow", "wrist", "index", "pinky", "thumb"),
    *_sides("hip", "knee", "ankle", "heel", "big_toe", "small_toe", "foot_index"),
    *("pelvis", "spine", "thorax", "neck", "upper_neck", "jaw", "head", "head_top"),
)
NUM_BODY_POINTS = len(POINT_NAMES)


def point_index(name: str) -> int:
    """Return the index of a body point; raise ValueError for an unknown name."""
    return POINT_NAMES.index(name)


def mirrored_name(name: str) -> str:
    """Return the name of a point in a mirrored picture."""
    side, _, rest = name.partition("_")
    other = {"left": "right", "right": "left"}.get(side)
    return f"{other}_{rest}" if other else name


# In a mirrored picture point p becomes point POINT_MIRROR[p].
POINT_MIRROR = tuple(point_index(mirrored_name(name)) for name in POINT_NAMES)
# The twelve joints of the limbs, which all sets have.
LIMB_POINTS = tuple(
    point_index(name) for name in _sides("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)


@dataclasses.dataclass(frozen=True)
class KeypointSet:
    """The points of a dataset or a detector, in its order.

    Attributes:
        name: as users name it, for instance in `--keypoint_set=coco17`.
        points: the body point of each; "" for a point that no body point stands for.
    """

    name: str
    points: tuple[str, ...]

    @functools.cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        rows = [row for row, name in enumerate(self.points) if name]
        columns = [point_index(self.points[row]) for row in rows]
        return np.array(rows), np.array(columns)

    @property
    def indices(self) -> tuple[int, ...]:
        """The body points that this set has, in the order of the set."""
        return tuple(int(column) for column in self._known[1])

    def spread(
        self, values: Float[np.ndarray, "... k d"], fill: float = 0.0
    ) -> Float[np.ndarray, "... points d"]:
        """Move values of this set's points to the places of the body points.

        Args:
            values: one row for each point of this set.
            fill: the value of points that this set does not have.

        Raises:
            UserError: another number of points than this set has.
        """
        values = np.asarray(values)
        if values.ndim < 2 or values.shape[-2] != len(self.points):
            count = values.shape[-2] if values.ndim > 1 else values.shape
            raise UserError(
                f"{count} keypoints are not {self.name}'s {len(self.points)}; "
                f"the sets are {', '.join(SETS)}"
            )
        rows, columns = self._known
        shape = (*values.shape[:-2], NUM_BODY_POINTS, values.shape[-1])
        result = np.full(shape, fill, np.result_type(values, np.float32))
        result[..., columns, :] = values[..., rows, :]
        return result


_FACE = ("nose", *_sides("eye", "ear"))
_COCO = (*_FACE, *_sides("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))


def _limb(side: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names)


def _chain(*names: str) -> tuple[str, ...]:
    """Return a limb's points on the right side, then on the left in reverse order."""
    return (*_limb("right", *names), *_limb("left", *reversed(names)))


_OPENPOSE_ARMS = (
    *_limb("right", "shoulder", "elbow", "wrist"),
    *_limb("left", "shoulder", "elbow", "wrist"),
)
_OPENPOSE_LEGS = (*_limb("right", "hip", "knee", "ankle"), *_limb("left", "hip", "knee", "ankle"))
_TOES = ("big_toe", "small_toe", "heel")
_OPENPOSE_FACE = ("right_eye", "left_eye", "right_ear", "left_ear")
_LEGS = _chain("ankle", "knee", "hip")
_ARMS = _chain("wrist", "elbow", "shoulder")
_LSP = (*_LEGS, *_ARMS)

COCO17 = KeypointSet("coco17", _COCO)
HALPE26 = KeypointSet(
    "halpe26",
    (*_COCO, "head_top", "thorax", "pelvis", *_sides("big_toe", "small_toe", "heel")),
)
OPENPOSE25 = KeypointSet(
    "openpose25",
    (
        *("nose", "thorax", *_OPENPOSE_ARMS, "pelvis", *_OPENPOSE_LEGS, *_OPENPOSE_FACE),
        *(*_limb("left", *_TOES), *_limb("right", *_TOES)),
    ),
)
OPENPOSE18 = KeypointSet(
    "openpose18",
    ("nose", "thorax", *_OPENPOSE_ARMS, *_OPENPOSE_LEGS, *_OPENPOSE_FACE),
)
MPII16 = KeypointSet("mpii16", (*_LEGS, "pelvis", "thorax", "upper_neck", "head_top", *_ARMS))
BLAZEPOSE33 = KeypointSet(
    "blazepose33",
    (
        *("nose", "", "left_eye", "", "", "right_eye", "", "left_ear", "right_ear"),
        *_sides("mouth", "shoulder", "elbow", "wrist", "pinky", "index", "thumb"),
        *_sides("hip", "knee", "ankle", "heel", "foot_index"),
    ),
)
SPIN24 = KeypointSet(
    "spin24",
    (
        *(*_LSP, "neck", "head_top", "pelvis", "thorax", "spine", "jaw", "head"),
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    ),
)
LSP14 = KeypointSet("lsp14", (*_LSP, "neck", "head_top"))
AIC14 = KeypointSet(
    "aic14",
    (*_OPENPOSE_ARMS, *_OPENPOSE_LEGS, "head_top", "neck"),
)
H36M17 = KeypointSet(
    "h36m17",
    (
        *("pelvis", *_limb("right", "hip", "knee", "ankle"), *_limb("left", "hip", "knee")),
        *("left_ankle", "spine", "neck", "jaw", "head"),
        *(*_limb("left", "shoulder", "elbow", "wrist"), *_limb("right", "shoulder", "elbow")),
        "right_wrist",
    ),
)
MPI_INF_3DHP17 = KeypointSet(
    "mpi_inf_3dhp17",
    ("head_top", "neck", *_OPENPOSE_ARMS, *_OPENPOSE_LEGS, "pelvis", "spine", "head"),
)
# COCO-WholeBody: COCO's points, feet, 68 points of the face, and 21 of each hand.
_FACE68 = {48: "right_mouth", 54: "left_mouth"}
_HAND21 = {2: "thumb", 5: "index", 17: "pinky"}
WHOLEBODY133 = KeypointSet(
    "wholebody133",
    (
        *(*_COCO, *_limb("left", *_TOES), *_limb("right", *_TOES)),
        *(_FACE68.get(number, "") for number in range(68)),
        *(
            f"{side}_{_HAND21[number]}" if number in _HAND21 else ""
            for side in ("left", "right")
            for number in range(21)
        ),
    ),
)
SETS = {
    own.name: own
    for own in (
        *(COCO17, HALPE26, OPENPOSE25, OPENPOSE18, MPII16, BLAZEPOSE33, SPIN24, LSP14),
        *(AIC14, H36M17, MPI_INF_3DHP17, WHOLEBODY133),
    )
}


# All body points: the set of people whose file has points of no other set.
BODY_POINTS = KeypointSet("body_points", POINT_NAMES)


def find_set(name: str) -> KeypointSet:
    """Return a set by its name: one of `SETS`, or `BODY_POINTS`.

    Raises:
        UserError: there is no such set.
    """
    if name == BODY_POINTS.name:
        return BODY_POINTS
    if name not in SETS:
        raise UserError(f"unknown keypoint set {name!r}; use one of {', '.join(SETS)}")
    return SETS[name]
