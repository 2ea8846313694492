"""Writes TensorBoard's events; a full disk costs events, not the run.

TensorFlow's writer does not report a full disk. It leaves a record cut off, and TensorBoard shows
nothing of the file after it. So the file is checked here, and a new one begun.

This module is no data pipeline. It is in `data_pipelines` because it needs TensorFlow, which
`pare_jax` does not import.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pare_jax.io.files import scratch_path
from pare_jax.io.progress import say

# Around the content of a record are its length (8 bytes) and two checksums of 4 bytes.
_LENGTH, _AROUND = 8, 16
# Bytes that must fit on the disk before a new file is begun: more than pictures take.
_ROOM = 1 << 23


def tensorboard_writer(workdir: Path) -> Any:
    """Make the writer of a run's events; of several processes the first writes."""
    import jax
    from clu import metric_writers

    if jax.process_index():
        return metric_writers.MultiWriter([])

    def open_writer() -> Any:
        return metric_writers.AsyncMultiWriter([metric_writers.SummaryWriter(str(workdir))])

    return EventWriter(workdir, open_writer)


class EventWriter:
    """Passes scalars, pictures and texts to clu's writer, and checks that they arrive."""

    def __init__(self, workdir: Path, open_writer: Callable[[], Any]):
        """Keep what is needed to open a writer at the first event.

        Args:
            workdir: the run's folder, where the writer puts its files.
            open_writer: opens clu's writer, which begins a file.
        """
        self._workdir, self._open = workdir, open_writer
        self._writer: Any = None
        self._older: set[Path] = set()
        self._path: Path | None = None  # of the writer's file
        self._size = 0  # bytes of the file that are checked
        self._has_failed = False

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write numbers by name."""
        if scalars:
            self._do(lambda writer: writer.write_scalars(step, scalars))

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Write pictures by name."""
        if images:
            self._do(lambda writer: writer.write_images(step, images))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Write texts by name."""
        if texts:
            self._do(lambda writer: writer.write_texts(step, texts))

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Write the config's values."""
        self._do(lambda writer: writer.write_hparams(hparams))

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._check()
        if self._writer is not None:
            with contextlib.suppress(Exception):  # it was checked
                self._writer.close()

    def _do(self, action: Callable[[Any], None]) -> None:
        if self._writer is not None:
            self._check()
        if self._writer is None:
            if self._has_failed and not self._is_room():
                return
            self._older, self._path, self._size = self._files(), None, 0
        try:
            self._writer = self._writer or self._open()
            action(self._writer)
        except Exception as error:
            self._failed(str(error) or type(error).__name__)

    def _check(self) -> None:
        """Give the writer up unless everything so far is in its file."""
        try:
            self._writer.flush()
            path = self._path = self._path or self._own_file()
            with path.open("rb") as file:
                place, end = self._size, path.stat().st_size
                while place < end:
                    file.seek(place)
                    place += int.from_bytes(file.read(_LENGTH), "little") + _AROUND
        except Exception as error:
            self._failed(str(error) or type(error).__name__)
            return
        if place != end or end == self._size:
            self._failed("the last ones are cut off, as on a full disk")
        elif self._has_failed:
            self._has_failed = False
            say(f"events are written to {path} again", sys.stderr)
        self._size = end

    def _failed(self, reason: str) -> None:
        if not self._has_failed:
            say(
                f"cannot write TensorBoard's events to {self._workdir}: "
                f"{reason.strip().splitlines()[0][:200]}; training goes on, and events are "
                "written again when there is space",
                sys.stderr,
            )
        self._has_failed = True
        with contextlib.suppress(Exception):
            self._writer.close()
        self._writer = None

    def _files(self) -> set[Path]:
        return set(self._workdir.glob("events.out.tfevents.*"))

    def _own_file(self) -> Path:
        """Return the writer's file. Another program may have begun one here, too."""
        new = self._files() - self._older
        if not new:
            raise OSError("the file of events is missing")
        return min(new, key=lambda path: (f".{os.getpid()}." not in path.name, path.name))

    def _is_room(self) -> bool:
        """Return whether the disk takes as much as an evaluation writes."""
        path = scratch_path(self._workdir / "events")
        try:
            with path.open("xb") as file:
                file.write(bytes(_ROOM))
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        return True
