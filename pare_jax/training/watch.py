"""What looks on while a run trains: for divergence, and for the profiler."""

import collections
from pathlib import Path

import jax

from pare_jax.errors import UserError


class DivergenceWatch:
    """Stops a run whose loss stays non-finite.

    Looks at a step's counter only when later steps are on their way, so that the device never
    waits for the host.
    """

    _BEHIND = 2

    def __init__(self, limit: int, seed: int):
        self._limit, self._seed = limit, seed
        self._pending: collections.deque[tuple[int, jax.Array]] = collections.deque()

    def after(self, step: int, bad_steps: jax.Array) -> None:
        """Take the counter that batch number `step` left; raises UserError."""
        self._pending.append((step, bad_steps))
        if len(self._pending) > self._BEHIND:
            self._look()

    def finish(self) -> None:
        """Look at the steps that are left; raises UserError."""
        while self._pending:
            self._look()

    def _look(self) -> None:
        step, counter = self._pending.popleft()
        bad = int(jax.device_get(counter))
        if bad >= self._limit:
            raise UserError(
                f"the loss is not finite since step {step - bad + 2} ({bad} steps in a row; "
                f"batches {step - bad + 1} to {step} of seed {self._seed}): lower "
                "optimizer.learning_rate and run again to go on from the last checkpoint"
            )


class Tracer:
    """Records a trace for TensorBoard's profiler between two steps."""

    def __init__(self, workdir: Path, steps: tuple[int, int]):
        self._folder = str(workdir)
        self._first, self._last = steps
        self._running = False

    def before(self, step: int) -> None:
        if self._last > self._first == step:
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif step == self._last:
            self.stop()

    def stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
