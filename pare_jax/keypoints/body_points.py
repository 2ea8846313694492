"""Places the points of keypoint sets on a body: joints, vertices, and points between them.

Annotators click hips and shoulders on the skin, away from SMPL's joints, and face, hands and feet
are points of the surface. Each body point is a weighted mean of joints and vertices in the rest
pose, and follows the body by linear blend skinning. Pose correctives are left out: they move these
points by millimetres.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pare_jax.body.io import BodyData
from pare_jax.body.model import BodyModel, PosedBody, body_from_data
from pare_jax.keypoints.sets import NUM_BODY_POINTS, POINT_NAMES, mirrored_name
from pare_jax.skeleton import JOINT_NAMES, NUM_BETAS, NUM_JOINTS, PARENTS, joint_index


class _Anchor(NamedTuple):
    """A point in the rest pose.

    Attributes:
        parts: weights of joints and vertices by name; their sum is 1.
        moves_with: joints that the point moves with, in equal shares; (): each vertex and joint
            of `parts` moves as it does on the body.
    """

    parts: Mapping[str, float]
    moves_with: tuple[str, ...] = ()


# SMPL: vertex ids that smplx publishes (smplx/vertex_ids.py).
_SMPL_VERTICES = {
    "nose": 332,
    "left_eye": 2800,
    "right_eye": 6260,
    "left_ear": 583,
    "right_ear": 4071,
    "left_thumb_tip": 2746,
    "right_thumb_tip": 6191,
    "left_index_tip": 2319,
    "right_index_tip": 5782,
    "left_pinky_tip": 2673,
    "right_pinky_tip": 6133,
    "left_heel": 3387,
    "right_heel": 6787,
    "left_big_toe": 3216,
    "right_big_toe": 6617,
    "left_small_toe": 3226,
    "right_small_toe": 6624,
}
# The free body: found on its mesh.
_FREE_VERTICES: dict[str, int] = {
    "nose": 4949,
    "left_eye": 7196,
    "right_eye": 1058,
    "left_ear": 11548,
    "right_ear": 5505,
    "left_mouth": 6575,
    "right_mouth": 369,
    "left_index": 9275,
    "right_index": 3161,
    "left_pinky": 9266,
    "right_pinky": 3152,
    "left_thumb": 8839,
    "right_thumb": 2725,
    "left_heel": 11790,
    "right_heel": 5747,
    "left_big_toe": 11000,
    "right_big_toe": 4936,
    "left_small_toe": 12146,
    "right_small_toe": 6104,
    "left_foot_index": 12107,
    "right_foot_index": 6065,
}
_VERTICES = {6890: _SMPL_VERTICES, 12272: _FREE_VERTICES}


def _left(point: str, parts: Mapping[str, float], *moves_with: str) -> dict[str, _Anchor]:
    """Return a point of the left side and its mirror image."""
    mirrored = {mirrored_name(name): weight for name, weight in parts.items()}
    return {
        f"left_{point}": _Anchor(parts, moves_with),
        f"right_{point}": _Anchor(mirrored, tuple(map(mirrored_name, moves_with))),
    }


def _itself(*names: str) -> dict[str, _Anchor]:
    return {name: _Anchor({name: 1.0}) for name in names}


_SIDES = ("left", "right")
_COMMON = {
    **_itself("nose", "head_top"),
    **_itself(*(f"{s}_{n}" for s in _SIDES for n in ("eye", "ear"))),
    **_itself(*(f"{s}_{n}" for s in _SIDES for n in ("shoulder", "elbow", "wrist"))),
    **_itself(*(f"{s}_{n}" for s in _SIDES for n in ("knee", "ankle"))),
    **_itself(*(f"{s}_{n}" for s in _SIDES for n in ("heel", "big_toe", "small_toe"))),
    "thorax": _Anchor({"left_shoulder": 0.5, "right_shoulder": 0.5}, ("spine3",)),
    "spine": _Anchor({"spine1": 0.5, "spine2": 0.5}),
    "jaw": _Anchor({"head": 0.5, "nose": 0.5}, ("head",)),
    "head": _Anchor({"head": 0.4, "head_top": 0.6}, ("head",)),
}
# Hips are clicked on the skin at the sides, further out and higher than SMPL's hip joints; hands'
# knuckles lie between tips and the hand's joint.
_OF_SMPL = {
    **_COMMON,
    **_left("hip", {"left_hip": 1.2, "right_hip": -0.4, "pelvis": 0.2}, "pelvis", "left_hip"),
    **_left("mouth", {"nose": 0.8, "neck": 0.2, "left_eye": 0.4, "right_eye": -0.4}, "head"),
    **_left(
        "index", {"left_hand": 1.0, "left_index_tip": 0.2, "left_pinky_tip": -0.2}, "left_wrist"
    ),
    **_left(
        "pinky", {"left_hand": 1.0, "left_index_tip": -0.2, "left_pinky_tip": 0.2}, "left_wrist"
    ),
    **_left("thumb", {"left_wrist": 0.3, "left_thumb_tip": 0.7}, "left_wrist"),
    **_left("foot_index", {"left_big_toe": 0.75, "left_small_toe": 0.25}, "left_foot"),
    "pelvis": _Anchor({"left_hip": 0.4, "right_hip": 0.4, "pelvis": 0.2}, ("pelvis",)),
    "neck": _Anchor({"neck": 1.0}),
    "upper_neck": _Anchor({"neck": 0.5, "head": 0.5}),
}
# The free body's hip joints lie where annotators click, and its neck joint is below the skull.
_OF_FREE_BODY = {
    **_COMMON,
    **_itself(
        *(f"{s}_{n}" for s in _SIDES for n in ("hip", "mouth", "index", "pinky", "thumb")),
        *(f"{s}_foot_index" for s in _SIDES),
    ),
    "pelvis": _Anchor({"left_hip": 0.5, "right_hip": 0.5}, ("pelvis",)),
    "neck": _Anchor({"neck": 0.6, "left_shoulder": 0.2, "right_shoulder": 0.2}, ("spine3",)),
    "upper_neck": _Anchor({"neck": 1.0}),
}
_ANCHORS = {6890: _OF_SMPL, 12272: _OF_FREE_BODY}


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("skeleton", "template", "basis", "weights", "known"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True, eq=False)
class PointBody:
    """A body of which only joints and body points are computed; a pytree.

    Attributes:
        skeleton: the body model without vertices.
        template: the points of the mean shape in the rest pose, metres.
        basis: their displacement for each shape coefficient.
        weights: skinning weights.
        known: 1 for points that this body has, 0 for the others, which are placed at the origin.
    """

    skeleton: BodyModel
    template: Float[Array, "points 3"]
    basis: Float[Array, "10 points 3"]
    weights: Float[Array, "points 24"]
    known: Float[Array, " points"]

    def place(
        self,
        rotations: Float[Array, "*batch 24 3 3"],
        betas: Float[Array, "*batch 10"],
        translation: Float[Array, "*batch 3"] | None = None,
    ) -> tuple[Float[Array, "*batch points 3"], Float[Array, "*batch 24 3"]]:
        """Place the points of a shaped and posed body.

        Args:
            rotations: each joint's rotation relative to its parent; the root's into the output's
                frame.
            betas: shape coefficients.
            translation: added to all, metres.

        Returns:
            Body points and joints in the output's frame, metres.
        """
        posed = self.skeleton.with_shape(betas).with_pose(rotations)
        return self.of_posed(posed, translation), _moved(posed.joints, translation)

    def of_posed(
        self, posed: PosedBody, translation: Float[Array, "*batch 3"] | None = None
    ) -> Float[Array, "*batch points 3"]:
        """Return the points of a posed body, metres; see `place`."""
        betas = posed.shaped.betas
        rest = self.template + jnp.einsum("...b,bpi->...pi", betas, self.basis, precision=_EXACT)
        moves = jnp.einsum("pj,...jik->...pik", self.weights, posed.transforms, precision=_EXACT)
        turned = (moves[..., :3] * rest[..., None, :]).sum(-1)
        return _moved(turned + moves[..., 3], translation)


_EXACT = jax.lax.Precision.HIGHEST


def _moved(points: Array, translation: Array | None) -> Array:
    return points if translation is None else points + translation[..., None, :]


def body_points(data: BodyData) -> PointBody:
    """Tie the body points to a body model.

    Args:
        data: the body model. For another mesh than SMPL's (6,890 vertices) or the free body's
            only points between joints are known: face, hands and feet are not.

    Returns:
        The body's points.
    """
    count = len(data.template)
    vertices = {"head_top": data.head_top, **_VERTICES.get(count, {})}
    anchors = _ANCHORS.get(count, _OF_SMPL)
    template = np.zeros((NUM_BODY_POINTS, 3))
    basis = np.zeros((NUM_BETAS, NUM_BODY_POINTS, 3))
    weights = np.zeros((NUM_BODY_POINTS, NUM_JOINTS))
    known = np.zeros(NUM_BODY_POINTS)
    for point, name in enumerate(POINT_NAMES):
        anchor = anchors[name]
        if not all(part in vertices or part in JOINT_NAMES for part in anchor.parts):
            weights[point, 0] = 1.0
            continue
        known[point] = 1.0
        for part, share in anchor.parts.items():
            place, moves, skin = _part(data, vertices, part)
            template[point] += share * place
            basis[:, point] += share * moves
            weights[point] += share * skin
        if anchor.moves_with:
            weights[point] = 0.0
            weights[point, [joint_index(j) for j in anchor.moves_with]] = 1.0
            weights[point] /= len(anchor.moves_with)
    full = body_from_data(data)
    return PointBody(
        full.only([]),
        *(jnp.asarray(a, jnp.float32) for a in (template, basis, weights, known)),
    )


def _part(
    data: BodyData, vertices: Mapping[str, int], name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return place, displacement by betas and skinning weights of a vertex or joint."""
    if name in vertices:
        vertex = vertices[name]
        return data.template[vertex], data.shape_basis[vertex].T, data.weights[vertex]
    joint = joint_index(name)
    return data.joint_template[joint], data.joint_basis[joint].T, np.eye(NUM_JOINTS)[joint]


# The arrays that define a `PointBody`, with their shapes.
CONSTANTS = {
    "template": (NUM_BODY_POINTS, 3),
    "basis": (NUM_BETAS, NUM_BODY_POINTS, 3),
    "weights": (NUM_BODY_POINTS, NUM_JOINTS),
    "known": (NUM_BODY_POINTS,),
    "joint_template": (NUM_JOINTS, 3),
    "joint_basis": (NUM_BETAS, 3 * NUM_JOINTS),
}


def constants_of(body: PointBody) -> dict[str, Array]:
    """Return the arrays of `CONSTANTS`."""
    of_points = {name: getattr(body, name) for name in ("template", "basis", "weights", "known")}
    skeleton = body.skeleton
    return of_points | {
        "joint_template": skeleton.joint_template,
        "joint_basis": skeleton.joint_basis,
    }


def body_of_constants(constants: Mapping[str, Array]) -> PointBody:
    """Return the body that `constants_of` described."""
    none = jnp.zeros((NUM_BETAS, 0))
    skeleton = BodyModel(
        template=jnp.zeros((3, 0)),
        blend_basis=(none, none, none),
        skin=jnp.zeros((NUM_JOINTS, 0)),
        joint_template=constants["joint_template"],
        joint_basis=constants["joint_basis"],
        faces=jnp.zeros((0, 3), int),
        parents=PARENTS,
        head_top=0,
        name="",
    )
    of_points = {name: constants[name] for name in ("template", "basis", "weights", "known")}
    return PointBody(skeleton, **of_points)
