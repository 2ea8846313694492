"""Detectors, which find people in photographs, and `make_detector`, which makes one by name."""

from pathlib import Path

from pare_jax.errors import UserError
from pare_jax.prediction.detection.detector import Detection, Detector, WholePicture

__all__ = ["Detection", "Detector", "WholePicture", "make_detector"]

# Default thresholds. HOG's is low because it misses most people.
HOG_THRESHOLD = 0.3
ONNX_THRESHOLD = 0.5


def make_detector(name: str, threshold: float | None = None) -> Detector:
    """Make a detector by name.

    Args:
        name: "hog" for OpenCV's people detector, "whole" for one person that fills the photograph,
            or the path of an ONNX file (see `pare_jax.prediction.detection.onnx`).
        threshold: detections with a lower score are skipped, 0 to 1; None: 0.3 for HOG, 0.5 for
            ONNX files.

    Raises:
        UserError: an unknown name, a threshold out of range, or a file that is not a detector.
    """
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise UserError(f"the detector's threshold is {threshold:g}; it must be between 0 and 1")
    if name == "whole":
        return WholePicture()
    if name == "hog":
        from pare_jax.prediction.detection.hog import HogDetector

        return HogDetector(HOG_THRESHOLD if threshold is None else threshold)
    if name.lower().endswith(".onnx"):
        from pare_jax.prediction.detection.onnx import OnnxDetector

        return OnnxDetector(Path(name), ONNX_THRESHOLD if threshold is None else threshold)
    raise UserError(f"unknown detector {name!r}: use hog, whole, or the path of an .onnx file")
