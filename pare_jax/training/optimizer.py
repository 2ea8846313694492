"""The optimizer: Adam with a learning-rate schedule and gradient clipping."""

from collections.abc import Hashable
from typing import Any

import jax
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
    """Build Adam (Kingma and Ba 2015), after clipping by global norm if `grad_clip` is not 0.

    The backbone's moments stand apart from the others', with a count of updates of their own: while
    the backbone is frozen its part of the state, every leaf with `is_backbone`, can stay as it is.
    The state has the same layout whatever the settings.
    """
    parts: dict[Hashable, optax.GradientTransformation] = {
        "backbone": optax.scale_by_adam(),
        "rest": optax.scale_by_adam(),
    }
    clip = optax.clip_by_global_norm(config.grad_clip) if config.grad_clip else optax.identity()
    return optax.chain(
        clip,
        optax.multi_transform(parts, _part_of_each),
        optax.scale_by_learning_rate(learning_rate_schedule(config, num_steps)),
    )


def is_backbone(path: tuple[Any, ...]) -> bool:
    """Tell whether a leaf is the backbone's, by its path in parameters or optimizer state."""
    return any(getattr(key, "key", None) == "backbone" for key in path)


def _part_of_each(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "backbone" if is_backbone(path) else "rest", params
    )
