"""Evaluation protocols: the joints to compare, their root, and the bodies that pose the labels.

`smpl24` is the 3DPW challenge's: all 24 joints about the pelvis, compared with the dataset's
joints. `j14` is used by HMR, SPIN and PARE: 14 joints regressed from the mesh, about the
regressor's pelvis. True joints are then regressed from the mesh of the person's gender.
"""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from pare_jax import skeleton
from pare_jax.body.gendered import find_bodies
from pare_jax.body.io import GENDERS, BodyData, load_body_data
from pare_jax.body.model import BodyModel, BodyOutput, body_from_data
from pare_jax.errors import UserError
from pare_jax.io.archives import read_npy

NAMES = ("smpl24", "j14")


class Measured(NamedTuple):
    """Points of a body that a protocol compares, metres, the protocol's root at the origin."""

    joints: Float[Array, "*batch joints 3"]
    vertices: Float[Array, "*batch V 3"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("regressor",),
    meta_fields=("name", "joint_names"),
)
@dataclasses.dataclass(frozen=True, eq=False)
class Protocol:
    """Joints to compare and their root; a pytree, to be passed to jitted functions.

    Attributes:
        name: one of `NAMES`.
        joint_names: of the joints, in order. Each is also in `skeleton.JOINT_NAMES`, whose
            visibility it shares.
        regressor: the root's row, then a row for each joint, over the mesh's vertices. None takes
            the body's own joints, with the pelvis as root.
    """

    name: str
    joint_names: tuple[str, ...]
    regressor: Float[Array, "rows V"] | None = None

    @property
    def from_mesh(self) -> bool:
        """True if true joints are regressed from the true mesh, False if they are labels."""
        return self.regressor is not None

    @property
    def pck_joints(self) -> tuple[int, ...]:
        """Indices of the limbs' joints, which PCK and AUC count."""
        names = [skeleton.JOINT_NAMES[joint] for joint in skeleton.PCK_JOINTS]
        return tuple(self.joint_names.index(name) for name in names)

    @property
    def smpl_joints(self) -> tuple[int, ...]:
        """For each joint, the index of SMPL's joint of the same name."""
        return tuple(skeleton.joint_index(name) for name in self.joint_names)

    def measure(self, output: BodyOutput) -> Measured:
        """Return a posed body's points about the protocol's root."""
        if self.regressor is None:
            root, joints = output.joints[..., :1, :], output.joints
        else:
            regressed = jnp.matmul(
                self.regressor, output.vertices, precision=jax.lax.Precision.HIGHEST
            )
            root, joints = regressed[..., :1, :], regressed[..., 1:, :]
        return Measured(joints - root, output.vertices - root)


SMPL24 = Protocol("smpl24", skeleton.JOINT_NAMES)


def j14(regressor: Float[np.ndarray, "17 V"]) -> Protocol:
    """Return protocol `j14` for a regressor whose rows are `skeleton.H36M_NAMES`."""
    rows = [skeleton.H36M_NAMES.index(name) for name in ("pelvis", *skeleton.J14_NAMES)]
    return Protocol("j14", skeleton.J14_NAMES, jnp.asarray(regressor[rows], jnp.float32))


@functools.partial(jax.tree_util.register_dataclass, data_fields=("bodies",), meta_fields=())
@dataclasses.dataclass(frozen=True, eq=False)
class TrueBodies:
    """Bodies that pose the labels, all of one mesh; a pytree, to be passed to jitted functions.

    Attributes:
        bodies: one for everybody, or one for each of `GENDERS`.
    """

    bodies: tuple[BodyModel, ...]

    @property
    def gendered(self) -> bool:
        """True if men and women have bodies of their own."""
        return len(self.bodies) > 1

    def name_of(self, gender: int) -> str:
        """Return the name of the body for `GENDERS[gender]`."""
        return self.bodies[gender if self.gendered else 0].name

    def __call__(
        self,
        betas: Float[Array, "batch 10"],
        rotations: Float[Array, "batch 24 3 3"],
        gender: Int[Array, "batch"],
    ) -> BodyOutput:
        """Pose each person with the body of their gender.

        A body that nobody of the batch has is not posed; the others pose the whole batch, and the
        person's own is selected. So one program serves every mix of genders.
        """
        if not self.gendered:
            return self.bodies[0](betas, rotations)
        others = jnp.arange(1, len(self.bodies))
        posed = BodyOutput(
            jnp.zeros((len(betas), self.bodies[0].num_vertices, 3), jnp.float32),
            jnp.zeros((len(betas), skeleton.NUM_JOINTS, 3), jnp.float32),
        )
        for number, body in enumerate(self.bodies):
            # Whoever has no body of their own has the first.
            own = (gender == number) if number else ~jnp.isin(gender, others)
            posed = jax.lax.cond(
                own.any(), functools.partial(_pose_own, body, betas, rotations, own), _same, posed
            )
        return posed


def _pose_own(
    body: BodyModel, betas: Array, rotations: Array, own: Array, others: BodyOutput
) -> BodyOutput:
    """Pose the people of this body; the others stay as they are."""
    select = functools.partial(jnp.where, own[:, None, None])
    return jax.tree.map(select, body(betas, rotations), others)


def _same(posed: BodyOutput) -> BodyOutput:
    return posed


def load(settings: ConfigDict, body: BodyModel) -> tuple[Protocol, TrueBodies]:
    """Load the protocol and the true bodies that a config's `eval` names.

    Args:
        settings: config.eval.
        body: the body that poses predictions.

    Raises:
        UserError: a file is missing or broken, or fits another mesh than the body's.
    """
    protocol, truth = SMPL24, TrueBodies((body,))
    if settings.protocol == "j14":
        protocol = j14(_read_regressor(settings.joint_regressor, body.num_vertices, body.name))
    if settings.bodies:
        gendered = _read_bodies(settings.bodies, body.num_vertices, body.name)
        bodies = {gender: body_from_data(data) for gender, data in gendered.items()}
        truth = TrueBodies(tuple(bodies.get(gender, body) for gender in GENDERS))
    return protocol, truth


def _read_regressor(path: str, vertices: int, body: str) -> np.ndarray:
    rows = len(skeleton.H36M_NAMES)
    if not Path(path).is_file():
        raise UserError(
            f"there is no joint regressor at {path}, but protocol j14 needs J_regressor_h36m.npy "
            f"({rows} rows): set config.eval.joint_regressor to it, or use protocol smpl24"
        )
    regressor = read_npy(path)
    shape = regressor.shape
    if len(shape) != 2 or shape[0] != rows or regressor.dtype.kind not in "fiu":
        raise UserError(
            f"{path} is not a regressor of Human3.6M's joints: it has {regressor.dtype} of shape "
            f"{shape} instead of numbers of shape ({rows}, vertices); use J_regressor_h36m.npy"
        )
    if shape[1] != vertices:
        raise UserError(
            f"{path} needs {shape[1]} vertices, but the body {body} has {vertices}: set "
            "config.body_model to an SMPL file, or use protocol smpl24"
        )
    if not np.isfinite(regressor).all():
        raise UserError(f"{path} contains NaN or infinity: copy it again")
    return regressor


def _read_bodies(folder: str, vertices: int, body: str) -> dict[str, BodyData]:
    bodies = {}
    found = find_bodies([folder])
    missing = [gender for gender in ("male", "female") if gender not in found]
    if missing:
        present = ", ".join(f"{gender} {path.name}" for gender, path in found.items())
        raise UserError(
            f"config.eval.bodies: {folder} has no {' and no '.join(missing)} body, only {present}: "
            "add SMPL_MALE and SMPL_FEMALE, or leave it empty to pose everybody with "
            "config.body_model"
        )
    for gender, path in found.items():
        data = load_body_data(path)
        if len(data.template) != vertices:
            raise UserError(
                f"{path} has {len(data.template)} vertices, but the body {body}, which poses "
                f"predictions, has {vertices}: set config.body_model to an SMPL file of the same "
                "mesh, or leave config.eval.bodies empty"
            )
        bodies[gender] = data
    return bodies
