"""Runs networks in TensorFlow Lite's format with LiteRT (extra `keypoints`)."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.errors import UserError, reason_of

INSTALL = "pip install 'pare-jax[keypoints]'"


def has_litert() -> bool:
    """Return whether LiteRT is installed."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


class LiteRtNetwork:
    """A network of one file. Several threads may call it; each has its own interpreter."""

    def __init__(self, path: str | Path, threads: int = 1, content: bytes | None = None):
        """Load the file.

        Args:
            path: a .tflite file.
            threads: that compute one call.
            content: of the file, if it is read already.

        Raises:
            UserError: LiteRT or the file is missing, or the file is no network.
        """
        self.path = Path(path)
        self._threads = threads
        try:
            self._content = self.path.read_bytes() if content is None else content
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}") from None
        self._own = threading.local()
        self._interpreter()

    def __call__(self, picture: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, each without the batch's axis, for one input without it."""
        interpreter = self._interpreter()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
        interpreter.invoke()
        return {
            output["name"]: interpreter.get_tensor(output["index"])[0]
            for output in interpreter.get_output_details()
        }

    def _interpreter(self) -> Any:
        if not hasattr(self._own, "interpreter"):
            self._own.interpreter = self._load()
        return self._own.interpreter

    def _load(self) -> Any:
        try:
            from ai_edge_litert.interpreter import (  # pyright: ignore[reportMissingImports]
                Interpreter,
            )
        except ImportError:
            raise UserError(f"{self.path.name} needs LiteRT: {INSTALL}") from None
        try:
            with _silent_errors():
                interpreter = Interpreter(model_content=self._content, num_threads=self._threads)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = reason_of(error)
            raise UserError(f"{self.path} cannot be read as a network: {reason}") from None
        return interpreter


_silence = threading.Lock()
_loaded = threading.Event()  # whether a network was loaded


@contextlib.contextmanager
def _silent_errors() -> Iterator[None]:
    """Close the process's stderr to LiteRT, which prints there that it uses the CPU.

    It has no setting for this. The line comes once, with the first network; for later ones stderr
    stays open.
    """
    with contextlib.ExitStack() as stack:
        if not _loaded.is_set():
            stack.enter_context(_silence)
        if _loaded.is_set():
            yield
            return
        with contextlib.suppress(OSError):  # a process may have no stderr
            kept = os.dup(2)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 2)
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        yield
        _loaded.set()
