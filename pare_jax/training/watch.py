"""Observers of a run: the check for divergence and the profiler's trace."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.training.step import TrainState


def check_finite(state: TrainState, config: ConfigDict) -> None:
    """Raise UserError if the loss has been non-finite for `max_bad_steps` steps in a row.

    The step counts on the device and updates nothing from then on. Reading the counter waits for
    the device: call this only where the host waits anyway.
    """
    bad = int(state.bad_steps)
    if bad < config.max_bad_steps:
        return
    first = int(state.step) - bad
    raise UserError(
        f"the loss is not finite since step {first + 1} (batches {first} to "
        f"{first + config.max_bad_steps - 1} of seed {config.seed}): lower "
        "optimizer.learning_rate and run again; the run resumes from its last checkpoint, if any"
    )


class Tracer:
    """Records a trace for TensorBoard's profiler between two steps."""

    def __init__(self, workdir: Path, steps: tuple[int, int]):
        self._folder = str(workdir)
        self._first, self._last = steps
        self._running = False

    def before(self, step: int) -> None:
        """Start or stop the trace if this step is the first or the last."""
        if self._last > self._first == step:
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif step == self._last:
            self.stop()

    def stop(self) -> None:
        """Write the trace, if one is being recorded."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
