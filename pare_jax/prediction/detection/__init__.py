"""Detectors, which find people in photographs, and `make_detector`, which makes one by name."""

from pathlib import Path

from pare_jax.errors import UserError
from pare_jax.keypoints.blazepose_files import missing
from pare_jax.prediction.detection.detector import (
    Detection,
    Detector,
    FollowingDetector,
    WholePicture,
    for_frames,
    without_keypoints,
)

__all__ = [
    "Detection",
    "Detector",
    "FollowingDetector",
    "WholePicture",
    "default_detector",
    "for_frames",
    "make_detector",
    "without_keypoints",
]

# Default thresholds.
BLAZEPOSE_THRESHOLD = 0.5
ONNX_THRESHOLD = 0.5


def default_detector() -> tuple[str, str | None]:
    """Return the name of the detector that is used if none is named.

    Returns:
        "blazepose" and None where it is installed. Else "whole", and text that says so.
    """
    advice = missing()
    if advice is None:
        return "blazepose", None
    return "whole", (
        "each picture is taken as one person, who fills it, because BlazePose is not installed: "
        f"run {advice}"
    )


def make_detector(name: str, threshold: float | None = None) -> Detector:
    """Make a detector by name.

    Args:
        name: "blazepose", "whole" for one person that fills the photograph, or the path of an ONNX
            file (see `pare_jax.prediction.detection.onnx`).
        threshold: detections with a lower score are skipped, 0 to 1; None: 0.5.

    Raises:
        UserError: an unknown name, a threshold out of range, a file that is not a detector, or
            BlazePose is not installed.
    """
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise UserError(f"the detector's threshold is {threshold:g}; it must be between 0 and 1")
    if name == "whole":
        return WholePicture()
    if name == "blazepose":
        from pare_jax.prediction.detection.landmark_detector import BlazePoseDetector

        return BlazePoseDetector(BLAZEPOSE_THRESHOLD if threshold is None else threshold)
    if name == "hog":
        raise UserError("the detector hog was removed: use --detector=blazepose")
    if name.lower().endswith(".onnx"):
        from pare_jax.prediction.detection.onnx import OnnxDetector

        return OnnxDetector(Path(name), ONNX_THRESHOLD if threshold is None else threshold)
    raise UserError(
        f"unknown detector {name!r}: use blazepose, whole, or the path of an .onnx file"
    )
