"""Draws keypoints as heat maps, so that networks on images can see them.

STRAPS (Sengupta et al., BMVC 2020) gives a ResNet such maps. Part attention then sees where a
keypoint is missing.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.keypoints.sets import NUM_BODY_POINTS
from pare_jax.models.baseline import Baseline
from pare_jax.models.pare import Pare
from pare_jax.models.prediction import Prediction

# Maps of each body point: its confidence, and its depth where that is known.
MAP_CHANNELS = 2 * NUM_BODY_POINTS
# Standard deviation of a point's bump, cells.
_SPREAD = 1.0


def heat_maps(keypoints: Float[Array, "b points 5"], side: int) -> Float[Array, "b side side maps"]:
    """Draw each body point as a Gaussian bump.

    Args:
        keypoints: see `KeypointNetwork`.
        side: cells along the person's square.

    Returns:
        Bumps as high as the confidence, and bumps as high as the depth, in metres, where it is
        known. Points far outside the square leave no trace.
    """
    centres = (jnp.arange(side) + 0.5) * (2.0 / side) - 1.0
    distance = (keypoints[..., None, :2] - centres[:, None]) * (side / 2 / _SPREAD)
    x, y = jnp.moveaxis(jnp.exp(-0.5 * distance**2), -1, 0)
    heights = jnp.concatenate([keypoints[..., 2], keypoints[..., 3] * keypoints[..., 4]], 1)
    x, y = (jnp.concatenate([values, values], 1) for values in (x, y))
    return jnp.einsum("bm,bmh,bmw->bhwm", heights, y, x)


class MappedKeypoints(nnx.Module):
    """A network on images that sees heat maps of keypoints in place of a crop.

    Attributes:
        network: with a backbone on `MAP_CHANNELS` maps.
    """

    def __init__(self, network: Pare | Baseline, side: int):
        """Wrap a network.

        Args:
            network: built for maps.
            side: cells along the maps' side.
        """
        self.network = network
        self.side = side

    def __call__(self, keypoints: Float[Array, "b points 5"]) -> Prediction:
        """Predict one person per row of keypoints."""
        return self.network(heat_maps(keypoints, self.side))
