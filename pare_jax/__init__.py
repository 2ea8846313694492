"""3D human pose and shape from one photograph, robust to occlusion, in JAX and Flax.

Public names are imported on first use, so that `import pare_jax` is fast and modules that need only
NumPy do not import JAX.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pare_jax.body.model import BodyModel, BodyOutput, load_body_model
    from pare_jax.errors import UserError
    from pare_jax.prediction.loading import load_predictor
    from pare_jax.prediction.person import Person
    from pare_jax.prediction.predictor import Predictor

__version__ = "0.1.0"

_MODULE_OF = {
    "BodyModel": "pare_jax.body.model",
    "BodyOutput": "pare_jax.body.model",
    "load_body_model": "pare_jax.body.model",
    "UserError": "pare_jax.errors",
    "Person": "pare_jax.prediction.person",
    "Predictor": "pare_jax.prediction.predictor",
    "load_predictor": "pare_jax.prediction.loading",
}

__all__ = [
    "BodyModel",
    "BodyOutput",
    "Person",
    "Predictor",
    "UserError",
    "__version__",
    "load_body_model",
    "load_predictor",
]


def submodule(package: str, name: str) -> ModuleType:
    """Import a submodule that is used as an attribute, such as `pare_jax.geometry`.

    Raises:
        AttributeError: there is no such submodule.
    """
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.{name}":
            raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}") from None


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    return submodule(__name__, name)
