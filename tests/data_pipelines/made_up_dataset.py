"""A release for tests, importable by worker processes: random examples, a log of units read."""

import os
import time
from pathlib import Path

import numpy as np

from data_pipelines.releases.release import Skipped, UnitResult
from tests.data_pipelines.conftest import make_record

EXAMPLES_A_UNIT = 3


class MadeUp:
    """Splits of the given numbers of units; reading a unit leaves a file in a folder."""

    name = "made_up"

    def __init__(self, log, sizes, deadly=None, broken=(), stamps=()):
        self.log, self.sizes = str(log), dict(sizes)
        self._deadly, self._broken, self._stamps = deadly, tuple(broken), dict(stamps)

    @property
    def splits(self):
        return tuple(self.sizes)

    def settings(self):
        return {"sizes": self.sizes, "broken": self._broken}

    def check(self):
        return []

    def units(self, split):
        return [(split, i, self._stamps.get((split, i), 0)) for i in range(self.sizes[split])]

    def read(self, unit):
        split, number, _ = unit
        time.sleep(float(os.environ.get("MADE_UP_DELAY", "0")))
        if number == self._deadly:
            os._exit(9)
        (Path(self.log) / f"{split}-{number}-{time.monotonic_ns()}").touch()
        examples = []
        for row in range(EXAMPLES_A_UNIT):
            seed = EXAMPLES_A_UNIT * number + row
            parts = bool(seed % 2)
            examples.append(make_record(seed, side=32, parts=parts, sequence=f"é {split}"))
        skipped = [Skipped(f"{split} {number}", "nobody there", broken=False)]
        if (split, number) in self._broken:
            skipped.append(Skipped(f"{split} {number} frame 7", "picture missing"))
            examples.pop()
        return UnitResult(examples, skipped)


def expected(split, sizes):
    """Return the examples of a split, in order."""
    return [
        make_record(seed, side=32, parts=bool(seed % 2), sequence=f"é {split}")
        for seed in range(EXAMPLES_A_UNIT * sizes[split])
    ]


def read_units(log):
    """Return the names of the units that were read, once per reading."""
    return sorted(path.name.rpartition("-")[0] for path in Path(log).iterdir())


def same(a, b):
    """Return whether two examples are equal."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
