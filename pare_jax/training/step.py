"""The training step and the measurement of batch statistics, as pure functions.

`train_step` maps (state, body, batch) to (state, scalars). Everything static is bound beforehand:
the network's graphs, the optimizer and `StepSettings`. Random numbers are a function of
(seed, step), so that a resumed run draws the same ones.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct
from jaxtyping import Array, Float

from pare_jax.body.model import BodyModel
from pare_jax.keypoints.body_points import PointBody
from pare_jax.models.baseline import Baseline
from pare_jax.models.build import Network
from pare_jax.models.inference import input_field
from pare_jax.models.keypoint_network import KeypointNetwork
from pare_jax.models.layers import BatchNorm
from pare_jax.models.pare import Pare
from pare_jax.models.prediction import Prediction
from pare_jax.training import augment, losses, swa
from pare_jax.training.optimizer import is_backbone

Batch = Mapping[str, Array]


class TrainState(struct.PyTreeNode):
    """Everything that changes while training; a checkpoint holds all of it.

    Attributes:
        step: updates attempted so far, int32 scalar.
        params: the network's parameters.
        batch_stats: its batch statistics, and the mean parameters its heads start from.
        opt_state: the optimizer's state.
        swa: the running mean of the parameters, or None for a run without averaging.
        bad_steps: number of consecutive steps, up to the latest, that were skipped because loss or
            gradient was not finite, int32 scalar.
        skipped: number of skipped steps in all, int32 scalar.
    """

    step: jax.Array
    params: nnx.State
    batch_stats: nnx.State
    opt_state: optax.OptState
    swa: swa.SwaState | None
    bad_steps: jax.Array
    skipped: jax.Array


class Graphs(NamedTuple):
    """A network's static graph in the modes that training needs.

    Attributes:
        training: training mode.
        frozen: training mode, but for the backbone, which is in evaluation mode.
        statistics: training mode; running statistics become those of the last batch.
        evaluation: evaluation mode.
    """

    training: nnx.GraphDef
    frozen: nnx.GraphDef
    statistics: nnx.GraphDef
    evaluation: nnx.GraphDef


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """The part of a config that the step needs.

    Attributes:
        seed: of the augmentation's random numbers.
        loss_weights: the weight of each term of `losses.total_loss`, as (name, weight) pairs.
        augment: strengths of the augmentation done on the device.
        swa_start: the first step whose parameters are averaged.
        swa_every: steps between two sets of averaged parameters.
        frozen_steps: the backbone stays as it is for this many updates; skipped steps do not count.
        max_bad_steps: after this many consecutive non-finite steps nothing is updated any more.
        accumulate: number of parts that a batch is computed in, one after the other.
    """

    seed: int
    loss_weights: tuple[tuple[str, float], ...]
    augment: augment.AugmentSettings
    swa_start: int = 0
    swa_every: int = 1
    frozen_steps: int = 0
    max_bad_steps: int = 5
    accumulate: int = 1


def network_graphs(model: Network) -> Graphs:
    """Return the static graph of a network in each mode."""
    training, frozen, statistics, evaluation = (nnx.clone(model) for _ in range(4))
    training.train()
    frozen.train()
    if isinstance(frozen, Pare | Baseline):
        frozen.backbone.eval()
    statistics.train()
    for _, module in nnx.iter_modules(statistics):
        if isinstance(module, BatchNorm):
            module.momentum = 0.0
    evaluation.eval()
    return Graphs(*map(nnx.graphdef, (training, frozen, statistics, evaluation)))


def create_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, *, average: bool
) -> TrainState:
    """Return the state that a run starts from.

    Args:
        model: the network.
        optimizer: gives the optimizer's first state.
        average: whether the run keeps a running mean of the parameters.
    """
    _, params, batch_stats = nnx.split(model, nnx.Param, ...)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        step=zero,
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        swa=swa.init(params, batch_stats) if average else None,
        bad_steps=jnp.copy(zero),
        skipped=jnp.copy(zero),
    )


def train_step(
    state: TrainState,
    body: BodyModel,
    batch: Batch,
    *,
    graphs: Graphs,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    points: PointBody | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """Make one update.

    A non-finite loss or gradient changes nothing but the counters: parameters, statistics and the
    optimizer's state stay as they were. After `max_bad_steps` of them in a row this holds for every
    later step, until the host reads the counter and stops the run.

    If a batch is computed in parts, to need less memory, losses are averaged over the whole batch
    as without parts. BatchNorm sees the parts: it normalises by statistics of each, and its running
    statistics move once for each.

    Args:
        state: before the step.
        body: gives the joints and the top of the head of the predicted pose.
        batch: the global batch, see `data_pipelines/example.py`.
        graphs: from `network_graphs`.
        optimizer: the one `state` was created with.
        settings: see `StepSettings`.
        points: gives the body points of the predicted pose to losses that read them; a network on
            keypoints has its own.

    Returns:
        The state after the step, and scalars: loss, its weighted terms as loss/NAME, grad_norm.
    """
    key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
    batch = {**batch, **augment.augment(batch, key, settings.augment)}

    weights = dict(settings.loss_weights)

    def loss_of(
        params: nnx.State, batch_stats: nnx.State, part: Batch, weights: Mapping, frozen: bool
    ) -> tuple[Array, tuple[nnx.State, dict]]:
        if frozen:
            params = _without_backbone_gradient(params)
        # A copy: the merged variables would otherwise belong to an outer trace and refuse updates.
        graph = graphs.frozen if frozen else graphs.training
        model = nnx.merge(graph, params, batch_stats, copy=True)
        last = model(part[input_field(part)])
        placed = model.body if isinstance(model, KeypointNetwork) else points
        found = [
            _loss_of_prediction(prediction, body, placed, part, weights)
            for prediction in (*last.earlier, last)
        ]
        loss, terms = jax.tree.map(lambda *values: sum(values) / len(values), *found)
        _, _, batch_stats = nnx.split(model, nnx.Param, ...)
        return loss, (batch_stats, terms)

    gradient = jax.value_and_grad(loss_of, has_aux=True)

    def of_batch(params: nnx.State, frozen: bool) -> tuple[tuple[Array, tuple], nnx.State]:
        if settings.accumulate == 1:
            return gradient(params, state.batch_stats, batch, weights, frozen)
        parts = jax.tree.map(functools.partial(_in_parts, settings.accumulate), batch)

        def add(total: tuple, part: tuple[Batch, Mapping]) -> tuple[tuple, None]:
            sums, batch_stats = total
            labels, share = part
            own = {name: weights[name] * share[name] for name in share}
            (loss, (batch_stats, terms)), grads = gradient(params, batch_stats, labels, own, frozen)
            return (jax.tree.map(jnp.add, sums, (loss, terms, grads)), batch_stats), None

        shares = losses.shares(parts, weights)
        zero = jnp.zeros(())
        sums = zero, dict.fromkeys(shares, zero), jax.tree.map(jnp.zeros_like, params)
        ((loss, terms, grads), batch_stats), _ = jax.lax.scan(
            add, (sums, state.batch_stats), (parts, shares)
        )
        return (loss, (batch_stats, terms)), grads

    train_all, train_heads = (
        functools.partial(of_batch, frozen=frozen) for frozen in (False, True)
    )
    if settings.frozen_steps:
        # Counted as the optimizer counts, which corrects the thawed moments by this number.
        is_frozen = state.step - state.skipped < settings.frozen_steps
        (loss, (batch_stats, terms)), grads = jax.lax.cond(
            is_frozen, train_heads, train_all, state.params
        )
    else:
        (loss, (batch_stats, terms)), grads = train_all(state.params)
    grad_norm = optax.global_norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    diverged = state.bad_steps >= settings.max_bad_steps
    good = jnp.isfinite(loss) & jnp.isfinite(grad_norm) & ~diverged
    params, batch_stats, opt_state = jax.tree.map(
        lambda new, old: jnp.where(good, new, old),
        (params, batch_stats, opt_state),
        (state.params, state.batch_stats, state.opt_state),
    )
    step = state.step + 1
    averages = state.swa
    if averages is not None:
        since_start = step - settings.swa_start
        due = good & (since_start >= 0) & (since_start % settings.swa_every == 0)
        averages = swa.update(averages, params, due)
    bad = (~good).astype(jnp.int32)
    state = TrainState(
        step=step,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        swa=averages,
        bad_steps=(state.bad_steps + 1) * bad,
        skipped=state.skipped + bad,
    )
    scalars = {"loss": loss, "grad_norm": grad_norm}
    return state, scalars | {f"loss/{name}": value for name, value in terms.items()}


def _in_parts(count: int, rows: Array) -> Array:
    """Split rows, (B, ...), into parts, (count, B / count, ...).

    Each part has every `count`-th row, so that each device has its share of each part already.
    """
    return rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1)


def _loss_of_prediction(
    prediction: Prediction,
    body: BodyModel,
    points: PointBody | None,
    batch: Batch,
    weights: Mapping[str, float],
) -> tuple[Array, dict[str, Array]]:
    posed = body.with_shape(prediction.betas).with_pose(prediction.rotations)
    head_top = posed.points([body.head_top])[:, 0]
    placed = None if points is None else points.of_posed(posed)
    return losses.total_loss(prediction, posed.joints, head_top, batch, weights, placed)


def _without_backbone_gradient(params: nnx.State) -> nnx.State:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.lax.stop_gradient(leaf) if is_backbone(path) else leaf, params
    )


def statistics_step(
    mean: nnx.State,
    count: Float[Array, ""],
    params: nnx.State,
    batch: Batch,
    *,
    graphs: Graphs,
    settings: StepSettings,
) -> nnx.State:
    """Add one batch to the mean of the batch statistics that `params` produce.

    Args:
        mean: mean statistics of `count` batches; ignored if `count` is 0.
        count: number of batches so far.
        params: the averaged parameters.
        batch: a training batch, augmented here as in training.
        graphs: from `network_graphs`.
        settings: as in `train_step`.

    Returns:
        The mean over `count` + 1 batches.
    """
    key = jax.random.fold_in(jax.random.key(settings.seed), count.astype(jnp.int32))
    batch = {**batch, **augment.augment(batch, key, settings.augment)}
    model = nnx.merge(graphs.statistics, params, mean, copy=True)
    model(batch[input_field(batch)])
    _, _, stats = nnx.split(model, nnx.Param, ...)

    def add(mean: Array, new: Array) -> Array:
        return jnp.where(count == 0, new, mean + (new - mean) / (count + 1).astype(new.dtype))

    return jax.tree.map(add, mean, stats)
