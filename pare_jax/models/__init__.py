"""Networks from images to body parameters. They know nothing of bodies or losses."""

from pare_jax.models.build import build_model
from pare_jax.models.prediction import Prediction

__all__ = ["Prediction", "build_model"]
