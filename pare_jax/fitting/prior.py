"""The pose prior: a mixture of Gaussians over axis-angle vectors, limits of joints, a dictionary.

`pose_prior.npz` is learned from poses of our own generator (scripts/build_pose_prior.py).
SMPLify's `gmm_08.pkl` (Bogo et al. 2016) can take the place of its mixture.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pare_jax.errors import UserError
from pare_jax.io.archives import read_npz
from pare_jax.io.safe_pickle import load_pickle
from pare_jax.skeleton import JOINT_NAMES

PRIOR_FILE = Path(__file__).with_name("pose_prior.npz")
# Joints whose rotations are fitted, besides the root. Toes and hands keep those of the start: too
# few keypoints see them.
FITTED_JOINTS = tuple(
    joint
    for joint, name in enumerate(JOINT_NAMES)
    if joint > 0 and not name.endswith(("_foot", "_hand"))
)
_SIZE = 3 * len(FITTED_JOINTS)
# SMPLify's mixture is over the axis-angle vectors of all joints but the root.
_SMPLIFY_SIZE = 69


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("means", "precisions", "offsets", "lowest", "highest", "poses"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True, eq=False)
class PosePrior:
    """A probability of poses, and a dictionary of poses; a pytree.

    Attributes:
        means: of each component, axis-angle of `FITTED_JOINTS`, radians.
        precisions: inverse covariances.
        offsets: what each component adds to its energy; the smallest is 0.
        lowest: of each component of the axis-angle vectors, the lower end of its range.
        highest: the upper end.
        poses: a dictionary of rotations, the root's with y up and the person facing +z.
    """

    means: Float[Array, "components 57"]
    precisions: Float[Array, "components 57 57"]
    offsets: Float[Array, " components"]
    lowest: Float[Array, " 57"]
    highest: Float[Array, " 57"]
    poses: Float[Array, "poses 24 3 3"]


def load_pose_prior(path: str | Path | None = None) -> PosePrior:
    """Load a prior.

    Args:
        path: SMPLify's `gmm_08.pkl`, whose mixture replaces ours; limits and dictionary stay ours.
            None: this package's own.

    Raises:
        UserError: the file is missing, broken or no mixture over 69 numbers.
    """
    own = _own()
    if path is None:
        return own
    means, covariances, weights = _smplify_mixture(Path(path))
    return dataclasses.replace(own, **mixture(means, covariances, weights))


def mixture(means: np.ndarray, covariances: np.ndarray, weights: np.ndarray) -> dict[str, Array]:
    """Return the fields of a prior that describe a mixture of Gaussians.

    Args:
        means: (components, 57).
        covariances: (components, 57, 57).
        weights: of the components.
    """
    offsets = 0.5 * np.linalg.slogdet(covariances)[1] - np.log(weights)
    fields = {
        "means": means,
        "precisions": np.linalg.inv(covariances),
        "offsets": offsets - offsets.min(),
    }
    return {name: jnp.asarray(value, jnp.float32) for name, value in fields.items()}


@functools.cache
def _own() -> PosePrior:
    fields = read_npz(PRIOR_FILE)
    wide = {name: np.asarray(value, np.float64) for name, value in fields.items()}
    rows, columns = np.tril_indices(_SIZE)
    covariances = np.zeros((len(wide["means"]), _SIZE, _SIZE))
    covariances[:, rows, columns] = wide["covariances"]
    covariances[:, columns, rows] = wide["covariances"]
    return PosePrior(
        **mixture(wide["means"], covariances, wide["weights"]),
        lowest=jnp.asarray(wide["lowest"], jnp.float32),
        highest=jnp.asarray(wide["highest"], jnp.float32),
        poses=jnp.asarray(_matrices(wide["poses"]), jnp.float32),
    )


def _matrices(axis_angle: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    matrices = Rotation.from_rotvec(axis_angle.reshape(-1, 3)).as_matrix()
    return matrices.reshape(*axis_angle.shape, 3)


def _smplify_mixture(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not path.is_file():
        raise UserError(f"there is no pose prior at {path}; give SMPLify's gmm_08.pkl")
    content = load_pickle(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} is not a pose prior: it has no means, covars and weights")
    means, covariances = _numbers(content, "means", path), _numbers(content, "covars", path)
    weights = _numbers(content, "weights", path)
    count = len(weights)
    shapes = ((count, _SMPLIFY_SIZE), (count, _SMPLIFY_SIZE, _SMPLIFY_SIZE), (count,))
    if not count or (means.shape, covariances.shape, weights.shape) != shapes:
        raise UserError(
            f"{path} is not a pose prior over {_SMPLIFY_SIZE} numbers: its means have shape "
            f"{means.shape}, covars {covariances.shape}, weights {weights.shape}"
        )
    chosen = np.ravel([[3 * (joint - 1) + k for k in range(3)] for joint in FITTED_JOINTS])
    means, covariances = means[:, chosen], covariances[:, chosen][:, :, chosen]
    if (weights <= 0).any() or (np.linalg.eigvalsh(covariances) <= 0).any():
        raise UserError(f"{path} is not a pose prior: covars or weights are not positive")
    return means, covariances, weights


def _numbers(content: Mapping[str, Any], name: str, path: Path) -> np.ndarray:
    try:
        value = np.asarray(content[name], np.float64)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} is not a pose prior: it has no array {name}") from None
    if not np.isfinite(value).all():
        raise UserError(f"{path} is not a pose prior: {name} contains NaN or infinity")
    return value
