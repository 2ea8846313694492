"""Training: the run, its step, losses, optimizer and checkpoints. Submodules load on first use."""

from types import ModuleType

from pare_jax import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
