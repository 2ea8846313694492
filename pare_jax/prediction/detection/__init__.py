"""Finding people in pictures: one small interface, and what stands behind it."""

from pathlib import Path

from pare_jax.errors import UserError
from pare_jax.prediction.detection.detector import Detection, Detector, WholePicture

__all__ = ["Detection", "Detector", "WholePicture", "make_detector"]

# Below these scores a detection is left out unless the caller says otherwise. HOG misses so many
# people that it had better say some too many.
HOG_THRESHOLD = 0.3
ONNX_THRESHOLD = 0.5


def make_detector(name: str, threshold: float | None = None) -> Detector:
    """Make the detector that a command line names.

    Args:
        name: "hog" for OpenCV's people detector, "whole" to take every picture for one person, or
            the path of an ONNX file (see `pare_jax.prediction.detection.onnx`).
        threshold: detections with a lower score are left out, 0 to 1; None: 0.3 for HOG, 0.5 for
            ONNX files.

    Raises:
        UserError: an unknown name, a threshold out of range, or a file that is no detector.
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
    raise UserError(f"unknown detector {name!r}: it is hog, whole, or the path of an .onnx file")
