"""Part attention: a softmax over the positions for each joint, and features averaged by it.

Kocabas et al., "PARE: Part Attention Regressor for 3D Human Body Estimation", ICCV 2021, section 3.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pare_jax.skeleton import PART_BACKGROUND


def part_attention(
    part_logits: Float[Array, "b h w 25"],
) -> Float[Array, "b h w 24"]:
    """Return each joint's attention map: a softmax over the positions.

    Args:
        part_logits: background first, then a channel per joint.

    Returns:
        Attention, float32, without the background; it sums to one over the positions.
    """
    joints = jax.lax.slice_in_dim(part_logits, PART_BACKGROUND + 1, None, axis=-1)
    joints = joints.astype(jnp.float32)
    return jax.nn.softmax(joints, axis=(1, 2))


def attend(
    attention: Float[Array, "b h w joints"], features: Float[Array, "b h w c"]
) -> Float[Array, "b joints c"]:
    """Average features over the positions with each joint's attention as weights.

    Args:
        attention: sums to one over the positions.
        features: at the same positions.

    Returns:
        Each joint's features, float32.
    """
    return jnp.einsum(
        "bhwj,bhwc->bjc",
        attention.astype(features.dtype),
        features,
        preferred_element_type=jnp.float32,
    )
