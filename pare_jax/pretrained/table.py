"""The language of weight conversion: a table from our names to theirs, with the layout of each.

A source of weights is a list of entries; everything else, both directions, their errors and the
report of what was done, is here. Ours are the dotted names of checkpoints, "params.backbone.
conv1.kernel" or "batch_stats.backbone.bn1.mean"; theirs are a PyTorch state dict's.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pare_jax.errors import UserError

# How many tensors an error names before it only counts them.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an array lies in their file and in our state; the two functions undo each other.

    Attributes:
        to_ours: from their array to ours.
        to_theirs: from our array to theirs.
    """

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


def permuted(*axes: int) -> Layout:
    """Make the layout whose axis i of ours is their axis `axes[i]`."""
    back = tuple(int(axis) for axis in np.argsort(axes))
    return Layout(lambda a: a.transpose(axes), lambda a: a.transpose(back))


SAME = Layout(lambda a: a, lambda a: a)
CONV = permuted(2, 3, 1, 0)  # (out, in, height, width) -> (height, width, in, out)
# PARE's linear layer of 24 joints, written as a locally connected one:
# (1, out, in, joints, 1, 1) -> (joints, in, out)
PER_JOINT = Layout(
    lambda a: a.reshape(a.shape[1:4]).transpose(2, 1, 0),
    lambda a: a.transpose(2, 1, 0)[None, ..., None, None],
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array and where it is found.

    Attributes:
        ours: its name in our state.
        theirs: its name in their file.
        layout: how it is laid out in both.
        required: whether a file without it is refused; else our fresh value stays.
    """

    ours: str
    theirs: str
    layout: Layout = SAME
    required: bool = True


Table = Sequence[Entry]


def conv(ours: str, theirs: str, *, bias: bool = False) -> list[Entry]:
    """Make the entries of a convolution, `ours` and `theirs` naming the layer."""
    entries = [Entry(f"params.{ours}.kernel", f"{theirs}.weight", CONV)]
    if bias:
        entries.append(Entry(f"params.{ours}.bias", f"{theirs}.bias"))
    return entries


def batch_norm(ours: str, theirs: str) -> list[Entry]:
    """Make the entries of a batch normalisation."""
    return [
        Entry(f"params.{ours}.scale", f"{theirs}.weight"),
        Entry(f"params.{ours}.bias", f"{theirs}.bias"),
        Entry(f"batch_stats.{ours}.mean", f"{theirs}.running_mean"),
        Entry(f"batch_stats.{ours}.var", f"{theirs}.running_var"),
    ]


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a file's tensors and of our arrays; as text, one table.

    Attributes:
        source: the file.
        used: their names and how many numbers each holds.
        ignored: likewise, of tensors that have no place here.
        fresh: our names and sizes, of arrays that keep their fresh values.
        notes: what else the user should know, a line each.
    """

    source: str
    used: Mapping[str, int]
    ignored: Mapping[str, int]
    fresh: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        used, ignored, fresh = map(_groups, (self.used, self.ignored, self.fresh))
        rows = [("used", *row) for row in used] + [("ignored", *row) for row in ignored]
        rows += [("not in the file, fresh", *row) for row in fresh]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{what:<{widths[0]}}  {name:<{widths[1]}}  {count:>{widths[2]}}  {size:>{widths[3]}}"
            for what, name, count, size in rows
        ]
        return "\n".join([f"weights from {self.source}:", *lines, *self.notes])


def _groups(sizes: Mapping[str, int]) -> list[tuple[str, str, str]]:
    """Sum up by the first parts of the names, so that a table stays readable."""
    groups: dict[str, list[int]] = {}
    for name, size in sizes.items():
        groups.setdefault(_group(name), []).append(size)
    return [
        (name, f"{len(sizes)} tensor{'s' * (len(sizes) > 1)}", f"{sum(sizes):,} numbers")
        for name, sizes in groups.items()
    ]


def _group(name: str) -> str:
    """Drop the leaf, and keep at most two parts of the rest: "heads.pose", "layer1"."""
    parts = name.removeprefix("params.").removeprefix("batch_stats.").split(".")
    parts = parts[:-1] or parts
    kept = parts[:2]
    return ".".join(part for part in kept if not part.isdigit()) or name


def to_ours(
    table: Table,
    tensors: Mapping[str, np.ndarray],
    template: Mapping[str, Any],
    *,
    source: str,
    prefix: str = "",
) -> tuple[dict[str, np.ndarray], Report]:
    """Convert a file's tensors to our arrays.

    Args:
        table: the source's.
        tensors: the file's.
        template: by our names, anything with a `shape`: the network to be filled. It may hold more
            than the table names.
        source: what to call the file in errors and in the report.
        prefix: what stands before the table's names in this file.

    Returns:
        Our arrays by name, of the entries that the file has, and the report.

    Raises:
        UserError: a required tensor is missing or has another shape than the network.
    """
    wanted = [(entry, prefix + entry.theirs) for entry in table]
    missing = [theirs for entry, theirs in wanted if entry.required and theirs not in tensors]
    if missing:
        raise UserError(
            f"{source} lacks {_some(missing)}, which this network needs: "
            "it is of another network; give its own model settings or another file"
        )
    flat, used, misshapen = {}, {}, []
    for entry, theirs in wanted:
        if theirs not in tensors:
            continue
        expected = shape_of_theirs(entry, template[entry.ours].shape)
        found = tensors[theirs].shape
        if found != expected:
            misshapen.append(f"{theirs} of shape {found}, not {expected}")
        else:
            flat[entry.ours] = np.ascontiguousarray(entry.layout.to_ours(tensors[theirs]))
            used[theirs] = tensors[theirs].size
    if misshapen:
        raise UserError(
            f"{source} has {_some(misshapen)}, which this network needs: it is of another "
            "network; give its own model settings or another file"
        )
    ignored = {name: value.size for name, value in tensors.items() if name not in used}
    fresh = {name: math.prod(v.shape) for name, v in template.items() if name not in flat}
    return flat, Report(source, used, ignored, fresh)


def to_torch(table: Table, flat: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert our arrays to the tensors of a PyTorch state dict; undoes `to_ours` exactly.

    Args:
        table: the source's.
        flat: our arrays by name; more than the table names are left out.

    Raises:
        UserError: an array of the table is missing.
    """
    missing = [entry.ours for entry in table if entry.required and entry.ours not in flat]
    if missing:
        raise UserError(f"the network has no {_some(missing)}: it is not what this format holds")
    return {
        entry.theirs: np.ascontiguousarray(entry.layout.to_theirs(np.asarray(flat[entry.ours])))
        for entry in table
        if entry.ours in flat
    }


def shape_of_theirs(entry: Entry, ours: tuple[int, ...]) -> tuple[int, ...]:
    """Tell which shape their tensor has when our array has the shape `ours`."""
    # A broadcast scalar has any shape at no memory.
    return entry.layout.to_theirs(np.broadcast_to(np.float32(0), ours)).shape


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
