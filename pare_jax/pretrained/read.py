"""Reads weight files: `.safetensors`, and the files of torch.save (`.pth`, `.ckpt`, ...).

No code in them is run, and torch is not needed.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.errors import UserError
from pare_jax.io.safe_pickle import Inert
from pare_jax.pretrained.torch_file import TensorRecord, open_torch_file

# Keys under which training scripts store the network, in order of preference. DINO's teacher comes
# before its student, because it is the one that is evaluated and published.
WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student", "network", "net")

# Prefixes that names get when a network is wrapped in another module.
PREFIXES = ("module.", "model.", "backbone.", "encoder.", "network.", "net.")

# A counter of PyTorch's BatchNorm that no output depends on.
_COUNTER = "num_batches_tracked"

_ADVICE = "it may be truncated, or an error page under this name; download it again"


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """Content of a weight file.

    Attributes:
        path: path of the file.
        tensors: by name, without shared prefixes; floating point as float32, contiguous, without
            BatchNorm's counters.
        metadata: all other content, such as hyperparameters, as plain data.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]


def read_weights(path: str | Path) -> WeightFile:
    """Read a weight file: `.safetensors`, or one of torch.save (`.pth`, `.pt`, `.ckpt`, ...).

    The content decides which of the two it is. Wrappers (`WRAPPERS`) and shared prefixes
    (`PREFIXES`) are removed.

    Args:
        path: the file.

    Raises:
        UserError: the file is missing, truncated, not a weight file or without tensors; or it
            needs more than tensors and plain data, none of which is run.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(
            f"cannot read the weights {path}: {error.strerror or error}; docs/weights.md lists "
            "where to get weights"
        ) from None
    # A safetensors file has 8 bytes of length, then JSON.
    if path.suffix == ".safetensors" or start[8:] == b"{":
        tensors, metadata = _read_safetensors(path)
    else:
        with open_torch_file(path) as file:
            records, metadata = _unwrap(file.content)
            tensors = {name: _float32(file.numbers(record)) for name, record in records.items()}
    tensors = {name: value for name, value in tensors.items() if not name.endswith(_COUNTER)}
    if not tensors:
        raise UserError(f"{path} has no tensors: it is not a weight file; give another")
    return WeightFile(path, strip_prefixes(tensors), metadata)


def strip_prefixes(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Remove the `PREFIXES` that all names share, one after the other."""
    tensors = dict(tensors)
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, deserialize, safe_open

    tensors: dict[str, np.ndarray] = {}
    try:
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118  # not a dict
                if file.get_slice(name).get_dtype() != "BF16":
                    tensors[name] = _float32(file.get_tensor(name))
            metadata = dict(file.metadata() or {})
            missing = len(tensors) < len(file.keys())
        if missing:  # NumPy has no bfloat16, the upper half of a float32.
            for name, item in deserialize(path.read_bytes()):
                if item["dtype"] in ("BF16", "bfloat16"):
                    half = np.frombuffer(item["data"], "<u2").astype(np.uint32)
                    tensors[name] = (half << 16).view(np.float32).reshape(item["shape"])
    except (SafetensorError, OSError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file ({_line(error)}): {_ADVICE}"
        ) from None
    return tensors, metadata


def _float32(value: np.ndarray) -> np.ndarray:
    if np.issubdtype(value.dtype, np.floating):
        value = value.astype(np.float32, copy=False)
    return np.ascontiguousarray(value).reshape(value.shape)


def _unwrap(content: Any) -> tuple[dict[str, TensorRecord], dict[str, Any]]:
    """Return the network's tensors from a training script's checkpoint; the rest is metadata."""
    metadata: dict[str, Any] = {}
    while isinstance(content, Mapping):
        wrapper = next((n for n in WRAPPERS if isinstance(content.get(n), Mapping)), None)
        if wrapper is None:
            break
        metadata |= {str(k): plain(v) for k, v in content.items() if k not in WRAPPERS}
        content = content[wrapper]
    if not isinstance(content, Mapping):
        return {}, metadata
    tensors = {str(k): v for k, v in content.items() if isinstance(v, TensorRecord)}
    metadata |= {str(k): plain(v) for k, v in content.items() if str(k) not in tensors}
    return tensors, metadata


def plain(value: Any) -> Any:
    """Convert metadata to dicts, lists, text and numbers.

    A tensor, such as an optimizer's, becomes a text with its shape.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, TensorRecord):
        return f"tensor {value.shape}"
    if isinstance(value, np.ndarray):
        return "an array of NumPy"
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Inert):
        return plain(value.fields)
    return str(value)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".:")[:160] if lines else type(error).__name__
