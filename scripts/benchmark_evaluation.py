"""Time where an evaluation spends its time: the network, the bodies, or the metrics.

    python -m scripts.benchmark_evaluation [--config=configs/final.py] [--batch=64] [--rounds=5]

Random weights and people, and random bodies with SMPL's 6890 vertices for the network, men and
women. Each part is one program on the device: the network alone; the network and the mesh of its
bodies; all metrics, with the meshes of the labels, by each protocol. A body that nobody of a batch
has is not posed. Prints medians with the share of the network's time, taken in turn in one run, and
the time that 35,000 people would take.
"""

import argparse
import functools
import os
import runpy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from pare_jax import skeleton
from pare_jax.body.io import GENDERS, load_body_data
from pare_jax.body.model import BodyModel, body_from_data
from pare_jax.evaluation import protocols
from pare_jax.evaluation.evaluate import eval_step
from pare_jax.evaluation.sample_errors import LABELS, batch_errors
from pare_jax.models import build_model
from pare_jax.models.inference import predict_step
from scripts.benchmark_body import VERTICES, random_inputs, random_model
from scripts.step_jax import random_batch

PEOPLE = 35_000
# Vertices that a row of Human3.6M's regressor touches, about.
_TOUCHED = 30


def random_bodies(rng: np.random.Generator) -> list[BodyModel]:
    """Return a neutral, a male and a female body of SMPL's size."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "body.npz"
        bodies = []
        for _ in range(3):
            np.savez(path, **random_model(rng))
            bodies.append(body_from_data(load_body_data(path)))
    return bodies


def random_regressor(rng: np.random.Generator) -> np.ndarray:
    """Return a regressor of Human3.6M's joints, each from a few vertices, (17, V)."""
    regressor = np.zeros((len(skeleton.H36M_NAMES), VERTICES))
    for row in regressor:
        row[rng.choice(VERTICES, _TOUCHED, replace=False)] = 1 / _TOUCHED
    return regressor


def random_labels(config: ConfigDict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the fields of a batch that the metrics read."""
    labels = random_batch(config, LABELS)
    labels["gender"] = rng.integers(0, 3, config.batch_size).astype(labels["gender"].dtype)
    labels["betas"], labels["rotations"], _ = random_inputs(rng, config.batch_size)
    return labels


def programs(path: str, batch: int) -> dict[str, Callable[[], object]]:
    """Return the parts of an evaluation of an experiment's network, each with its inputs."""
    config = runpy.run_path(path)["get_config"]()
    config.batch_size = batch
    rng = np.random.default_rng(0)
    model = build_model(config.model, rngs=nnx.Rngs(0))
    model.eval()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    size = config.image_size
    images = jnp.asarray(rng.integers(0, 256, (batch, size, size, 3)), jnp.uint8)
    neutral, *gendered = random_bodies(rng)
    labels = {name: jnp.asarray(values) for name, values in random_labels(config, rng).items()}
    network = jax.jit(functools.partial(predict_step, graphdef=graphdef))
    step = jax.jit(functools.partial(eval_step, graphdef=graphdef))
    predicted = step(params, rest, neutral, {"image": images})
    mean = jnp.zeros((skeleton.NUM_JOINTS, 3), jnp.float32)
    truth = protocols.TrueBodies((neutral, *gendered))
    j14 = protocols.j14(random_regressor(rng))
    women = labels | {"gender": jnp.full(batch, GENDERS.index("female"), labels["gender"].dtype)}
    return {
        "network": lambda: network(params, rest, images),
        "network and mesh": lambda: step(params, rest, neutral, {"image": images}),
        "metrics, smpl24, one body": lambda: batch_errors(
            predicted, labels, protocols.SMPL24, protocols.TrueBodies((neutral,)), mean
        ),
        "metrics, j14, a batch of women": lambda: batch_errors(predicted, women, j14, truth, mean),
        "metrics, j14, all genders in a batch": lambda: batch_errors(
            predicted, labels, j14, truth, mean
        ),
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/final.py")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    parts = programs(arguments.config, arguments.batch)
    for call in parts.values():
        jax.block_until_ready(call())
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(arguments.rounds):
        for name, call in parts.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - started)
    median = {name: float(np.median(values)) for name, values in times.items()}
    cores = len(os.sched_getaffinity(0))
    print(f"{jax.devices()[0].device_kind}, {cores} cores, batches of {arguments.batch}\n")
    print(f"| {arguments.config} | ms a person | of the network | {PEOPLE:,} people, minutes |")
    print("| --- | ---: | ---: | ---: |")
    for name, seconds in median.items():
        each = seconds / arguments.batch
        print(
            f"| {name} | {1e3 * each:.3f} | {seconds / median['network']:.3f} "
            f"| {each * PEOPLE / 60:.1f} |"
        )


if __name__ == "__main__":
    main()
