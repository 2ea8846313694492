"""The table of the step's speed: rows in order, what fails or does not fit, no TensorFlow."""

import itertools
import os
import subprocess
import sys
import time
from typing import ClassVar

import pytest

from scripts import benchmark_step
from scripts.step_rows import Row, seconds_a_call

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "array_record", "clu"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
import scripts.benchmark_step, scripts.step_jax, scripts.step_worker
from configs import baseline, final, pare, shallow
try:
    import torch
except ImportError:
    pass
else:
    import scripts.step_torch
"""
PREPARED = {"compile_time": 3.0, "memory": 2e9, "flops": 5e9, "bytes_moved": 1e9}


def test_nothing_imports_tensorflow():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", BLOCKED], env=environment, check=True)


class FakeWorker:
    """Answers at once; ours takes 0.1 s a call and PyTorch 0.2 s."""

    asked: ClassVar[list] = []

    def __init__(self, framework, log, deadline):
        self.framework = framework
        self.about = {"about": framework, "platform": "cpu"}

    def ask(self, request, deadline):
        self._request = request
        if "prepare" in request:
            self.row = Row(**request["prepare"])
            self.asked.append((self.framework, self.row))

    def answer(self, deadline):
        if "peaks" in self._request:
            return {"flops": 1e11, "bandwidth": 1e10}
        if "prepare" in self._request:
            fails = self.framework == "torch" and self.row.batch == 8
            return {"error": "out of memory"} if fails else PREPARED
        return {"seconds": 0.1 if self.framework == "jax" else 0.2}

    def end(self):
        pass


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Return a function that runs the command with these flags and returns the rows' cells."""
    monkeypatch.setattr(benchmark_step, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "asked", [])

    def run(*flags):
        path = tmp_path / "table.md"
        benchmark_step.main([f"--output={path}", *flags])
        text = path.read_text()
        rows = [line for line in text.splitlines() if line.startswith("|")][2:]
        return text, [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]

    return run


def test_rows_have_speeds_floors_and_the_ratio(table):
    text, rows = table("--networks=final,pare")
    first = itertools.product(("final", "pare"), (("train", "4"), ("predict", "1")))
    assert [(row[0], row[1], row[2]) for row in rows] == [
        *((network, *row) for network, row in first),
        *((network, "predict", "8") for network in ("final", "pare")),
    ]
    final = rows[0]
    # 5e9 operations at 1e11 a second are 50 ms of the 100; 1e9 bytes at 1e10 are 100 ms.
    assert final[3:] == ["40", "100", "2.00", "50%", "50", "100", "3", "20", "200", "2.00", "2.00x"]
    assert "take 2000 minutes" in text  # 4.8 million people at 40 a second


def test_a_row_that_fails_says_why_and_the_others_go_on(table):
    _, rows = table("--networks=final")
    assert rows[2][10:] == ["out of memory", "", "", ""]
    assert rows[2][3] == "80"


def test_rows_that_do_not_fit_into_the_time_are_left_out(table):
    text, rows = table("--networks=final,pare", "--minutes=0.1")
    assert not rows
    assert "final train 4" in text
    assert "pare predict 8" in text
    assert not FakeWorker.asked


def test_a_row_may_compile_for_half_of_the_time_and_measure_for_all():
    asked = []

    class TimedWorker(FakeWorker):
        def answer(self, deadline):
            asked.append((next(iter(self._request)), deadline))
            return super().answer(deadline)

    worker = TimedWorker("jax", None, 0.0)
    now = time.monotonic()
    row = Row("final", "train", 4, "float32")
    benchmark_step.measure_row(row, [worker], now + 1000, seconds=1.0)
    assert [what for what, _ in asked] == ["prepare", *["measure"] * 3]
    assert asked[0][1] == pytest.approx(now + 500, abs=50)
    assert all(until >= now + 1000 for _, until in asked[1:])


def test_a_row_that_takes_long_is_measured_once():
    worker = FakeWorker("jax", None, 0.0)
    row = Row("final", "train", 4, "float32")
    asked = []
    worker.ask = lambda request, deadline: (
        asked.append(request),
        FakeWorker.ask(worker, request, 0),
    )
    (result,) = benchmark_step.measure_row(row, [worker], time.monotonic() - 1, seconds=1.0)
    assert result.seconds == 0.1
    assert len(asked) == 2  # to prepare, and to measure


def test_a_worker_that_ends_leaves_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_step.sys, "executable", "/bin/false")
    worker = benchmark_step.Worker("jax", tmp_path / "log", time.monotonic() + 20)
    assert worker.about == {"error": "the process ended"}


def test_a_worker_that_does_not_start_ends_at_the_deadline(tmp_path, monkeypatch):
    (tmp_path / "sleeps").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "sleeps").chmod(0o755)
    monkeypatch.setattr(benchmark_step.sys, "executable", str(tmp_path / "sleeps"))
    started = time.monotonic()
    worker = benchmark_step.Worker("jax", tmp_path / "log", started + 0.2)
    assert worker.about == {"error": "no time"}
    worker.ask({"peaks": True}, started + 0.4)  # which starts it again
    assert "error" in worker.answer(started + 0.4)
    assert time.monotonic() < started + 5
    worker.end()


def test_a_call_is_waited_for():
    waited = []
    assert seconds_a_call(lambda: len(waited), waited.append, 0.0) >= 0
    assert waited == list(range(4))
