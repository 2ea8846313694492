"""Says how likely a body's pose and shape are, as a share of the prior's own poses."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pare_jax.fitting.energy import EnergyWeights, prior_energy
from pare_jax.fitting.prior import PosePrior, load_pose_prior
from pare_jax.skeleton import NUM_BETAS

# Of the shapes that the dictionary's poses are given.
_SEED = 0
_WEIGHTS = EnergyWeights()


def plausibility(
    rotations: Float[np.ndarray, "batch 24 3 3"],
    betas: Float[np.ndarray, "batch 10"],
    prior: PosePrior | None = None,
) -> Float[np.ndarray, " batch"]:
    """Return the share of the dictionary's bodies that are less likely than each body.

    How likely a body is follows from the fit's energy of pose, limits of joints and shape
    (`energy.prior_energy`). The dictionary has 1,200 poses all over the range of motion, each with
    a random shape. 1: as likely as any of them; 0: less likely than all of them.

    Args:
        rotations: relative to the parents; the root's does not matter.
        betas: shape coefficients.
        prior: of poses; default: this package's.
    """
    prior = load_pose_prior() if prior is None else prior
    energy = prior_energy(prior, jnp.asarray(rotations), jnp.asarray(betas), _WEIGHTS)
    known = _of_dictionary(prior)
    above = len(known) - np.searchsorted(known, np.asarray(energy))
    return (above / len(known)).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _of_dictionary(prior: PosePrior) -> Float[np.ndarray, " poses"]:
    """Return the energies of the dictionary's poses, sorted."""
    shapes = np.random.default_rng(_SEED).normal(size=(len(prior.poses), NUM_BETAS))
    energies = prior_energy(prior, prior.poses, jnp.asarray(shapes, jnp.float32), _WEIGHTS)
    return np.sort(np.asarray(energies))
