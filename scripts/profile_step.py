"""Show where the time of a training step or a prediction goes, by kind of operation.

    python -m scripts.profile_step [--network=final] [--work=train] [--batch=4]

It runs the program of a row of scripts/benchmark_step.py under JAX's profiler, on one core of a
CPU, so that no two operations share a time, and adds up their times. For accelerators there is
config.profile, with TensorBoard's profiler. The parts are those of JAX's names: "forward" of the
network and the losses, their "gradient", and the "rest": augmentation, clipping, Adam, averaging,
and copies of the optimizer's state.

A fused operation counts as a product if there is one in it, as a copy if it only moves numbers.
TFLOP/s are those of the products.
"""

import argparse
import collections
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax

from scripts.benchmark_step import NETWORKS
from scripts.program_operations import PRODUCT, Program
from scripts.step_jax import JaxSteps
from scripts.step_rows import Row

_CALLS = 3


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, default="final")
    parser.add_argument("--work", choices=("train", "predict"), default="train")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--longest", type=int, default=0, help="also list the longest operations")
    arguments = parser.parse_args()
    if arguments.batch < 1:
        parser.error("--batch must be 1 or more")
    # Before JAX starts its threads.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    steps = JaxSteps()
    steps.prepare(Row(arguments.network, arguments.work, arguments.batch, "float32"))
    program = Program(steps.text())
    seconds, whole = measured(steps.call, program)
    peak = steps.peaks().flops
    print(
        f"{steps.describe()}, one core; {arguments.network}, "
        f"{arguments.work}, batch {arguments.batch}: {whole * 1e3:.0f} ms, of which operations "
        f"{sum(seconds.values()) * 1e3:.0f}; a large product: {peak / 1e12:.3f} TFLOP/s\n"
    )
    for line in table(program, seconds, with_parts=arguments.work == "train"):
        print(line)
    for name, one in seconds.most_common(arguments.longest):
        print(f"{one * 1e3:8.1f} ms  {program.describe(name)}")


def measured(
    call: Callable[[], object], program: Program
) -> tuple["collections.Counter[str]", float]:
    """Return each operation's seconds per call, and the seconds of a whole call."""
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level, options.python_tracer_level = 3, 0
    seconds: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            began = time.perf_counter()
            for _ in range(_CALLS):
                call()
            whole = (time.perf_counter() - began) / _CALLS
        (file,) = Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    if event.name in program:
                        seconds[event.name] += event.duration_ns / 1e9 / _CALLS
    return seconds, whole


def table(program: Program, seconds: "collections.Counter[str]", *, with_parts: bool) -> list[str]:
    """Return a Markdown table: time, share and speed of each part and kind, the longest first."""
    rows: dict[tuple[str, str], list[float]] = collections.defaultdict(lambda: [0, 0.0, 0.0])
    for name, one in seconds.items():
        kind = program.kind(name)
        row = rows[program.part(name) if with_parts else "all", kind]
        row[0] += 1
        row[1] += one
        row[2] += program.flops(name) if kind == PRODUCT else 0.0
    whole = sum(seconds.values())
    lines = [
        "| part | kind | operations | ms | share | TFLOP/s |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for (part, kind), (count, one, flops) in sorted(rows.items(), key=lambda item: -item[1][1]):
        speed = f"{flops / one / 1e12:.3f}" if flops else ""
        cells = (part, kind, count, f"{one * 1e3:.0f}", f"{one / whole:.0%}", speed)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


if __name__ == "__main__":
    main()
