"""Evaluation: metrics, protocols, reports and the 3DPW challenge's files.

Submodules load on first use, because figures and sequence names need no JAX.
"""

from types import ModuleType

from pare_jax import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
