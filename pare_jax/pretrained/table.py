"""Converts weights by a table: our name, their name and the layout of each array.

A weight format is a list of entries. The conversion in both directions, its errors and its report
are here. "Ours" are the dotted names of our checkpoints, such as "params.backbone.conv1.kernel" and
"batch_stats.backbone.bn1.mean"; "theirs" are the names of a PyTorch state dict.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pare_jax.errors import UserError, counted, listed
from pare_jax.io.files import printable

# Tensors that an error names; it counts the others.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Layout:
    """The axes of an array in their file and in ours; the two functions are inverses.

    Attributes:
        to_ours: from their array to ours.
        to_theirs: from our array to theirs.
    """

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


def permuted(*axes: int) -> Layout:
    """Return the layout in which our axis i is their axis `axes[i]`."""
    back = tuple(int(axis) for axis in np.argsort(axes))
    return Layout(lambda a: a.transpose(axes), lambda a: a.transpose(back))


SAME = Layout(lambda a: a, lambda a: a)
CONV = permuted(2, 3, 1, 0)  # (out, in, height, width) -> (height, width, in, out)
# PARE's linear layer of 24 joints, stored as a locally connected one:
# (1, out, in, joints, 1, 1) -> (joints, in, out)
PER_JOINT = Layout(
    lambda a: a.reshape(a.shape[1:4]).transpose(2, 1, 0),
    lambda a: a.transpose(2, 1, 0)[None, ..., None, None],
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a weight format.

    Attributes:
        ours: its name in our checkpoint.
        theirs: its name in their file.
        layout: its axes in both.
        required: whether a file without it is refused; else our initial value stays.
    """

    ours: str
    theirs: str
    layout: Layout = SAME
    required: bool = True


Table = Sequence[Entry]


def conv(ours: str, theirs: str, *, bias: bool = False) -> list[Entry]:
    """Return the entries of a convolution; `ours` and `theirs` are names of the layer."""
    entries = [Entry(f"params.{ours}.kernel", f"{theirs}.weight", CONV)]
    if bias:
        entries.append(Entry(f"params.{ours}.bias", f"{theirs}.bias"))
    return entries


def batch_norm(ours: str, theirs: str) -> list[Entry]:
    """Return the entries of a batch normalisation."""
    return [
        Entry(f"params.{ours}.scale", f"{theirs}.weight"),
        Entry(f"params.{ours}.bias", f"{theirs}.bias"),
        Entry(f"batch_stats.{ours}.mean", f"{theirs}.running_mean"),
        Entry(f"batch_stats.{ours}.var", f"{theirs}.running_var"),
    ]


@dataclasses.dataclass(frozen=True)
class Report:
    """Tensors of a file that were used, and arrays of ours that it lacks.

    Attributes:
        file: path of the file.
        used: tensors used, as name and number of elements.
        ignored: tensors that our network has no array for, likewise.
        fresh: our arrays that keep their initial values, likewise.
        notes: further notes for the user, one line each.
    """

    file: str
    used: Mapping[str, int]
    ignored: Mapping[str, int]
    fresh: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        used, ignored, fresh = map(_groups, (self.used, self.ignored, self.fresh))
        rows = [("used", *row) for row in used] + [("ignored", *row) for row in ignored]
        rows += [("not in the file", *row) for row in fresh]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{what:<{widths[0]}}  {name:<{widths[1]}}  {count:>{widths[2]}}  {size:>{widths[3]}}"
            for what, name, count, size in rows
        ]
        return "\n".join(map(printable, [f"weights from {self.file}:", *lines, *self.notes]))


def _groups(sizes: Mapping[str, int]) -> list[tuple[str, str, str]]:
    """Sum the sizes by the first parts of the names."""
    groups: dict[str, list[int]] = {}
    for name, size in sizes.items():
        groups.setdefault(_group(name), []).append(size)
    return [
        (name, counted(len(sizes), "tensor"), f"{sum(sizes):,} numbers")
        for name, sizes in groups.items()
    ]


def _group(name: str) -> str:
    """Return a name's first two parts without its leaf and numbers: "heads.pose", "layer1"."""
    parts = name.removeprefix("params.").removeprefix("batch_stats.").split(".")
    parts = parts[:-1] or parts
    kept = parts[:2]
    return ".".join(part for part in kept if not part.isdigit()) or name


def to_ours(
    table: Table,
    tensors: Mapping[str, np.ndarray],
    template: Mapping[str, Any],
    *,
    file: str,
    prefix: str = "",
) -> tuple[dict[str, np.ndarray], Report]:
    """Convert a file's tensors to our arrays.

    Args:
        table: the format's.
        tensors: the file's, by name.
        template: the network to fill: by our names, anything with a `shape`. Arrays outside the
            table are allowed.
        file: path of the file, for errors and the report.
        prefix: text before the table's names in this file.

    Returns:
        Our arrays by name, for the entries that the file has, and the report.

    Raises:
        UserError: a required tensor is missing, or a tensor's shape does not fit the network.
    """
    wanted = [(entry, prefix + entry.theirs) for entry in table]
    missing = [theirs for entry, theirs in wanted if entry.required and theirs not in tensors]
    if missing:
        raise UserError(
            f"{file} lacks {listed(missing, _NAMED)}: it belongs to another network; "
            "give the model settings of that network, or another file"
        )
    flat, used, misshapen = {}, {}, []
    for entry, theirs in wanted:
        if theirs not in tensors:
            continue
        expected = shape_of_theirs(entry, template[entry.ours].shape)
        found = tensors[theirs].shape
        if found != expected:
            misshapen.append(f"{theirs} of shape {found} instead of {expected}")
        else:
            flat[entry.ours] = np.ascontiguousarray(entry.layout.to_ours(tensors[theirs]))
            used[theirs] = tensors[theirs].size
    if misshapen:
        raise UserError(
            f"{file} has {listed(misshapen, _NAMED)}: it belongs to another network; "
            "give the model settings of that network, or another file"
        )
    ignored = {name: value.size for name, value in tensors.items() if name not in used}
    fresh = {name: math.prod(v.shape) for name, v in template.items() if name not in flat}
    return flat, Report(file, used, ignored, fresh)


def to_torch(table: Table, flat: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert our arrays to the tensors of a PyTorch state dict; the exact inverse of `to_ours`.

    Args:
        table: the format's.
        flat: our arrays by name; those outside the table are skipped.

    Raises:
        UserError: an array of the table is missing.
    """
    missing = [entry.ours for entry in table if entry.required and entry.ours not in flat]
    if missing:
        raise UserError(
            f"the network has no {listed(missing, _NAMED)}: it cannot be written in this format"
        )
    return {
        entry.theirs: np.ascontiguousarray(entry.layout.to_theirs(np.asarray(flat[entry.ours])))
        for entry in table
        if entry.ours in flat
    }


def shape_of_theirs(entry: Entry, ours: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of their tensor for our array of shape `ours`."""
    # A broadcast scalar takes no memory.
    return entry.layout.to_theirs(np.broadcast_to(np.float32(0), ours)).shape
