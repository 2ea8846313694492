"""Writes and reads the results of finished pieces of work, kept until the dataset is finished.

A file is an `.npz` of columns: numbers are stacked; bytes and texts are joined, with their lengths
in another column. It has no pickles, so reading it runs no code. The archive's checksums show
damage.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.example import STORED_FIELDS
from data_pipelines.releases.release import Skipped, UnitResult
from pare_jax.errors import UserError
from pare_jax.io.archives import read_npz

_COUNT, _SKIPPED, _LENGTHS = "count", "skipped", "lengths of "
# Raised by NumPy for a truncated or overwritten file.
_DAMAGE = (UserError, ValueError, KeyError, IndexError, TypeError)


def write_unit(path: Path, result: UnitResult) -> None:
    """Write the result of a piece of work; a failure leaves no file.

    Args:
        path: the file, in a folder that exists.
        result: the examples, and what was skipped.

    Raises:
        OSError: the disk is full or cannot be written to.
    """
    skipped = json.dumps([dataclasses.astuple(item) for item in result.skipped]).encode()
    columns = {_COUNT: np.int64(len(result.examples)), _SKIPPED: np.frombuffer(skipped, np.uint8)}
    for name, field in STORED_FIELDS.items():
        values = [example[name] for example in result.examples]
        if field.dtype in ("bytes", "str"):
            texts = [value.encode() if isinstance(value, str) else value for value in values]
            columns[name] = np.frombuffer(b"".join(texts), np.uint8)
            columns[_LENGTHS + name] = np.array([len(text) for text in texts], np.int64)
        else:
            columns[name] = np.array(values, field.dtype).reshape(len(values), *field.shape)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.writing")
    try:
        with scratch.open("wb") as file:
            np.savez(file, **columns)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read_unit(path: Path) -> UnitResult | None:
    """Read the result of a piece of work; None if the file is missing or damaged."""
    try:
        columns = read_npz(path)
        fields = {name: _split(columns, name) for name in STORED_FIELDS}
        rows = range(int(columns[_COUNT]))
        examples = [{name: fields[name][row] for name in STORED_FIELDS} for row in rows]
        return UnitResult(examples, _skipped(columns))
    except _DAMAGE:
        return None


def read_summary(path: Path) -> tuple[int, list[Skipped]] | None:
    """Read the number of examples, and what was skipped; None as for `read_unit`."""
    try:
        columns = read_npz(path, (_COUNT, _SKIPPED))
        return int(columns[_COUNT]), _skipped(columns)
    except _DAMAGE:
        return None


def _skipped(columns: Any) -> list[Skipped]:
    return [Skipped(*values) for values in json.loads(columns[_SKIPPED].tobytes())]


def _split(columns: Any, name: str) -> Any:
    kind = STORED_FIELDS[name].dtype
    if kind not in ("bytes", "str"):
        return columns[name]
    joined = columns[name].tobytes()
    ends = np.cumsum(columns[_LENGTHS + name])
    texts = [joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=False)]
    return [text.decode() for text in texts] if kind == "str" else texts
