"""Rows about the frames of a clip, kept in chunks on disk, so that a long clip can go on.

A power cut or a full disk may leave a chunk damaged: it counts as missing, as all after it do.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pare_jax.errors import UserError
from pare_jax.io.files import remove_files, write_together

# Frames a chunk: what is lost at most when a run is killed.
CHUNK = 64

Rows = dict[str, np.ndarray]


class Chunks:
    """Rows of arrays by frame; the last chunk may be shorter and marks the end."""

    def __init__(self, folder: Path, name: str):
        """Find the chunks that are there already and can be read.

        Args:
            folder: of the clip, made when the first chunk is written.
            name: of the rows.
        """
        self._folder, self._name = folder, name
        self.count = 0
        while read_arrays(self._path(self.count)) is not None:
            self.count += 1
        end = read_arrays(self._end)
        self.is_complete = end is not None and int(end.get("chunks", -1)) == self.count

    @property
    def frames(self) -> int:
        """How many frames the chunks cover, or more once they are complete."""
        return self.count * CHUNK

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Write the next chunk, about the next `CHUNK` frames or those that are left."""
        self._save(self._path(self.count), rows)
        self.count += 1

    def complete(self, **facts: float) -> None:
        """Say that there is no more to come, and what is known by now."""
        facts |= {"chunks": self.count}
        self._save(self._end, {name: np.asarray(value) for name, value in facts.items()})
        self.is_complete = True

    def discard(self) -> None:
        """Forget all chunks: they are to be made again."""
        # The end goes first: what is left of an interruption is not complete.
        remove_files([self._end, *sorted(self._folder.glob(f"{self._name}_*.npz"))])
        self.count, self.is_complete = 0, False

    def facts(self) -> Rows:
        """Return what `complete` was told."""
        return self._read(self._end)

    def rows(self) -> Rows:
        """Return the rows of all chunks."""
        loaded = [self._read(self._path(number)) for number in range(self.count)]
        return {name: np.concatenate([rows[name] for rows in loaded]) for name in loaded[0]}

    def _read(self, path: Path) -> Rows:
        rows = read_arrays(path)
        if rows is None:
            raise UserError(f"{path} can no longer be read: run the same command again")
        return rows

    @property
    def _end(self) -> Path:
        return self._folder / f"{self._name}_end.npz"

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}_{number:06}.npz"

    def _save(self, path: Path, rows: Mapping[str, np.ndarray]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **rows)  # pyright: ignore[reportArgumentType]
        write_together(self._folder, {path.name: buffer.getvalue()})


def read_arrays(path: Path) -> Rows | None:
    """Return the arrays of an .npz file; None where it is missing or damaged."""
    try:
        with np.load(path) as archive:
            return dict(archive)
    except MemoryError:
        raise
    except Exception:  # zipfile and NumPy raise a dozen kinds over damaged bytes
        return None
