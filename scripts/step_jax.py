"""This project's networks in JAX for scripts/benchmark_step.py: training step and prediction."""

import importlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from data_pipelines.example import BATCH_FIELDS, BATCH_PARTS_STRIDE
from pare_jax.body.model import BodyModel, load_body_model
from pare_jax.models import build_model
from pare_jax.models.folding import fold
from pare_jax.prediction.network_programs import constants, pure_network
from pare_jax.training import losses
from pare_jax.training.optimizer import make_optimizer
from pare_jax.training.step import TrainState, create_state, network_graphs, train_step
from pare_jax.training.train import step_settings
from scripts.step_rows import Peaks, PreparedRow, Row, seconds_a_call

_STEPS = 1000  # of the learning rate's schedule


class JaxSteps:
    """Prepares one row at a time, then measures it."""

    def __init__(self):
        self._call: Callable[[], Any] = lambda: None
        self._compiled: Any = None

    def describe(self) -> str:
        """Return version and device."""
        return f"JAX {jax.__version__} on {jax.devices()[0].device_kind}"

    def platform(self) -> str:
        """Return "cpu", "gpu" or "tpu"."""
        return jax.default_backend()

    def peaks(self) -> Peaks:
        """Measure a large matrix product and a large copy."""
        on_cpu = self.platform() == "cpu"
        size, dtype = (2048, jnp.float32) if on_cpu else (8192, jnp.bfloat16)
        one, other = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
        multiply = jax.jit(jnp.matmul)
        multiply_time = seconds_a_call(lambda: multiply(one, other), jax.block_until_ready, 1.0)
        numbers = jnp.zeros((1 << 26) if on_cpu else (1 << 30), jnp.float32)
        copy = jax.jit(lambda x: x + 1)
        copy_time = seconds_a_call(lambda: copy(numbers), jax.block_until_ready, 1.0)
        return Peaks(flops=2 * size**3 / multiply_time, bandwidth=2 * numbers.nbytes / copy_time)

    def prepare(self, row: Row) -> PreparedRow:
        """Compile a row's program."""
        self._call, self._compiled = lambda: None, None  # the last row's holds its arrays
        config = importlib.import_module(f"configs.{row.network}").get_config()
        config.precision, config.batch_size = row.precision, row.batch
        start = _training if row.work == "train" else _predicting
        lowered, start_calling = start(config)
        began = time.perf_counter()
        compiled = lowered.compile()
        compile_time = time.perf_counter() - began
        self._call, self._compiled = start_calling(compiled), compiled
        self.call()
        memory, cost = compiled.memory_analysis(), _cost(compiled)
        return PreparedRow(
            compile_time=compile_time,
            memory=memory.temp_size_in_bytes
            + memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes,
            flops=_cost(lowered)["flops"],
            bytes_moved=cost.get("bytes accessed", 0.0),
        )

    def call(self) -> None:
        """Run the row's program once."""
        jax.block_until_ready(self._call())

    def text(self) -> str:
        """Return the row's program after XLA's optimisations."""
        return self._compiled.as_text()

    def measure(self, seconds: float) -> float:
        """Return the seconds of a call."""
        return seconds_a_call(self._call, jax.block_until_ready, seconds, at_least=1)


def _cost(program: Any) -> dict[str, float]:
    cost = program.cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost) or {}


def random_batch(config: ConfigDict, names: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Return random fields of a batch; those that training reads if no names are given."""
    sizes = {"B": config.batch_size, "S": config.image_size}
    sizes["S // 4"] = config.image_size // BATCH_PARTS_STRIDE
    rng = np.random.default_rng(0)
    batch = {}
    for name in names or losses.fields_to_read():
        field = BATCH_FIELDS[name]
        shape = tuple(sizes[n] if isinstance(n, str) else n for n in field.shape)
        high = 24 if name == "part_labels" else 255 if name == "image" else 1
        batch[name] = (rng.random(shape) * high).astype(field.dtype)
    return batch


def training_program(config: ConfigDict) -> tuple[Callable, TrainState, BodyModel]:
    """Return a training step, not compiled, of state, body and batch; and a state and a body."""
    model = build_model(config.model, rngs=nnx.Rngs(0))
    optimizer, settings = make_optimizer(config.optimizer, _STEPS), step_settings(config, _STEPS)
    body = load_body_model(config.body_model or None)
    graphs = network_graphs(model)
    state = create_state(model, optimizer, average=config.swa.start_epoch >= 0)

    def step(state, body, batch):
        return train_step(state, body, batch, graphs=graphs, optimizer=optimizer, settings=settings)

    return step, state, body


def _training(config: ConfigDict) -> tuple[Any, Callable]:
    """Return the lowered step of training, and what makes a function that calls it."""
    step, state, body = training_program(config)
    batch = jax.device_put(random_batch(config))
    lowered = jax.jit(step, donate_argnums=0).lower(state, body, batch)

    def start(compiled: Callable) -> Callable:
        current = [state]

        def call() -> Any:
            current[0], scalars = compiled(current[0], body, batch)
            return scalars["loss"]

        return call

    return lowered, start


def _predicting(config: ConfigDict) -> tuple[Any, Callable]:
    """Return the lowered prediction from crops to parameters, as after `Predictor.warm_up`."""
    network = build_model(config.model, rngs=nnx.Rngs(0))
    network.eval()
    run_network, weights = pure_network(fold(network))
    images = jax.device_put(random_batch(config)["image"])
    holds_weights = config.batch_size == 1 and jax.default_backend() == "cpu"
    given = [] if holds_weights else weights

    def predict(given, images):
        found = run_network(given or constants(weights), images)
        return found.rotations, found.betas, found.camera

    lowered = jax.jit(predict).lower(given, images)
    return lowered, lambda compiled: lambda: compiled(given, images)
