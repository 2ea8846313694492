"""The optimizer: Adam with a learning-rate schedule and gradient clipping."""

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from pare_jax.errors import UserError

SCHEDULES = ("constant", "cosine")

# Kingma and Ba's own, and optax's defaults: how slowly both of Adam's moments forget.
_MEAN_DECAY, _SQUARE_DECAY = 0.9, 0.999


def learning_rate_schedule(config: Any, num_steps: int) -> optax.Schedule:
    """Build the learning rate as a function of the step.

    Args:
        config: `config.optimizer`: learning_rate, schedule ("constant", or "cosine", which ends at
            0) and warmup (steps of linear increase from 0).
        num_steps: of the whole run.

    Raises:
        UserError: an unknown schedule.
    """
    peak, warmup = config.learning_rate, config.warmup
    if config.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        decay_steps = max(1, num_steps - warmup)
        after = optax.cosine_decay_schedule(peak, decay_steps)
    else:
        raise UserError(
            f"optimizer.schedule is {config.schedule!r}: use one of {', '.join(SCHEDULES)}"
        )
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def make_optimizer(config: Any, num_steps: int) -> optax.GradientTransformation:
    """Build Adam (Kingma and Ba 2015), after clipping by global norm if `grad_clip` is not 0."""
    adam = optax.adam(learning_rate_schedule(config, num_steps), b1=_MEAN_DECAY, b2=_SQUARE_DECAY)
    if not config.grad_clip:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.grad_clip), adam)


def late_start(updates: Int[Array, ""], missed: int) -> Float[Array, ""]:
    """Return what to multiply Adam's updates by, for parameters that stood still at first.

    Adam divides its moments by what they have seen of an endless average, 1 - decay^updates. Those
    of parameters that had no gradient for the first updates have seen less, and without this the
    first updates would be up to 6.5 times as long as the learning rate.

    Args:
        updates: how many the optimizer has made, this one included.
        missed: how many of them had no gradient for these parameters.
    """
    all_updates = jnp.maximum(updates, 1).astype(jnp.float32)
    own = jnp.maximum(updates - missed, 1).astype(jnp.float32)
    mean = (1 - _MEAN_DECAY**all_updates) / (1 - _MEAN_DECAY**own)
    square = (1 - _SQUARE_DECAY**all_updates) / (1 - _SQUARE_DECAY**own)
    return mean / jnp.sqrt(square)
