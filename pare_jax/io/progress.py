"""How far a run is: a live line on a terminal, a readable line now and then in a log file."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Counts steps and tells step, epoch, loss, speed and time left."""

    def __init__(self, num_steps: int, steps_per_epoch: int, batch_size: int, start: int = 0):
        """Start counting.

        Args:
            num_steps: of the whole run.
            steps_per_epoch: to turn steps into epochs.
            batch_size: to turn steps into examples.
            start: the step the run goes on from.
        """
        self._num_steps = num_steps
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._live = sys.stderr.isatty()
        self._bar = tqdm(
            total=num_steps,
            initial=start,
            disable=not self._live,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left",
        )
        self._mark = (start, time.perf_counter())
        self._paused = 0.0

    def advance(self) -> None:
        """Count one step."""
        self._bar.update()

    def report(self, step: int, loss: float) -> float:
        """Tell how the run is doing; returns examples a second since the last report."""
        last_step, last_time = self._mark
        now = time.perf_counter()
        seconds = max(now - last_time - self._paused, 1e-9)
        self._mark, self._paused = (step, now), 0.0
        rate = (step - last_step) * self._batch_size / seconds
        epoch = step / self._steps_per_epoch
        line = f"step {step}/{self._num_steps}  epoch {epoch:.2f}  loss {loss:.2f}  {rate:.0f} ex/s"
        if self._live:
            self._bar.set_description_str(line)
        else:
            left = (self._num_steps - step) * self._batch_size / max(rate, 1e-9)
            self.say(f"{line}  {duration(left)} left")
        return rate

    def pause(self, seconds: float) -> None:
        """Leave `seconds`, spent on something else, out of the next report's speed."""
        self._paused += seconds

    def say(self, text: str) -> None:
        """Print a line without disturbing the live one."""
        if self._live:
            self._bar.write(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Leave the terminal tidy."""
        self._bar.close()


class Countdown:
    """Counts what is done of a known number; on a terminal a bar, in a log file nothing."""

    def __init__(self, total: int, what: str):
        """Start counting.

        Args:
            total: how many there are.
            what: said before the bar.
        """
        self._bar = tqdm(
            total=total,
            desc=what,
            disable=not sys.stderr.isatty(),
            leave=False,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left",
        )

    def advance(self, count: int = 1) -> None:
        """Count some more."""
        self._bar.update(count)

    def __enter__(self) -> "Countdown":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def duration(seconds: float) -> str:
    """Write seconds as M:SS or H:MM:SS."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
