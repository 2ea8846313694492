"""Time the training step of an experiment, with one device and with one device a CPU core.

    python -m scripts.benchmark_devices [--config=configs/quickstart.py] [--steps=40]

Prints a table of medians with the ratio to one device, all measured in one run on random batches.
"send" is the transfer of a batch to the devices; "program" is the size of the lowered step. On a
machine with accelerators there is one row.
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
    """Time `steps` steps of an experiment on the devices of this process."""
    import jax

    from pare_jax import sharding
    from scripts.step_jax import random_batch, training_program

    config = runpy.run_path(path)["get_config"]()
    # A number of devices that XLA_FLAGS sets stays.
    sharding.split_cpu(config.batch_size, config.eval.batch_size)
    mesh = sharding.make_mesh()
    batch = random_batch(config)

    program, *inputs = training_program(config)
    state, body = (sharding.put_replicated(each, mesh) for each in inputs)
    arguments = (state, body, sharding.put_batch(batch, mesh))
    lowered = jax.jit(program, donate_argnums=0).lower(*arguments)
    started = time.perf_counter()
    step = lowered.compile()
    compiled = time.perf_counter() - started
    times, transfers = [], []
    for _ in range(steps):
        started = time.perf_counter()
        on_device = jax.block_until_ready(sharding.put_batch(batch, mesh))
        sent = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, body, on_device))
        transfers.append(sent - started)
        times.append(time.perf_counter() - sent)
    return {
        "devices": jax.device_count(),
        "platform": jax.default_backend(),
        "kind": jax.devices()[0].device_kind,
        "compile": compiled,
        "median": float(np.median(times)),
        "transfer": float(np.median(transfers)),
        "program": len(lowered.as_text()) / 1e6,
        "batch": config.batch_size,
    }


def _in_a_process(flags: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmark_devices", *sys.argv[1:], "--child"],
        env=os.environ | {"XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)  # The reason is on stderr.
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
    print(
        "| devices | kind | step, ms | examples/s | ratio | send, ms | program, MB | compile, s |"
    )
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(
            f"| {row['devices']} | {row['kind']} | {1e3 * row['median']:.1f} "
            f"| {row['batch'] / row['median']:.0f} | {rows[0]['median'] / row['median']:.2f}x "
            f"| {1e3 * row['transfer']:.2f} | {row['program']:.2f} | {row['compile']:.1f} |"
        )


if __name__ == "__main__":
    main()
