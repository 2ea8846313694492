"""Rows of scripts/benchmark_step.py: what a worker is asked and what it answers."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: `work` is "train" (one whole step) or "predict" (crops to parameters)."""

    network: str
    work: str
    batch: int
    precision: str


@dataclasses.dataclass(frozen=True)
class PreparedRow:
    """A compiled row: seconds, bytes of memory, and of one call the operations and bytes moved.

    Zero stands for an unknown number.
    """

    compile_time: float
    memory: float = 0.0
    flops: float = 0.0
    bytes_moved: float = 0.0


@dataclasses.dataclass(frozen=True)
class Peaks:
    """Measured limits of the machine: operations a second, and bytes a second."""

    flops: float
    bandwidth: float


def seconds_a_call(
    call: Callable[[], Any], wait: Callable[[Any], Any], seconds: float, at_least: int = 3
) -> float:
    """Return the median seconds of a call that is waited for.

    Args:
        call: starts the work and returns what to wait for; called once before.
        wait: waits for it.
        seconds: to measure.
        at_least: number of calls.
    """
    wait(call())
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < at_least:
        began = time.perf_counter()
        wait(call())
        times.append(time.perf_counter() - began)
    return float(np.median(times))
