"""One step of training, of evaluation and of measuring batch statistics, as pure functions.

The step maps (state, batch) to (state, metrics). What is static is bound beforehand: the network's
graph, the body, the optimizer and `StepSettings`. Random numbers are a function of (seed, step), so
a run that was killed and resumed draws the same ones.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct
from jaxtyping import Array

from pare_jax.body.model import BodyModel
from pare_jax.models.baseline import Baseline
from pare_jax.models.layers import BatchNorm
from pare_jax.models.pare import Pare
from pare_jax.training import augment, losses, swa
from pare_jax.training.optimizer import is_backbone

Batch = Mapping[str, Array]
Network = Pare | Baseline


class TrainState(struct.PyTreeNode):
    """Everything that changes while training; all of it is in a checkpoint.

    Attributes:
        step: updates attempted so far, int32 scalar.
        params: the network's parameters.
        batch_stats: its batch statistics, and the mean parameters its heads start from.
        opt_state: the optimizer's.
        swa: the running mean of the parameters, or None when the run keeps none.
        bad_steps: how many of the latest steps in a row were skipped for a non-finite loss or
            gradient, int32 scalar.
        skipped: how many steps were skipped in all, int32 scalar.
    """

    step: jax.Array
    params: nnx.State
    batch_stats: nnx.State
    opt_state: optax.OptState
    swa: swa.SwaState | None
    bad_steps: jax.Array
    skipped: jax.Array


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What the step needs to know of the config.

    Attributes:
        seed: of the augmentation's random numbers.
        loss_weights: the weight of each term of `losses.total_loss`, as (name, weight) pairs.
        augment: strengths of the augmentation done on the device.
        swa_start: the first step whose parameters are averaged.
        swa_every: steps between two sets of averaged parameters.
    """

    seed: int
    loss_weights: tuple[tuple[str, float], ...]
    augment: augment.AugmentSettings
    swa_start: int = 0
    swa_every: int = 1


def create_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, *, average: bool
) -> tuple[nnx.GraphDef, TrainState]:
    """Split a network into its static graph and the state a run starts from.

    Args:
        model: the network, in training mode.
        optimizer: gives the optimizer's first state.
        average: whether the run keeps a running mean of the parameters.

    Returns:
        The graph and the state.
    """
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, ...)
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(
        step=zero,
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        swa=swa.init(params, batch_stats) if average else None,
        bad_steps=jnp.copy(zero),
        skipped=jnp.copy(zero),
    )
    return graphdef, state


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    graphdef: nnx.GraphDef,
    body: BodyModel,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    frozen: bool = False,
) -> tuple[TrainState, dict[str, Array]]:
    """Make one update.

    A non-finite loss or gradient changes nothing but the counters: parameters, statistics and the
    optimizer's state stay as they were.

    Args:
        state: before the step.
        batch: of the global batch, see `data_pipelines/example.py`.
        graphdef: the network's static graph, in training mode; from `frozen_graph` if `frozen`.
        body: gives the joints and the top of the head of the predicted pose.
        optimizer: the one `state` was created with.
        settings: see `StepSettings`.
        frozen: leave the backbone's parameters, and what the optimizer keeps of them, as they are,
            and take no gradient through it.

    Returns:
        The state after the step, and scalars: loss, its weighted terms as loss/NAME, grad_norm, and
        the state's bad_steps.
    """
    key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
    batch = augment.augment(batch, key, settings.augment)

    def loss_of(params: nnx.State) -> tuple[Array, tuple[nnx.State, dict[str, Array]]]:
        if frozen:
            params = _for_backbone(jax.lax.stop_gradient, params)
        # A copy: the merged variables would otherwise belong to an outer trace and refuse updates.
        model = nnx.merge(graphdef, params, state.batch_stats, copy=True)
        prediction = model(batch["image"])
        posed = body.with_shape(prediction.betas).with_pose(prediction.rotations)
        head_top = posed.points([body.head_top])[:, 0]
        loss, terms = losses.total_loss(
            prediction, posed.joints, head_top, batch, dict(settings.loss_weights)
        )
        _, _, batch_stats = nnx.split(model, nnx.Param, ...)
        return loss, (batch_stats, terms)

    (loss, (batch_stats, terms)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    grad_norm = optax.global_norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if frozen:  # Its count of updates as well: to Adam these are none.
        params, opt_state = _for_backbone(
            lambda _, old: old, (params, opt_state), (state.params, state.opt_state)
        )

    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    params, batch_stats, opt_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (params, batch_stats, opt_state),
        (state.params, state.batch_stats, state.opt_state),
    )
    step = state.step + 1
    averages = state.swa
    if averages is not None:
        since_start = step - settings.swa_start
        due = finite & (since_start >= 0) & (since_start % settings.swa_every == 0)
        averages = swa.update(averages, params, due)
    bad = (~finite).astype(jnp.int32)
    state = TrainState(
        step=step,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        swa=averages,
        bad_steps=(state.bad_steps + 1) * bad,
        skipped=state.skipped + bad,
    )
    scalars = {"loss": loss, "grad_norm": grad_norm, "bad_steps": state.bad_steps}
    return state, scalars | {f"loss/{name}": value for name, value in terms.items()}


def _for_backbone(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply a function to the leaves of the backbone alone."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf, *others: function(leaf, *others) if is_backbone(path) else leaf,
        tree,
        *rest,
    )


def frozen_graph(model: Network) -> nnx.GraphDef:
    """Return the graph of a network in training mode whose backbone is in evaluation mode."""
    model = nnx.clone(model)
    model.train()
    model.backbone.eval()
    return nnx.graphdef(model)


def statistics_graph(model: Network, *, frozen: bool = False) -> nnx.GraphDef:
    """Return the graph of a network whose running statistics become those of its last batch.

    Args:
        model: the network.
        frozen: let the backbone keep its running statistics.
    """
    model = nnx.clone(model)
    model.train()
    if frozen:
        model.backbone.eval()
    for _, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            module.momentum = 0.0
    return nnx.graphdef(model)


def statistics_step(
    mean: nnx.State,
    count: Array,
    params: nnx.State,
    batch: Batch,
    *,
    graphdef: nnx.GraphDef,
    settings: StepSettings,
) -> nnx.State:
    """Add one batch to the mean of the batch statistics that `params` produce.

    Args:
        mean: of the statistics of `count` batches.
        count: float scalar; with 0 whatever `mean` holds is forgotten.
        params: the averaged parameters.
        batch: a training batch, augmented here as in training.
        graphdef: from `statistics_graph`.
        settings: as in `train_step`.

    Returns:
        The mean over `count` + 1 batches.
    """
    key = jax.random.fold_in(jax.random.key(settings.seed), count.astype(jnp.int32))
    batch = augment.augment(batch, key, settings.augment)
    model = nnx.merge(graphdef, params, mean, copy=True)
    model(batch["image"])
    _, _, stats = nnx.split(model, nnx.Param, ...)

    def add(mean: Array, new: Array) -> Array:
        return jnp.where(count == 0, new, mean + (new - mean) / (count + 1).astype(new.dtype))

    return jax.tree.map(add, mean, stats)
