"""What every network returns."""

from flax import struct
from jaxtyping import Array, Float


class Prediction(struct.PyTreeNode):
    """One person's parameters per picture, float32 whatever the network computes in.

    Attributes:
        rotations: joint rotations relative to the parent joint, the root's relative to the
            camera frame (x right, y down, z forward).
        betas: shape coefficients.
        camera: weak-perspective camera (s, tx, ty) of the crop; see
            `pare_jax.geometry.camera_translation`.
        part_logits: unnormalised log-odds of background and the 24 parts at every position of
            the part maps; None for a network without them.
        attention: each joint's attention over the positions, which sums to one over the map;
            None for a network without it.
    """

    rotations: Float[Array, "batch 24 3 3"]
    betas: Float[Array, "batch 10"]
    camera: Float[Array, "batch 3"]
    part_logits: Float[Array, "batch height width 25"] | None = None
    attention: Float[Array, "batch height width 24"] | None = None
