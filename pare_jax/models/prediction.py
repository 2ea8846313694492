"""The output of every network: rotations, betas, crop camera, part maps, attention."""

from flax import struct
from jaxtyping import Array, Float


class Prediction(struct.PyTreeNode):
    """One person's parameters per crop; always float32.

    Attributes:
        rotations: of the joints relative to their parents. The root's is into the camera frame (x
            right, y down, z forward).
        betas: shape coefficients.
        camera: crop camera (s, tx, ty); see `pare_jax.geometry.camera_translation`.
        part_logits: logits of background and the 24 parts at every position; None for a network
            without part maps.
        attention: attention map of each joint, which sums to one over the positions; None for a
            network without attention.
        align_corners: whether the first and last cells of the maps are centred on the crop's first
            and last pixels, as in PARE. False: the cells tile the crop.
        earlier: predictions of earlier stages, from first to last, for networks that correct their
            answer; losses count them too.
    """

    rotations: Float[Array, "batch 24 3 3"]
    betas: Float[Array, "batch 10"]
    camera: Float[Array, "batch 3"]
    part_logits: Float[Array, "batch height width 25"] | None = None
    attention: Float[Array, "batch height width 24"] | None = None
    align_corners: bool = struct.field(pytree_node=False, default=False)
    earlier: tuple["Prediction", ...] = ()
