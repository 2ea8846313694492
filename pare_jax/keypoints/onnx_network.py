"""Runs networks in ONNX files with onnxruntime (extra `onnx`)."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.errors import UserError, reason_of


class OnnxNetwork:
    """A network of one input that is a picture, (1, 3, height, width).

    Attributes:
        path: of the file.
        size: width and height of the input, pixels.
    """

    def __init__(self, path: Path, what: str, size: tuple[int, int], forms: str):
        """Load the file.

        Args:
            path: an ONNX file.
            what: the network's purpose, for messages, such as "detector".
            size: width and height where the file leaves them open.
            forms: the outputs that are known, for messages.

        Raises:
            UserError: onnxruntime or the file is missing, the file is no ONNX model, or has other
                inputs.
        """
        self.path = path
        self._what, self._forms = what, forms
        if not path.is_file():
            raise UserError(f"the {what} {path} is missing: name an ONNX file")
        state = path.stat()
        self._session = _session(path, what, state.st_size, state.st_mtime_ns)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        # A size that the file leaves open is None or a name.
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            found = ", ".join(f"{entry.name} {tuple(entry.shape)}" for entry in inputs) or "none"
            raise self.unknown(f"inputs {found}")
        self._input = inputs[0].name
        height, width = (
            side if isinstance(side, int) and side > 0 else own
            for side, own in zip(shape[2:], size[::-1], strict=True)
        )
        self.size = (width, height)
        self.output_names: list[str] = [entry.name for entry in self._session.get_outputs()]

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for one picture, (3, height, width).

        Raises:
            UserError: the network cannot be run on it.
        """
        try:
            outputs = self._session.run(None, {self._input: picture[None]})
        # onnxruntime's exceptions have no base class of their own.
        except Exception as error:
            reason = reason_of(error)
            raise UserError(f"{self.path} cannot be run as a {self._what}: {reason}") from None
        return [np.asarray(output) for output in outputs]

    def unknown(self, found: str | Sequence[np.ndarray]) -> UserError:
        """Return the error for inputs or outputs that are not known."""
        if not isinstance(found, str):
            found = "outputs " + (", ".join(str(output.shape) for output in found) or "none")
        return UserError(
            f"{self.path} is not a known {self._what}, it has {found}: use {self._forms} of inputs "
            "(1, 3, height, width)"
        )


# Users of one file share a session: photographs and clips have different thresholds.
@functools.lru_cache(maxsize=2)
def _session(path: Path, what: str, size: int, modified: int) -> Any:
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"the {what} {path} needs onnxruntime: pip install 'pare-jax[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised here, in one line
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=onnxruntime.get_available_providers()
        )
    # onnxruntime's exceptions have no base class of their own.
    except Exception as error:
        reason = reason_of(error)
        raise UserError(f"{path} cannot be read as an ONNX model: {reason}") from None
