"""Networks that predict body parameters from crops. They import neither bodies nor losses."""

from pare_jax.models.build import build_model
from pare_jax.models.prediction import Prediction

__all__ = ["Prediction", "build_model"]
