"""Keeps the descriptions of folders of checkpoints, because making each one loses memory.

Orbax asks TensorStore for the description of the same folder once per array of a checkpoint. Of a
description that TensorStore 0.1.86 gives, no key and no text is ever freed: its `JsonToPyObject`
passes them to `PyDict_SetItem` with references that nobody gives back.
"""

import copy
import functools
from typing import Any

import tensorstore

# Descriptions that are kept. One save asks for a few.
_MOST = 64


def keep_specs() -> None:
    """Make TensorStore describe each folder once, and answer with copies after that."""
    describe = tensorstore.KvStore.Spec.to_json
    if getattr(describe, "is_ours", False):
        return
    kept: dict[Any, Any] = {}

    @functools.wraps(describe)
    def to_json(spec: Any, *args: Any, **kwargs: Any) -> Any:
        key = repr(spec), args, tuple(kwargs.items())
        found = kept.get(key)
        if found is None:
            if len(kept) >= _MOST:
                kept.clear()
            found = kept[key] = describe(spec, *args, **kwargs)
        return copy.deepcopy(found)

    to_json.is_ours = True  # pyright: ignore[reportAttributeAccessIssue]
    tensorstore.KvStore.Spec.to_json = to_json  # pyright: ignore[reportAttributeAccessIssue]
