"""Part attention: where in the picture each joint looks, and what it sees there.

Kocabas et al., "PARE: Part Attention Regressor for 3D Human Body Estimation", ICCV 2021, section 3.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pare_jax.skeleton import PART_BACKGROUND


def part_attention(
    part_logits: Float[Array, "b h w 25"],
) -> Float[Array, "b h w 24"]:
    """Turn part maps into attention: a softmax over the positions, for each joint by itself.

    Args:
        part_logits: background first, then a channel per joint.

    Returns:
        Attention, float32, which sums to one over the positions; the background is dropped.
    """
    joints = jax.lax.slice_in_dim(part_logits, PART_BACKGROUND + 1, None, axis=-1)
    joints = joints.astype(jnp.float32)
    return jax.nn.softmax(joints, axis=(1, 2))


def attend(
    attention: Float[Array, "b h w joints"], features: Float[Array, "b h w c"]
) -> Float[Array, "b joints c"]:
    """Average features over the positions, weighted by each joint's attention.

    Args:
        attention: weights that sum to one over the positions.
        features: features at the same positions.

    Returns:
        Each joint's features, float32.
    """
    return jnp.einsum(
        "bhwj,bhwc->bjc",
        attention.astype(features.dtype),
        features,
        preferred_element_type=jnp.float32,
    )
