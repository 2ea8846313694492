"""Kill, stop and damage runs of the tiny experiment, and compare them with an undisturbed run.

    python -m scripts.measure_faults [--kills=20] [--moments=training,saving] [--seed=0]
        [--only=kill,damage] [--keep=FOLDER]

Prints a table: the fault, how often it was tried, how often the run survived. A run survives if the
same command resumes it, if it ends with the same bits of every weight, average and optimizer state
as an undisturbed run, and if it names the fault in a few lines. Everything is made in a temporary
folder. JAX's cache of compiled programs is used, so that a start takes seconds.
"""

import argparse
import contextlib
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pare_jax.errors import counted
from scripts.kill_moments import MOMENTS, KillMoment, wait_for

ROOT = Path(__file__).resolve().parents[1]
# Seconds in which a start must end by itself.
_PATIENCE = 1200
_STEPS = 60  # of configs/tiny.py
# Starts for each kill that is wanted: a kill may come too late.
_MOST_STARTS = 4
# Lines for saves that failed: one for each try.
_MOST_LINES = 10

# Makes the labels of some batches non-finite; arguments follow "--".
_WITH_NANS = """
import sys
import numpy as np
from data_pipelines.reading import input_pipeline
from pare_jax import main
first, last = {first}, {last}
streams = input_pipeline.train_batches
def with_nans(*args, start_step=0, **settings):
    for step, batch in enumerate(streams(*args, start_step=start_step, **settings), start_step):
        if first <= step < last:
            batch = batch | {{"joints_3d": np.full_like(batch["joints_3d"], np.nan)}}
        yield batch
input_pipeline.train_batches = with_nans
sys.exit(main.main(sys.argv))
"""


class Place:
    """The folder of one trial: starts runs in it and reads what they leave."""

    def __init__(self, folder: Path, data: Path, program: Sequence[str] = ("-m", "pare_jax.main")):
        """Args: folder of the run; data, the prepared datasets; program, arguments of Python."""
        self.folder, self.data, self._program = folder, data, list(program)
        self.said = ""

    @contextlib.contextmanager
    def started(self, *more: str, log: str = ".log") -> Iterator[subprocess.Popen]:
        """Start the run; collect what it says at the end of the block, where it must have ended.

        Args:
            more: further flags.
            log: suffix of the file for what it says.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        log_file = self.folder.with_suffix(log)
        flags = [
            "--config=configs/tiny.py",
            f"--workdir={self.folder}",
            f"--config.data.root={self.data}",
            *more,
        ]
        with log_file.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, *self._program, *flags], cwd=ROOT, stdout=file, stderr=file
            )
            try:
                yield process
                process.wait(_PATIENCE)
            finally:
                process.kill()
                process.wait()
                self.said = log_file.read_text()

    def finish(self) -> int:
        """Run to the end; return the exit status."""
        with self.started() as process:
            pass
        return process.returncode

    @contextlib.contextmanager
    def started_as_two(self) -> Iterator[tuple[subprocess.Popen, subprocess.Popen]]:
        """Start the run as two processes; `said` is the first one's output."""
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        flags = [f"--coordinator=localhost:{port}", "--num_processes=2"]
        with (
            self.started(*flags, "--process_id=0") as first,
            self.started(*flags, "--process_id=1", log=".second.log") as second,
        ):
            yield first, second

    def lines(self) -> int:
        """Return the number of log lines of steps so far."""
        log = self.folder.with_suffix(".log")
        return len(re.findall(r"^step \d+  epoch", log.read_text(), re.MULTILINE))

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints."""
        found = (self.folder / "checkpoints").glob("*")
        return sorted(int(path.name) for path in found if path.name.isdecimal())

    def digest(self) -> str:
        """Return a digest of all arrays of the last checkpoint, which must be of the last step."""
        import orbax.checkpoint as ocp

        steps = self.steps()
        if not steps or steps[-1] != _STEPS:
            return f"the last checkpoint is not of step {_STEPS}: {steps}"
        digest = hashlib.sha256()
        for item in ("model", "swa", "training"):
            place = self.folder / "checkpoints" / str(_STEPS) / item
            reader = ocp.StandardCheckpointer()
            # With numpy's arrays as template, the number of processes that saved does not matter.
            metadata = reader.metadata(place).item_metadata
            template = {name: np.zeros(one.shape, one.dtype) for name, one in metadata.items()}
            arrays = reader.restore(place, template)
            for name in sorted(arrays):
                digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        return digest.hexdigest()


class Trials:
    """All trials of one call, with the rows of the table."""

    def __init__(self, folder: Path, kept: Path, seed: int):
        self.folder, self.data = folder, kept / "data"
        self.rows: list[tuple[str, int, int, str]] = []
        self._random = random.Random(seed)
        self.undisturbed = Place(kept / "undisturbed", self.data)
        began = time.monotonic()
        if not self.undisturbed.steps() and (status := self.undisturbed.finish()):
            sys.exit(f"the undisturbed run ended with status {status}:\n{self.undisturbed.said}")
        self.expected = self.undisturbed.digest()
        print(f"undisturbed run: {time.monotonic() - began:.0f} s", file=sys.stderr)

    def row(self, what: str, tried: int, survived: int, note: str = "") -> None:
        """Add a row to the table and show it."""
        self.rows.append((what, tried, survived, note))
        print(f"{what}: {survived} of {tried} {note}", file=sys.stderr, flush=True)

    def ends_alike(self, place: Place) -> bool:
        """Finish a run and compare it with the undisturbed one."""
        status = place.finish()
        alike = status == 0 and place.digest() == self.expected
        if not alike:
            print(f"status {status}, {place.steps()}\n{place.said[-2000:]}", file=sys.stderr)
        return alike

    def kill(self, count: int, moments: Sequence[str]) -> None:
        """Kill -9 at random moments, several in each run, until each has been hit."""
        for place_in_turn, moment in enumerate(moments):
            wanted = count // len(moments) + (place_in_turn < count % len(moments))
            hits: list[str] = []
            alike = runs = starts = 0
            while len(hits) < wanted and starts < wanted * _MOST_STARTS:
                runs += 1
                data = self.folder / f"data {runs}" if moment == "preparing" else self.data
                place = Place(self.folder / f"{moment} {runs}", data)
                here: list[str] = []
                is_over = False
                while not is_over and len(hits) + len(here) < wanted:
                    starts += 1
                    hit, is_over = self._kill_once(place, moment)
                    here += [hit] if hit else []
                    print(f"kill while {moment}: {hit or 'missed'}", file=sys.stderr, flush=True)
                    is_over = is_over or (moment == "preparing" and not hit)
                if self.ends_alike(place):
                    alike += len(here)
                hits += here
            note = f"{counted(runs, 'run')}: {', '.join(hits)}"
            self.row(f"kill -9 while {moment}", len(hits), alike, note)

    def _kill_once(self, place: Place, moment: str) -> tuple[str, bool]:
        """Return what the killed process was doing, "" if not this, and whether the run is over."""
        kill = KillMoment(moment, place.folder, place.data, _STEPS, self._random)
        with place.started() as process:
            kill.wait(process)
            process.kill()
        was_killed = process.returncode == -signal.SIGKILL
        is_over = not was_killed or _STEPS in place.steps()
        return (kill.hit() if was_killed else ""), is_over

    def _kill_in_training(self, place: Place) -> None:
        """Kill a run while it trains, in a new folder after a kill that came too late."""
        while not self._kill_once(place, "training")[0]:
            shutil.rmtree(place.folder)

    def signals(self) -> None:
        """SIGTERM and SIGHUP while training."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            place = Place(self.folder / number.name, self.data)
            with place.started() as process:
                wait_for(process, lambda place=place: place.lines() > 0)  # step 10
                began = time.monotonic()
                process.send_signal(number)
                process.wait(_PATIENCE)
                took = time.monotonic() - began
            saved = place.steps()[-1:]
            good = process.returncode == 0 and took < 30 and number.name in place.said
            note = f"ended in {took:.1f} s, saved step {saved[0] if saved else None}"
            self.row(number.name, 1, int(good and self.ends_alike(place)), note)

    def damage(self) -> None:
        """Damage the newest checkpoint of a stopped run."""
        stopped = Place(self.folder / "stopped", self.data)
        with stopped.started() as process:
            wait_for(process, lambda: len(stopped.steps()) > 1)
            process.send_signal(signal.SIGTERM)
        for name, harm in DAMAGES.items():
            place = Place(self.folder / name.replace(" ", "_"), self.data)
            shutil.copytree(stopped.folder, place.folder)
            newest = place.steps()[-1]
            harm(place.folder / "checkpoints" / str(newest))
            alike = self.ends_alike(place)
            told = [line for line in place.said.splitlines() if f"checkpoints/{newest}" in line]
            self.row(f"newest checkpoint {name}", 1, int(alike and len(told) == 1))

    def disk(self) -> None:
        """Refuse large writes for a while, as a full disk does."""
        place = Place(self.folder / "disk", self.data)
        with place.started() as process:
            wait_for(process, lambda: place.steps() != [])
            before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, -1))
            wait_for(process, lambda: place.lines() > 3)
            if process.poll() is None:
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)
        told = [line for line in place.said.splitlines() if "cannot save a checkpoint" in line]
        other = [line for line in place.said.splitlines() if "cannot write TensorBoard" in line]
        alike = process.returncode == 0 and place.digest() == self.expected
        good = alike and 1 <= len(told) <= _MOST_LINES and len(other) <= 1
        if not good:
            print(place.said[-3000:], file=sys.stderr)
        note = f"{counted(len(told), 'failed save')}, a line each; {len(other)} for TensorBoard"
        self.row("disk full while saving", 1, int(good), note)

    def two(self) -> None:
        """Start a second run in the folder of the first."""
        place = Place(self.folder / "two", self.data)
        with place.started() as process:
            wait_for(process, lambda: place.lines() > 0)
            second = subprocess.run(
                [sys.executable, *process.args[1:]],  # pyright: ignore
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
        lines = second.stderr.splitlines()
        refused = second.returncode == 2 and len(lines) == 1 and str(place.folder) in lines[0]
        alike = process.returncode == 0 and place.digest() == self.expected
        self.row("two runs in one folder", 1, int(refused and alike), "the second is refused")

    def processes(self) -> None:
        """Kill the second of two processes; the first must end, and both must go on together."""
        whole, killed = (Place(self.folder / f"processes {n}", self.data) for n in (1, 2))
        with whole.started_as_two() as (first, second):
            pass
        status = first.returncode or second.returncode
        with killed.started_as_two() as (first, second):
            wait_for(first, lambda: killed.steps() != [])
            second.kill()
            began = time.monotonic()
            first.wait(_PATIENCE)
            took = time.monotonic() - began
        named = "unhealthy" in killed.said and first.returncode
        with killed.started_as_two() as (first, second):
            pass
        status = status or first.returncode or second.returncode
        alike = not status and whole.digest() == killed.digest()
        if not (alike and named and took < 60):
            print(status, named, killed.said[-3000:], file=sys.stderr)
        note = f"the other ended after {took:.0f} s and named it"
        self.row("one of two processes killed", 1, int(alike and bool(named) and took < 60), note)

    def record(self) -> None:
        """Damage a record of the training set; a run and a killed run must agree."""
        data = shutil.copytree(self.data, self.folder / "damaged data")
        (shard,) = data.glob("**/*train.array_record*")
        content = bytearray(shard.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(64)
        shard.write_bytes(content)
        whole, killed = (Place(self.folder / f"record {n}", data) for n in (1, 2))
        status = whole.finish()
        named = [line for line in whole.said.splitlines() if line.startswith("skipped: cannot")]
        counted = "which cannot be read" in whole.said
        self._kill_in_training(killed)
        good = not status and len(named) == 1 and counted and not killed.finish()
        alike = good and whole.digest() == killed.digest() != self.expected
        if not alike:
            print(whole.said[-3000:], killed.said[-2000:], file=sys.stderr)
        self.row("a damaged record", 1, int(alike), "named, skipped, counted; same after a kill")

    def nans(self) -> None:
        """Make batches non-finite: two, whose steps are skipped, and all, which stops the run."""
        program = ("-c", _WITH_NANS.format(first=20, last=22))
        whole, killed = (Place(self.folder / f"nans {n}", self.data, program) for n in (1, 2))
        status = whole.finish()
        self._kill_in_training(killed)
        alike = not status and not killed.finish() and whole.digest() == killed.digest()
        self.row("two batches of NaN", 1, int(alike), "skipped; same after a kill")
        place = Place(self.folder / "nans", self.data, ("-c", _WITH_NANS.format(first=20, last=99)))
        status = place.finish()
        last = place.said.splitlines()[-1] if place.said else ""
        good = status == 2 and "not finite since step 21" in last and place.steps() != []
        self.row("NaN in all batches", 1, int(good), "stops with one line, checkpoint kept")


def _truncate(folder: Path) -> None:
    for path in _arrays(folder):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zero(folder: Path) -> None:
    for path in _arrays(folder):
        path.write_bytes(bytes(path.stat().st_size))


def _remove_one(folder: Path) -> None:
    max(_arrays(folder), key=lambda path: path.stat().st_size).unlink()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _arrays(folder: Path) -> list[Path]:
    return [path for path in (folder / "model").rglob("*") if path.is_file() and "/d/" in str(path)]


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": _truncate,
    "zeroed": _zero,
    "without a file": _remove_one,
    "an empty folder": _empty,
}


def main(arguments: Sequence[str]) -> int:
    """Run the trials; returns 1 if something did not survive."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    trials = ("kill", "signals", "damage", "disk", "two", "processes", "record", "nans")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", default=",".join(trials), help="some of " + ", ".join(trials))
    parser.add_argument("--moments", default=",".join(MOMENTS), help="of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="folder that keeps the undisturbed run for the next call")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(given.keep or folder)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(kept / "programs")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["PYTHONUNBUFFERED"] = "1"  # a killed process has written its lines
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        all_trials = Trials(Path(folder), kept, given.seed)
        for name in given.only.split(","):
            action = getattr(all_trials, name)
            action(given.kills, given.moments.split(",")) if name == "kill" else action()
    print("| tried | times | survived | |\n| --- | ---: | ---: | --- |")
    for what, tried, survived, note in all_trials.rows:
        print(f"| {what} | {tried} | {survived} | {note} |")
    return int(any(tried != survived for _, tried, survived, _ in all_trials.rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
