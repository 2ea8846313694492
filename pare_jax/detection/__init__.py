"""Finding people in pictures: one small interface, and what stands behind it."""

from pathlib import Path

from pare_jax.detection.detector import Detection, Detector, WholePicture
from pare_jax.errors import UserError

__all__ = ["DEFAULT_THRESHOLD", "Detection", "Detector", "WholePicture", "make_detector"]

DEFAULT_THRESHOLD = 0.5


def make_detector(name: str, threshold: float = DEFAULT_THRESHOLD) -> Detector:
    """Make the detector that a command line names.

    Args:
        name: "hog" for OpenCV's people detector, "whole" to take every picture for one person, or
            the path of an ONNX file (see `pare_jax.detection.onnx`).
        threshold: detections with a lower score are left out, 0 to 1.

    Raises:
        UserError: an unknown name, a threshold out of range, or a file that is no detector.
    """
    if not 0.0 <= threshold <= 1.0:
        raise UserError(f"the detector's threshold is {threshold:g}; it must be between 0 and 1")
    if name == "whole":
        return WholePicture()
    if name == "hog":
        from pare_jax.detection.hog import HogDetector

        return HogDetector(threshold)
    if name.lower().endswith(".onnx"):
        from pare_jax.detection.onnx import OnnxDetector

        return OnnxDetector(Path(name), threshold)
    raise UserError(f"unknown detector {name!r}: it is hog, whole, or the path of an .onnx file")
