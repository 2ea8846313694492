"""Parses the records of shards, which TFDS writes as serialised tf.train.Example messages.

TFDS's own parser takes three times as long as reading a record and parsing it here.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from data_pipelines.example import STORED_FIELDS

# Every stored array has a fixed shape.
_SHAPES = {name: tuple(int(size) for size in field.shape) for name, field in STORED_FIELDS.items()}


def parse_example(serialised: bytes) -> dict[str, Any]:
    """Parse a record.

    Args:
        serialised: the record.

    Returns:
        The fields of `example.STORED_FIELDS` as bytes, str, arrays and NumPy scalars; images stay
        encoded. A field that is newer than the dataset has its default.

    Raises:
        ValueError: the record is not a message, lacks a field or has one of another shape.
    """
    features = _features(serialised)
    example = {}
    for name, field in STORED_FIELDS.items():
        feature = features.get(name)
        if feature is None:
            if field.default is None:
                raise ValueError(f"the record lacks {name}")
            example[name] = np.full(_SHAPES[name], field.default, np.float32)
        elif field.dtype == "float32":
            example[name] = _floats(feature.float_list, name)
        elif field.dtype == "int32":
            example[name] = np.int32(_only(feature.int64_list, name))
        else:
            value = _only(feature.bytes_list, name)
            example[name] = value.decode() if field.dtype == "str" else value
    return example


def parse_name(serialised: bytes) -> tuple[str, int, int]:
    """Parse the sequence, person and frame of a record; raises ValueError as `parse_example`."""
    features = _features(serialised)
    return (
        _only(features["sequence"].bytes_list, "sequence").decode(),
        _only(features["person"].int64_list, "person"),
        _only(features["frame"].int64_list, "frame"),
    )


def _features(serialised: bytes) -> Any:
    try:
        return tf.train.Example.FromString(serialised).features.feature
    except DecodeError as error:
        raise ValueError(str(error)) from error


def _only(values: Any, name: str) -> Any:
    if len(values.value) != 1:
        raise ValueError(f"the record has {len(values.value)} values of {name}, not 1")
    return values.value[0]


def _floats(floats: Any, name: str) -> Any:
    numbers, shape = floats.value, _SHAPES[name]
    size = math.prod(shape)
    if len(numbers) != size:
        raise ValueError(f"the record has {len(numbers)} numbers of {name}, not {size}")
    if not shape:
        return np.float32(numbers[0])
    # The message ends with the numbers, packed and little-endian. Reading those bytes is much
    # faster than converting one Python number after another.
    wire = floats.SerializeToString()
    values = np.frombuffer(wire, "<f4", size, offset=len(wire) - 4 * size)
    return values.reshape(shape).astype(np.float32)
