"""Adam with a learning-rate schedule, gradient clipping, and a backbone frozen at first."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from pare_jax.errors import UserError

SCHEDULES = ("constant", "cosine")
# Adam's decay rates (Kingma and Ba 2015).
_BETA1, _BETA2 = 0.9, 0.999


def learning_rate_schedule(config: Any, num_steps: int) -> optax.Schedule:
    """Build the learning rate as a function of the step.

    Args:
        config: `config.optimizer`: learning_rate, schedule ("constant", or "cosine", which ends at
            0) and warmup (steps of linear increase from 0).
        num_steps: length of the whole run.

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


def make_optimizer(
    config: Any, num_steps: int, frozen_steps: int = 0
) -> optax.GradientTransformation:
    """Build Adam (Kingma and Ba 2015), after clipping by global norm if `grad_clip` is not 0.

    While the backbone is frozen its gradients are 0, and so are its moments and updates in Adam.
    Adam counts these steps all the same; without `_late_start` the first updates of the thawed
    backbone would be several times too large.

    Args:
        config: `config.optimizer`.
        num_steps: length of the whole run.
        frozen_steps: number of first steps in which the backbone's gradients are 0.
    """
    clip = optax.clip_by_global_norm(config.grad_clip) if config.grad_clip else optax.identity()
    late_start = optax.identity()
    if frozen_steps:
        correction = optax.scale_by_schedule(functools.partial(_late_start, frozen_steps))
        late_start = optax.masked(correction, _backbone_mask)
    return optax.chain(
        clip,
        optax.scale_by_adam(_BETA1, _BETA2),
        late_start,
        optax.scale_by_learning_rate(learning_rate_schedule(config, num_steps)),
    )


def _late_start(frozen_steps: int, updates_before: ArrayLike) -> jax.Array:
    """Return the factor that turns Adam's bias correction into that of an Adam started later.

    Adam divides the moments by 1 - beta^n for its n-th update; moments that were 0 for the first
    `frozen_steps` updates need 1 - beta^(n - frozen_steps).
    """
    total = jnp.asarray(updates_before) + 1.0
    own = jnp.maximum(total - frozen_steps, 1.0)
    first = (1 - _BETA1**total) / (1 - _BETA1**own)
    second = (1 - _BETA2**own) / (1 - _BETA2**total)
    return first * jnp.sqrt(second)


def _backbone_mask(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: is_backbone(path), params)


def is_backbone(path: tuple[Any, ...]) -> bool:
    """Return whether a leaf belongs to the backbone, by its path in the parameters."""
    return any(getattr(key, "key", None) == "backbone" for key in path)
