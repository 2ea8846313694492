"""Caches the specs of checkpoint folders, because TensorStore leaks memory for each one.

Orbax asks for the spec of the same folder once per array of a checkpoint. TensorStore 0.1.86 frees
none of the keys and values of a spec's dict: `JsonToPyObject` passes them to `PyDict_SetItem`,
which takes no ownership, and releases its own references.
"""

import copy
import functools
from typing import Any

import tensorstore

# The cache is emptied at this size; a save needs a few specs.
_MOST = 64


def cache_specs() -> None:
    """Make `tensorstore.KvStore.Spec.to_json` return copies of dicts that it made before."""
    make = tensorstore.KvStore.Spec.to_json
    if getattr(make, "is_ours", False):
        return
    cached: dict[Any, Any] = {}

    @functools.wraps(make)
    def to_json(spec: Any, *args: Any, **kwargs: Any) -> Any:
        key = repr(spec), args, tuple(kwargs.items())
        found = cached.get(key)
        if found is None:
            if len(cached) >= _MOST:
                cached.clear()
            found = cached[key] = make(spec, *args, **kwargs)
        return copy.deepcopy(found)

    to_json.is_ours = True  # pyright: ignore[reportAttributeAccessIssue]
    tensorstore.KvStore.Spec.to_json = to_json  # pyright: ignore[reportAttributeAccessIssue]
