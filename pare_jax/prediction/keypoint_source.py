"""Sources of keypoints: a photograph and boxes in, keypoints out; `make_source` makes one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.keypoints.keypoints import Keypoints

# BlazePose's name in flags.
BLAZEPOSE = "blazepose"


def keypoint_file(name: str | None) -> str | None:
    """Return the file or folder of people's keypoints that --keypoints names; None: a source."""
    is_source = name is None or name == BLAZEPOSE or name.lower().endswith(".onnx")
    return None if is_source else name


def make_source(name: str | Path, set_name: str | None = None) -> "KeypointSource":
    """Make a source of keypoints by name.

    Args:
        name: "blazepose", or the path of an ONNX file.
        set_name: the set of an ONNX file's points; None: by their number.

    Raises:
        UserError: an unknown name, a missing package, or a file that is missing or no network.
    """
    if str(name) == BLAZEPOSE:
        from pare_jax.keypoints.blazepose_files import load_blazepose

        return load_blazepose()
    if str(name).lower().endswith(".onnx"):
        from pare_jax.keypoints.onnx_keypoints import OnnxKeypoints

        return OnnxKeypoints(Path(name), set_name)
    raise UserError(f"unknown source of keypoints {str(name)!r}: use blazepose or an .onnx file")


class KeypointSource(Protocol):
    """Finds the keypoints of people in boxes; any class with this method is a source."""

    def look(self, image: Picture, boxes: Sequence[np.ndarray]) -> list[Keypoints | None]:
        """Return the keypoints of the person in each box; None where there is none.

        Args:
            image: RGB.
            boxes: x0, y0, x1, y1 in pixels.
        """
        ...


@runtime_checkable
class PeopleSource(KeypointSource, Protocol):
    """A keypoint source that also finds the people."""

    def find(self, image: Picture) -> list[Keypoints]:
        """Return the people in a whole photograph, those with the highest scores first."""
        ...
