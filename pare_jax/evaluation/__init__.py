"""Evaluation: metrics, protocols, reports and the 3DPW challenge's files.

Submodules load on first use, because figures and sequence names need no JAX.
"""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    module = f"{__name__}.{name}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
