"""Defines a weight format: how its files are recognised, and its table for a network."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.pretrained.table import Report, Table

Flat = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class WeightFormat:
    """A format of weight files.

    Attributes:
        title: its name in messages.
        marks: tensor names that identify it: its files have all of them, others do not.
        table: returns the table of a network, from the `model` section of a config.
        check: takes tensors by the table's names, the `model` section and the file's path; raises
            UserError if the tensors belong to another network. The message starts with the path.
        after_reading: sets arrays of ours that are not in the table, from the file's metadata, and
            returns the updated report. None: nothing to set.
        before_writing: takes arrays of ours, the `model` section and the side of the crops in
            pixels; merges arrays that the format lacks into others, in place, and returns
            hyperparameters to write and notes for the user. None: nothing to merge.
        constants: tensors that are equal in all files of the format.
        variants: tensor names that identify files of variants of the network, which lack a mark.
        check_options: takes tensors by the table's names, the file's metadata and path; raises
            UserError if the file's options make another network than ours. None: it has no options.
    """

    title: str
    marks: tuple[str, ...]
    table: Callable[[ConfigDict], Table]
    check: Callable[[Mapping[str, np.ndarray], ConfigDict, str], None]
    after_reading: Callable[[Flat, Report, Mapping[str, Any]], Report] | None = None
    before_writing: Callable[[Flat, ConfigDict, int], tuple[dict[str, Any], list[str]]] | None = (
        None
    )
    constants: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    variants: tuple[str, ...] = ()
    check_options: Callable[[Mapping[str, np.ndarray], Mapping[str, Any], str], None] | None = None

    def prefix(self, names: Iterable[str]) -> str | None:
        """Return the text before the table's names in a file with these; None: another format.

        The shortest of several prefixes is returned, so that a network wins over its parts.
        """
        names = set(names)
        fitting = [
            prefix
            for marks in (self.marks, *((variant,) for variant in self.variants))
            for prefix in {n.removesuffix(marks[0]) for n in names if n.endswith(marks[0])}
            if (not prefix or prefix.endswith("."))
            and all(prefix + mark in names for mark in marks)
        ]
        return min(fitting, key=len, default=None)


def within(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the tensors whose names start with `prefix`, with the prefix removed."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def refuse_unknown_layers(
    tensors: Mapping[str, np.ndarray], known: Table, file: str, name: str
) -> None:
    """Raise UserError if a file has tensors in a known stage that the table lacks."""
    names = {entry.theirs for entry in known}
    stages = {theirs.split(".")[0] for theirs in names}
    unknown = [n for n in tensors if n.split(".")[0] in stages and n not in names]
    if unknown:
        raise UserError(
            f"{file} has {unknown[0]}, which a {name} lacks: it is a variant that this network "
            f"cannot compute; give a plain {name}"
        )
