"""Reads weight files (`.safetensors`, torch's `.pth`, `.ckpt`, ...) without running code in them.

A `.safetensors` file is read without torch. Everything else is torch's pickle, which torch reads
with `weights_only`: it then makes tensors and plain data, and refuses every other name before
anything is called. Training frameworks also store names of their own, for instance settings in a
class that is really a dict; a short list of those is read as the plain data they hold.
"""

import dataclasses
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.errors import UserError

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
        UserError: the file is missing, truncated, not a weight file or without tensors; it needs
            more than tensors and plain data, none of which is run; or torch is needed and missing.
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
        content, metadata = _unwrap(_read_torch(path))
        tensors = _to_numpy(content)
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


class _Fields:
    """Stands for an object that only holds attributes."""

    def __init__(self, *_: Any):
        pass


class _Array(_Fields):
    """Stands for an array of NumPy, whose content nothing here needs."""

    def __setstate__(self, state: Any) -> None:
        pass


class _DType:
    """Stands for numpy.dtype, which would take much more than the name of a number."""

    def __init__(self, code: str = "", *_: Any):
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass  # Byte order and alignment; numbers are stored in the order of all machines today.


def _scalar(dtype: Any, data: Any = b"") -> float | int | bool | str:
    """Stand for NumPy's function that makes one number out of its bytes."""
    if not isinstance(dtype, _DType) or not re.fullmatch(r"[fiub][1248]", str(dtype.code)):
        return "a value of NumPy"
    return np.frombuffer(data, dtype.code)[0].item()


def _path(*parts: Any) -> str:
    return "/".join(map(str, parts))


# Names that are no code, by what is made instead.
_STAND_INS: dict[str, Any] = {
    "yacs.config.CfgNode": OrderedDict,
    "pytorch_lightning.utilities.parsing.AttributeDict": OrderedDict,
    "lightning.fabric.utilities.data.AttributeDict": OrderedDict,
    "lightning_fabric.utilities.data.AttributeDict": OrderedDict,
    "argparse.Namespace": _Fields,
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    "pathlib.PosixPath": _path,
    "pathlib.WindowsPath": _path,
    "pathlib.Path": _path,
}
# Lightning files what its callbacks remember under their classes, whose names change by version.
_FRAMEWORKS = ("pytorch_lightning.", "lightning.", "lightning_fabric.")


def _read_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"reading {path} needs torch: pip install 'pare-jax[torch]' (its CPU build will do), "
            "or give the weights as .safetensors"
        ) from None
    stand_ins = dict(_STAND_INS)
    while True:
        allowed: list[Any] = [(value, name) for name, value in stand_ins.items()]
        try:
            with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True)
        except MemoryError:
            raise UserError(f"there is not enough memory to read {path}") from None
        # Broken bytes can raise nearly anything, out of the unpickler or of torch.
        except Exception as error:
            name = re.search(r"GLOBAL ([\w.]+)", str(error))
            if not name:
                raise UserError(
                    f"{path} is not a checkpoint torch can read ({_line(error)}): {_ADVICE}"
                ) from None
            if not name[1].startswith(_FRAMEWORKS) or name[1] in stand_ins:
                raise UserError(
                    f"{path} was refused: its pickle asks for {name[1]}, which weights do not "
                    "need; nothing was run. Get a file that holds the network's state_dict alone"
                ) from None
            stand_ins[name[1]] = type(name[1].rpartition(".")[2], (_Fields,), {})


def _unwrap(content: Any) -> tuple[dict[str, Any], dict[str, Any]]:
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
    tensors = {str(k): v for k, v in content.items() if _is_tensor(v)}
    metadata |= {str(k): plain(v) for k, v in content.items() if str(k) not in tensors}
    return tensors, metadata


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "layout")


def plain(value: Any) -> Any:
    """Turn what a file holds beside its network into dicts, lists, text and numbers.

    Tensors, of optimizers mostly, become a text that says their shape.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if _is_tensor(value):
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, _Array):
        return "an array of NumPy"
    if isinstance(value, _Fields):
        return plain(vars(value))
    return str(value)


def _to_numpy(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    import torch

    arrays = {}
    for name, tensor in tensors.items():
        # Sparse, quantized and empty stand-in tensors are no weights of any network known here.
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            continue
        tensor = tensor.detach()
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
        arrays[name] = tensor.contiguous().numpy()
    return arrays


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".:")[:160] if lines else type(error).__name__
