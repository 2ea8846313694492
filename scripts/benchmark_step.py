"""Time the training step of an experiment, with one device and with one device a CPU core.

    python scripts/benchmark_step.py [--config=configs/quickstart.py] [--steps=40]

Prints a table of medians with the ratio to one device, all measured in one run on made-up batches.
On a machine with accelerators, whose number is what it is, there is one row.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import time

import numpy as np


def measure(path: str, steps: int) -> dict[str, float]:
    """Time `steps` steps of the experiment on whatever devices this process sees."""
    import jax

    from data_pipelines.example import BATCH_FIELDS, BATCH_PARTS_STRIDE
    from pare_jax import sharding
    from pare_jax.training.run import Run

    config = runpy.run_path(path)["get_config"]()
    # Leaves alone a number of devices that XLA_FLAGS sets.
    sharding.split_cpu(config.batch_size, config.eval.batch_size)
    sizes = {"B": config.batch_size, "S": config.image_size}
    sizes["S // 4"] = config.image_size // BATCH_PARTS_STRIDE
    rng = np.random.default_rng(0)
    batch = {}
    for name, field in BATCH_FIELDS.items():
        shape = tuple(sizes[n] if isinstance(n, str) else n for n in field.shape)
        high = 24 if name == "part_labels" else 255 if name == "image" else 1
        batch[name] = (rng.random(shape) * high).astype(field.dtype)

    class Data:
        train = None
        evals: dict = {}  # noqa: RUF012 - never changed
        steps_per_epoch = 1000
        mean_joints = np.zeros((24, 3), np.float32)

    run = Run(config, Data())
    state = run.initial_state()
    on_device = sharding.put_batch(batch, run.mesh)
    started = time.perf_counter()
    state, _ = jax.block_until_ready(run.train_step(state, on_device))
    compiled = time.perf_counter() - started
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        state, _ = jax.block_until_ready(run.train_step(state, on_device))
        times.append(time.perf_counter() - started)
    return {
        "devices": jax.device_count(),
        "platform": jax.default_backend(),
        "kind": jax.devices()[0].device_kind,
        "compile": compiled,
        "median": float(np.median(times)),
        "batch": config.batch_size,
    }


def _in_a_process(flags: str) -> dict:
    done = subprocess.run(
        [sys.executable, *sys.argv, "--child"],
        env=os.environ | {"XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)  # What went wrong stands on stderr.
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure in a process for each number of devices and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/quickstart.py")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.config, arguments.steps)))
        return
    rows = [_in_a_process("--xla_force_host_platform_device_count=1")]
    if rows[0]["platform"] == "cpu":
        rows.append(_in_a_process(""))
    print("| devices | kind | step, ms (median) | examples/s | ratio | compile, s |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(
            f"| {row['devices']} | {row['kind']} | {1e3 * row['median']:.1f} "
            f"| {row['batch'] / row['median']:.0f} | {rows[0]['median'] / row['median']:.2f}x "
            f"| {row['compile']:.1f} |"
        )


if __name__ == "__main__":
    main()
