"""What a kind of weight file is: how it is told from others, and its table for a network."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from pare_jax.pretrained.table import Report, Table

Flat = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class WeightFormat:
    """A kind of weight file.

    Attributes:
        title: what to call it to a user.
        marks: names that every such file has, and no other kind has all of.
        table: from the `model` section of a config to the table of that network.
        check: raises UserError, in one line that begins with its last argument, when the tensors,
            by the table's names, are of another network than the config's.
        after_reading: adds to our arrays what the table cannot say, from what the file holds beside
            tensors; returns the report with what it did. None: there is no such thing.
        before_writing: folds arrays of ours that the format has no place for into others, in
            place; returns hyperparameters to write and what the user should know. None: likewise.
        constants: tensors that every such file has and that are the same in all of them.
    """

    title: str
    marks: tuple[str, ...]
    table: Callable[[ConfigDict], Table]
    check: Callable[[Mapping[str, np.ndarray], ConfigDict, str], None]
    after_reading: Callable[[Flat, Report, Mapping[str, Any]], Report] | None = None
    before_writing: Callable[[Flat, ConfigDict], tuple[dict[str, Any], list[str]]] | None = None
    constants: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def prefix(self, names: Iterable[str]) -> str | None:
        """Tell what stands before the table's names in a file of these; None: it is another kind.

        Of several the shortest is taken, so that a network goes before a part of it.
        """
        names = set(names)
        first = self.marks[0]
        prefixes = {name.removesuffix(first) for name in names if name.endswith(first)}
        fitting = [
            prefix
            for prefix in prefixes
            if (not prefix or prefix.endswith(".")) and all(prefix + m in names for m in self.marks)
        ]
        return min(fitting, key=len, default=None)


def within(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
