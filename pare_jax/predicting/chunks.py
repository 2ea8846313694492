"""Rows about the frames of a clip, kept in chunks on disk, so that a long clip can go on."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pare_jax.files import write_together

# Frames a chunk: what is lost at most when a run is killed.
CHUNK = 64

Rows = dict[str, np.ndarray]


class Chunks:
    """Rows of arrays by frame; the last chunk may be shorter and marks the end."""

    def __init__(self, folder: Path, name: str):
        """Find the chunks that are there already.

        Args:
            folder: of the clip, made when the first chunk is written.
            name: of the rows.
        """
        self._folder, self._name = folder, name
        self.count = 0
        while self._path(self.count).is_file():
            self.count += 1
        self.is_complete = self._end.is_file()

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
        self._save(self._end, {name: np.asarray(value) for name, value in facts.items()})
        self.is_complete = True

    def facts(self) -> Rows:
        """Return what `complete` was told."""
        with np.load(self._end) as archive:
            return dict(archive)

    def rows(self) -> Rows:
        """Return the rows of all chunks."""
        loaded = []
        for number in range(self.count):
            with np.load(self._path(number)) as archive:
                loaded.append(dict(archive))
        return {name: np.concatenate([rows[name] for rows in loaded]) for name in loaded[0]}

    @property
    def _end(self) -> Path:
        return self._folder / f"{self._name}_end.npz"

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}_{number:06}.npz"

    def _save(self, path: Path, rows: Mapping[str, np.ndarray]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **rows)  # pyright: ignore[reportArgumentType]
        write_together(self._folder, {path.name: buffer.getvalue()})
