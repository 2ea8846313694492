"""Train a tiny network on one device, on eight, and in two processes; compare the loss curves.

    python -m scripts.compare_device_layouts [--steps=50] [--picture=FILE]

Every layout gets the same seed and the same global batches, and starts from random weights. Devices
are virtual ones of the CPU, so that the speeds show what is lost by dividing, not what is won.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Number of processes, and of devices in each.
LAYOUTS = {
    "1 device": (1, 1),
    "2 devices": (1, 2),
    "8 devices": (1, 8),
    "2 processes x 4 devices": (2, 4),
}
BATCH_SIZE = 16


def work(arguments: argparse.Namespace) -> None:
    """Train as one process of a layout; the first writes losses and speeds."""
    from pare_jax.training import multiprocess
    from tests.fakes import FakeData, Recorder, tiny_config, train_on

    number, count = arguments.process
    multiprocess.start(arguments.coordinator, count, number)
    config = tiny_config()
    config.batch_size, config.num_steps, config.log_every_steps = BATCH_SIZE, arguments.steps, 1
    config.eval.every_epochs, config.eval.pictures, config.swa.start_epoch = 1e6, 0, -1.0
    config.checkpoint.every_steps = 10**6
    # Adam divides rounding errors by gradients near zero: large steps would let them grow.
    config.optimizer.learning_rate = 1e-4
    writer = Recorder()
    train_on(config, arguments.workdir, FakeData(BATCH_SIZE), writer)
    if multiprocess.is_first():
        names = ("loss", "grad_norm", "examples_per_second")
        rows = {
            name: [float(writer.scalars[step][f"train/{name}"]) for step in sorted(writer.scalars)]
            for name in names
        }
        Path(arguments.workdir, "curves.json").write_text(json.dumps(rows))


def run(processes: int, devices: int, steps: int) -> dict[str, np.ndarray]:
    """Train in one layout; return its curves by name, one value a step."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    flags = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "scripts.compare_device_layouts", f"--steps={steps}"]
        command += [f"--workdir={workdir}"]
        if processes > 1:
            command += [f"--coordinator={coordinator}"]
        started = [
            subprocess.Popen(
                [*command, "--process", str(number), str(processes)],
                cwd=ROOT,
                env=os.environ | flags,
                stdout=subprocess.DEVNULL,
            )
            for number in range(processes)
        ]
        if max(abs(process.wait()) for process in started):
            sys.exit(f"a process of {processes} with {devices} devices each failed")
        rows = json.loads(Path(workdir, "curves.json").read_text())
    return {name: np.array(values) for name, values in rows.items()}


def differences(curves: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the relative difference of each layout's losses from those of the first."""
    reference = next(iter(curves.values()))["loss"]
    return {name: np.abs(rows["loss"] / reference - 1) for name, rows in curves.items()}


def table(curves: dict[str, dict[str, np.ndarray]]) -> str:
    """Format first and last losses, differences and speeds, as Markdown."""
    steps = len(next(iter(curves.values()))["loss"])
    marks = [step for step in (1, 10, 20, 50) if step <= steps]
    heads = [f"difference at {step}" for step in marks]
    lines = [
        f"| layout | loss at 1 | loss at {steps} | {' | '.join(heads)} | largest | examples/s |",
        "| --- " * (len(heads) + 5) + "|",
    ]
    for name, difference in differences(curves).items():
        losses = curves[name]["loss"]
        speed = np.median(curves[name]["examples_per_second"][steps // 2 :])
        values = [f"{difference[step - 1]:.1e}" for step in marks]
        lines.append(
            f"| {name} | {losses[0]:.4f} | {losses[-1]:.4f} | {' | '.join(values)} "
            f"| {difference.max():.1e} | {speed:.0f} |"
        )
    return "\n".join(lines)


def draw(curves: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Draw the losses above each other, and their differences from the first layout's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6), layout="constrained", dpi=110)
    above, below = figure.subplots(1, 2)
    styles = ((5.0, "-"), (3.2, "-"), (1.8, "--"), (1.2, ":"))
    colours = ("#b0b0b0", "#e69f00", "#0072b2", "#000000")
    for (name, difference), (width, line), colour in zip(
        differences(curves).items(), styles, colours, strict=True
    ):
        steps = np.arange(1, len(difference) + 1)
        above.plot(steps, curves[name]["loss"], line, linewidth=width, color=colour, label=name)
        if difference.any():
            below.semilogy(steps, difference, color=colour, label=name)
    above.set(xlabel="step", ylabel="loss", title="loss")
    below.set(xlabel="step", title="relative difference from 1 device")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/device_layouts.png")
    parser.add_argument("--process", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    parser.add_argument("--workdir", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.process:
        work(arguments)
        return
    curves = {name: run(*layout, arguments.steps) for name, layout in LAYOUTS.items()}
    print(table(curves))
    draw(curves, arguments.picture)
    print(f"written: {arguments.picture}")


if __name__ == "__main__":
    main()
