"""Time training and prediction of the report's networks and PARE, beside the same ones in PyTorch.

    python -m scripts.benchmark_step [--minutes=7.5] [--output=benchmark_step.md]
    python -m scripts.benchmark_step --networks=final --train=4 --predict=1

It needs JAX with flax, optax, orbax and ml_collections, OpenCV, and PyTorch; no TensorFlow. Both
frameworks run in processes of their own, on the same device, and take turns in each row. The table
is written after every row, so that a run that is ended early keeps its rows. Rows that do not fit
into the minutes are left out; a row that fails says why. The most important rows come first, and no
row may compile for more than half of the time that is left.

"train" is a whole step on a batch that is on the device; ours has augmentation, body, losses,
gradients, clipping and Adam. "predict" is from uint8 crops to rotations, betas and camera, with
batch normalisations folded in both. "of peak" is the operations of our row (XLA's count before
optimisation; in training of the whole step, with augmentation, body and Adam) over time and the
largest measured matrix product. The floors are these operations over that product, and the bytes
of the compiled program over the largest measured copy.

On a CPU the batches are small and numbers are float32; on an accelerator activations are bfloat16.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from scripts.step_rows import Peaks, PreparedRow, Row

ROOT = Path(__file__).resolve().parents[1]
# The most important networks come first; HRNet, which compiles longest, comes last.
NETWORKS = ("final", "shallow", "baseline", "pare")
BATCHES = {"cpu": ((4,), (1, 8)), "gpu": ((256, 64), (1, 256, 32))}
_ROUNDS = 3
_SECONDS = {"cpu": 3.0, "gpu": 1.0}  # of each round
# Shares of the time left that a row may compile for, and after which it starts no other round.
_COMPILING, _MEASURING = 0.5, 0.3
_GRACE = 20.0  # seconds after the last minute that a measurement may end
# The report's recipe (docs/networks.md): people a epoch and epochs.
_PEOPLE, _EPOCHS = 40_000, 120
_COLUMNS = (
    *("network", "work", "batch", "images/s", "ms", "GB", "of peak", "floor: FLOPs, ms"),
    *("floor: bytes, ms", "compile, s", "PyTorch images/s", "ms", "GB", "ours / PyTorch"),
)


class Worker:
    """A process of one framework; it is started again if a row ends it."""

    def __init__(self, framework: str, log: Path, deadline: float):
        self.framework, self._log = framework, log
        self.about = self._start(deadline)

    def _start(self, deadline: float) -> dict[str, Any]:
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scripts.step_worker", self.framework],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                env=environment,
            )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        return self.answer(deadline)

    def _listen(self, process: subprocess.Popen) -> None:
        answers = self._answers
        for line in process.stdout or ():
            answers.put(line)
        answers.put("")

    def ask(self, request: dict[str, Any], deadline: float) -> None:
        """Send a request, to a new process, which starts before the deadline, if the last ended."""
        if self._process.poll() is not None:
            self._start(deadline)
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # the answer is then that it ended
            self._process.stdin.write(json.dumps(request) + "\n")

    def answer(self, deadline: float) -> dict[str, Any]:
        """Return the answer; {"error": ...} if there is none before the deadline."""
        try:
            line = self._answers.get(timeout=max(deadline - time.monotonic(), 0.1))
        except queue.Empty:
            self.end()
            return {"error": "no time"}
        return json.loads(line) if line else {"error": "the process ended"}

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@dataclasses.dataclass
class Result:
    """A framework's measurement of a row, seconds; `error` is empty if there is one."""

    prepared: PreparedRow | None = None
    seconds: float = float("nan")
    error: str = ""


def measure_row(row: Row, workers: list[Worker], deadline: float, seconds: float) -> list[Result]:
    """Compile a row in all workers at once, then measure them in turn."""
    results = [Result() for _ in workers]
    compiled_by = _after(_COMPILING, deadline)
    for worker in workers:
        worker.ask({"prepare": dataclasses.asdict(row)}, compiled_by)
    for worker, result in zip(workers, results, strict=True):
        answer = worker.answer(compiled_by)
        result.error = answer.get("error", "")
        if not result.error:
            result.prepared = PreparedRow(**answer)
    times: list[list[float]] = [[] for _ in workers]
    measured_by = _after(_MEASURING, deadline)
    for number in range(_ROUNDS):
        if number and time.monotonic() > measured_by:
            break
        for worker, result, taken in zip(workers, results, times, strict=True):
            if result.error:
                continue
            worker.ask({"measure": seconds}, deadline)
            answer = worker.answer(deadline + _GRACE)
            result.error = answer.get("error", "")
            if not result.error:
                taken.append(answer["seconds"])
    for result, taken in zip(results, times, strict=True):
        if taken:
            result.seconds, result.error = float(np.median(taken)), ""
    return results


def _after(share: float, deadline: float) -> float:
    """Return the time after a share of what is left before the deadline."""
    return time.monotonic() + share * max(deadline - time.monotonic(), 0.0)


def format_row(row: Row, results: list[Result], peaks: Peaks) -> str:
    """Return a row of the table; PyTorch's columns are empty if it is not there."""
    ours = results[0]
    cells = [row.network, row.work, str(row.batch), *_speed(row, ours)]
    if ours.prepared and not ours.error:
        floor = ours.prepared.flops / peaks.flops
        cells += [
            f"{floor / ours.seconds:.0%}",
            f"{1e3 * floor:.3g}",
            f"{1e3 * ours.prepared.bytes_moved / peaks.bandwidth:.3g}",
            f"{ours.prepared.compile_time:.0f}",
        ]
    else:
        cells += [""] * 4
    if len(results) > 1:
        ratio = results[1].seconds / ours.seconds
        cells += [*_speed(row, results[1]), f"{ratio:.2f}x" if np.isfinite(ratio) else ""]
    else:
        cells += [""] * 4
    return f"| {' | '.join(cells)} |"


def _speed(row: Row, result: Result) -> list[str]:
    if result.error or not result.prepared:
        return [result.error, "", ""]
    memory = result.prepared.memory
    return [
        f"{row.batch / result.seconds:.4g}",
        f"{1e3 * result.seconds:.4g}",
        f"{memory / 1e9:.2f}" if memory else "",
    ]


def main(argv: list[str] | None = None) -> None:
    """Measure row by row until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--output", type=Path, default=Path("benchmark_step.md"))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--train", default=None, help="batch sizes; default: of the device")
    parser.add_argument("--predict", default=None, help="batch sizes; default: of the device")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default=None)
    parser.add_argument("--seconds", type=float, default=None, help="of each of three rounds")
    parser.add_argument("--without-torch", action="store_true")
    arguments = parser.parse_args(argv)
    deadline = time.monotonic() + 60 * arguments.minutes
    log = arguments.output.with_suffix(".log")
    log.write_text("")
    frameworks = ["jax"] if arguments.without_torch else ["jax", "torch"]
    workers = [Worker(framework, log, deadline) for framework in frameworks]
    table = _Table(arguments.output)
    try:
        _measure(arguments, workers, table, deadline)
    finally:
        for worker in workers:
            worker.end()


class _Table:
    """Lines that are printed and written at once."""

    def __init__(self, path: Path):
        self._path, self._lines = path, []

    def add(self, *lines: str) -> None:
        self._lines += lines
        self._path.write_text("\n".join(self._lines) + "\n")
        print(*lines, sep="\n", flush=True)


def _measure(
    arguments: argparse.Namespace, workers: list[Worker], table: _Table, deadline: float
) -> None:
    for worker in list(workers):
        if "error" in worker.about:
            table.add(f"{worker.framework} cannot be used: {worker.about['error']}")
            workers.remove(worker)
    if not workers or workers[0].framework != "jax":
        sys.exit("JAX cannot be used: see the file .log beside the table")
    kind = "cpu" if workers[0].about["platform"] == "cpu" else "gpu"
    precision = arguments.precision or ("float32" if kind == "cpu" else "bfloat16")
    peaks = _peaks(workers, deadline)
    table.add(
        "; ".join(worker.about["about"] for worker in workers),
        "",
        f"{precision}, {os.cpu_count()} CPU cores; measured in this run: largest matrix product "
        f"{peaks.flops / 1e12:.3g} TFLOP/s, copy {peaks.bandwidth / 1e9:.3g} GB/s",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "| --- | --- |" + " ---: |" * (len(_COLUMNS) - 2),
    )
    recipe, left_out = None, []
    for row in _rows(arguments, kind, precision):
        if deadline - time.monotonic() < 10:
            left_out.append(row)
            continue
        seconds = arguments.seconds or _SECONDS[kind]
        results = measure_row(row, workers, deadline, seconds)
        table.add(format_row(row, results, peaks))
        if (row.network, row.work) == ("final", "train") and not results[0].error:
            recipe = recipe or (row, results[0].seconds)
    if left_out:
        names = (f"{row.network} {row.work} {row.batch}" for row in left_out)
        table.add("", f"Left out, because the time was over: {', '.join(names)}.")
    if recipe:
        row, seconds = recipe
        minutes = _PEOPLE * _EPOCHS / row.batch * seconds / 60
        table.add(
            "",
            f"{_EPOCHS} epochs of {_PEOPLE:,} people take {minutes:.0f} minutes at {row.network}'s "
            f"step of batch {row.batch}.",
        )


def _peaks(workers: list[Worker], deadline: float) -> Peaks:
    """Return the largest of the frameworks' matrix products and copies, measured in turn."""
    answers = []
    for worker in workers:
        worker.ask({"peaks": True}, deadline)
        answer = worker.answer(deadline)
        if "error" not in answer:
            answers.append(answer)
    if not answers:
        sys.exit("the machine's peaks cannot be measured: see the file .log beside the table")
    return Peaks(*(max(answer[name] for answer in answers) for name in ("flops", "bandwidth")))


def _rows(arguments: argparse.Namespace, kind: str, precision: str) -> list[Row]:
    """Return the rows: the first batches of each network, then the rest."""
    train, predict = BATCHES[kind]
    early = 1 if kind == "cpu" else 2
    if arguments.train is not None:
        train = tuple(int(n) for n in arguments.train.split(",") if n)
    if arguments.predict is not None:
        predict = tuple(int(n) for n in arguments.predict.split(",") if n)
    first = [("train", train[:1]), ("predict", predict[:early])]
    rest = [("train", train[1:]), ("predict", predict[early:])]
    return [
        Row(network, work, batch, precision)
        for group in (first, rest)
        for network in arguments.networks.split(",")
        for work, batches in group
        for batch in batches
    ]


if __name__ == "__main__":
    main()
