"""The optimizer: Adam with a learning-rate schedule and gradient clipping."""

from typing import Any

import optax

from pare_jax.errors import UserError

SCHEDULES = ("constant", "cosine")


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
    adam = optax.adam(learning_rate_schedule(config, num_steps))
    if not config.grad_clip:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.grad_clip), adam)
