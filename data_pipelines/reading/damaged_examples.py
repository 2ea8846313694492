"""Skips examples that cannot be read, names and counts them; a larger share stops the run.

In training, the next readable example of the split replaces a damaged one. The replacement depends
on the index alone, so that a resumed run reads the same bytes.
"""

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from pare_jax.errors import UserError, counted
from pare_jax.io.progress import say

# The largest share of a split that may be damaged. One example always may.
MOST_DAMAGED = 0.01


class DamagedExampleError(UserError):
    """An example whose bytes or images are damaged, so that reading it again does not help."""


class ExampleSource(Protocol):
    """A split whose examples are read by index, as `storage.open_split` returns."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return the fields of `example.STORED_FIELDS`; images may be decoded already."""
        ...


class DamagedExamples:
    """The damaged examples of a run's splits; safe to use from several threads."""

    def __init__(self) -> None:
        self._found: dict[Any, set[int]] = {}
        self._names: dict[Any, str] = {}
        self._refusals: dict[Any, str] = {}  # of splits with too many damaged examples
        self._lock = threading.Lock()

    def add(self, split: ExampleSource, index: int, error: DamagedExampleError) -> None:
        """Note a damaged example and name it, unless it is known.

        Raises:
            UserError: too many examples of the split are damaged.
        """
        key = _key(split)
        with self._lock:
            found = self._found.setdefault(key, set())
            self._names[key] = name_of(split)
            if index in found:
                return
            found.add(index)
            count = len(found)
            if are_too_many(count, len(split)):
                self._refusals[key] = (
                    f"{count:,} of the {counted(len(split), 'example')} of {name_of(split)} cannot "
                    f"be read, more than {MOST_DAMAGED:.0%}; the last is this: {error}"
                )
        self._check(key)
        say(f"skipped: {error}", sys.stderr)

    def is_known(self, split: ExampleSource, index: int) -> bool:
        """Return whether an example was found to be damaged."""
        return index in self._found.get(_key(split), ())

    def replacement(self, split: ExampleSource, index: int) -> int:
        """Return the index, or for a damaged example that of the next one not known as damaged.

        Raises:
            UserError: too many examples of the split are damaged.
        """
        self._check(_key(split))
        while self.is_known(split, index):
            self._check(_key(split))  # all may be damaged
            index = (index + 1) % len(split)
        return index

    def _check(self, key: Any) -> None:
        if key in self._refusals:
            raise UserError(self._refusals[key])

    def readable(self, split: ExampleSource, indices: Iterable[int]) -> Iterator[Mapping[str, Any]]:
        """Yield the examples at these indices, without damaged ones; raises as `add`."""
        for index in indices:
            try:
                example = split[index]
            except DamagedExampleError as error:
                self.add(split, index, error)
            else:
                yield example

    def found(self) -> dict[str, set[int]]:
        """Return the indices of the damaged examples so far, by the name of their split."""
        with self._lock:
            return {self._names[key]: set(found) for key, found in self._found.items()}


def are_too_many(damaged: int, total: int) -> bool:
    """Return whether a split with that many damaged examples is not used."""
    return damaged > max(1, MOST_DAMAGED * total) or damaged == total


def name_of(split: Any) -> str:
    """Name a split in a message: stored splits have a path."""
    return f"{split.split} in {split.path}" if hasattr(split, "path") else "the dataset"


def _key(split: Any) -> Any:
    return (str(split.path), split.split) if hasattr(split, "path") else id(split)
