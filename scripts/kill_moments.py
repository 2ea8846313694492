"""Kills a training run while it prepares data, trains, saves or evaluates, and proves that it did.

Each kill waits for something that the process itself has made: an earlier process's files and lines
do not count. What the dead process left shows what it was doing.
"""

import random
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

# In this order.
MOMENTS = ("preparing", "training", "saving", "evaluating")
_STEP_LINE = re.compile(r"^step (\d+)  epoch", re.MULTILINE)
_EVALUATION_LINE = re.compile(r"^step (\d+)  .*MPJPE", re.MULTILINE)
# Seconds after the first sign of a moment.
_LONGEST_WAIT = {"preparing": 8.0, "training": 0.3, "saving": 0.05, "evaluating": 0.6}


def wait_for(process: subprocess.Popen, condition: Callable[[], bool]) -> bool:
    """Wait until something holds; return False if the process ends before."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False


class KillMoment:
    """One kind of moment in one run's folder."""

    def __init__(self, name: str, run: Path, data: Path, num_steps: int, draw: random.Random):
        """Keep where a run leaves its files.

        Args:
            name: one of `MOMENTS`.
            run: the run's folder; the log is beside it, with the suffix ".log".
            data: folder of the prepared datasets.
            num_steps: of the run.
            draw: chooses the step and the time.
        """
        self._name, self._run, self._data, self._draw = name, run, data, draw
        self._num_steps = num_steps
        self._left = self._half_prepared()  # by an earlier process
        self._waited = 0.0

    def wait(self, process: subprocess.Popen) -> None:
        """Wait until a process that has just been started comes to such a moment, or ends."""
        if self._name == "preparing":
            wait_for(process, lambda: bool(self._half_prepared() - self._left))
        elif self._name == "saving":
            # What an earlier process left is removed first.
            wait_for(process, lambda: not self._half_saved())
            if self._draw.random() < 0.5:
                before = set(self._saved())
                wait_for(process, lambda: bool(set(self._saved()) - before))
            wait_for(process, lambda: bool(self._half_saved()))
        else:
            # The log has lines of this process alone.
            wait_for(process, self._comes_to_a_step())
        self._waited = self._draw.uniform(0, _LONGEST_WAIT[self._name])
        time.sleep(self._waited)
        if self._name == "training":
            wait_for(process, lambda: bool(self.hit()))

    def hit(self) -> str:
        """Describe from the files of the dead process what it did, "" if something else."""
        if self._name == "preparing":
            found = self._half_prepared() - self._left
            return f"{self._waited:.1f} s after it began" if found else ""
        if self._name == "saving":
            steps = [step for step in self._half_saved() if step not in self._saved()]
            return ", ".join(f"step {step}" for step in steps)
        if self._name == "evaluating":
            return ", ".join(f"step {step}" for step in self._unfinished_evaluation())
        logged, saved = self._logged(_STEP_LINE), max(self._saved(), default=0)
        if not logged or self._half_saved() or logged[-1] == self._num_steps:
            return ""
        if logged[-1] % 20 == 0 and saved < logged[-1]:
            return ""  # it evaluates, draws pictures or begins to save
        return f"after step {max(logged[-1], saved)}"

    def _comes_to_a_step(self) -> Callable[[], bool]:
        """Return the condition that the log has a drawn step, of those that are not saved yet."""
        every = 10 if self._name == "training" else 20
        last = self._num_steps - (self._name == "training")
        first = max(self._saved(), default=0) + 1
        drawn = self._draw.choice([n for n in range(first, last + 1) if n % every == 0] or [last])
        return lambda: max(self._logged(_STEP_LINE), default=0) >= drawn

    def _logged(self, pattern: re.Pattern) -> list[int]:
        text = self._run.with_suffix(".log").read_text()
        return [int(step) for step in pattern.findall(text)]

    def _unfinished_evaluation(self) -> list[int]:
        """Return the step whose evaluation has begun without a result, as a list of none or one."""
        evaluated = self._logged(_EVALUATION_LINE)
        begun = [step for step in self._logged(_STEP_LINE) if step % 20 == 0]
        return [step for step in begun[-1:] if step not in evaluated]

    def _half_prepared(self) -> set[str]:
        return {path.name for path in self._data.glob("*/*/incomplete.*")}

    def _half_saved(self) -> list[int]:
        found = (self._run / "checkpoints").glob("*orbax-checkpoint-tmp*")
        return [int(path.name.partition(".")[0]) for path in found]

    def _saved(self) -> list[int]:
        found = (self._run / "checkpoints").glob("*")
        return sorted(int(path.name) for path in found if path.name.isdecimal())
