"""What a prepared dataset was made of, so that another release or other flags are told from it.

Everything here is named and measured within the release: the same files give the same origin
wherever they lie, and so do the same files copied, with other times of change.
"""

import dataclasses
import hashlib
import inspect
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.releases.release import HasSettings, RawDataset
from pare_jax.errors import be

ORIGIN_FILE = "preparation.json"
_ROOT = Path(__file__).parents[2]
# The code that decides over the bytes of any example and shard. Beside it stand the dataset's own
# file and those whose names begin like it (pw3d.py, pw3d_sequence.py).
_CODE = (
    "data_pipelines/example.py",
    "data_pipelines/reading/jpeg.py",
    "data_pipelines/preparing/part_labels.py",
    "data_pipelines/releases/stored_crop.py",
    "data_pipelines/preparing/preparation.py",
    "data_pipelines/preparing/prepared_builder.py",
    "data_pipelines/releases/release.py",
    "data_pipelines/preparing/tfds_writer.py",
    "data_pipelines/preparing/unit_files.py",
    "pare_jax/body/io.py",
    "pare_jax/body/numpy_body.py",
    "pare_jax/io/images.py",
    "pare_jax/rendering/rasterizer.py",
    "pare_jax/io/safe_pickle.py",
    "pare_jax/skeleton.py",
)
# Bytes looked at from the start, the middle and the end of a file.
_SAMPLE = 4096


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a dataset is made of.

    Attributes:
        code: digest of the code that makes the examples.
        settings: what beside the files decides over them, by the flag that sets it.
        parts: by split, each piece of work's name and the digest of what it is read from.
    """

    code: str
    settings: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, str]]

    @property
    def digest(self) -> str:
        """Identifies code and settings: pieces of the same digest belong together."""
        return _digest(json.dumps([self.code, self.settings], sort_keys=True).encode())


def origin_of(dataset: RawDataset, units: Mapping[str, Sequence[Any]]) -> Origin:
    """Describe what a dataset would be made of now.

    Args:
        dataset: the release.
        units: its pieces of work by split.
    """
    own = Path(inspect.getfile(type(dataset)))
    files = [*sorted(own.parent.glob(f"{own.stem}*.py")), *(_ROOT / name for name in _CODE)]
    code = [path.read_bytes() for path in files]
    settings = dataset.settings() if isinstance(dataset, HasSettings) else {}
    parts = {split: _parts(own) for split, own in units.items()}
    # As JSON gives it back.
    return Origin(_digest(b"\0".join(code)), json.loads(json.dumps(settings)), parts)


def _parts(units: Sequence[Any]) -> dict[str, str]:
    parts = {}
    for number, unit in enumerate(units):
        name = getattr(unit, "name", f"part {number}")
        name = f"{name} (part {number})" if name in parts else name
        parts[name] = _digest(json.dumps(_plain(unit), sort_keys=True).encode())
    return parts


def _plain(value: Any) -> Any:
    """Return what a unit holds as JSON has it: numbers, text and their order, and no class's name.

    So that the same annotations are the same whatever the code that holds them is called, and
    whichever NumPy it is.

    Raises:
        TypeError: it holds something that is no plain data.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    raise TypeError(f"a unit is told by plain data, not by a {type(value).__name__}")


def read_origin(path: Path) -> Origin | None:
    """Read what the prepared dataset in `path` was made of; None where it does not say."""
    try:
        return Origin(**json.loads((path / ORIGIN_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def undecided(made: Origin, now: Origin) -> bool:
    """Tell whether nothing but the code is known to differ: all parts do, which may be its doing.

    Other code may see the same files in another way. Where any part is the same it does not.
    """
    if made.code == now.code or made.settings != now.settings:
        return False
    pairs = [(made.parts.get(split, {}), now.parts.get(split, {})) for split in now.parts]
    same_names = made.parts.keys() == now.parts.keys() and all(
        was.keys() == wanted.keys() for was, wanted in pairs
    )
    return same_names and not any(
        was[name] == wanted[name] for was, wanted in pairs for name in wanted
    )


def differences(made: Origin, now: Origin) -> list[str]:
    """Say in what, beside its code, a dataset differs from what would be made now."""
    lines = []
    for name in sorted(made.settings.keys() | now.settings.keys()):
        was, wanted = made.settings.get(name), now.settings.get(name)
        if was != wanted:
            lines.append(f"--{name} was {_told(was)} and is {_told(wanted)}")
    for split in (*made.parts, *(split for split in now.parts if split not in made.parts)):
        was, wanted = made.parts.get(split, {}), now.parts.get(split, {})
        names = [*wanted, *(name for name in was if name not in wanted)]
        other = [name for name in names if was.get(name) != wanted.get(name)]
        if other:
            kind = (
                "missing now"
                if other[0] not in wanted
                else "new"
                if other[0] not in was
                else "changed"
            )
            lines.append(
                f"{split}: {len(other)} of {len(names)} parts {be(len(other))} from other files, "
                f"the first ({kind}) is {other[0]}"
            )
    return lines


def fingerprint(path: Path, whole: bool = False) -> tuple[int, int] | None:
    """Tell a file from others by its size and a checksum of its bytes, wherever it lies.

    Args:
        path: the file.
        whole: look at all of it, as for annotations, where a number may have been mended. Else at
            samples: reading all of a release's photographs takes as long as preparing them, and one
            that was cut short, filled up with zeros or taken again differs in a sample.

    Returns:
        Size and checksum; None if it cannot be read.
    """
    try:
        if whole:
            content = path.read_bytes()
            return len(content), zlib.crc32(content)
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, 2)
            found = 0
            for place in sorted({0, max(0, size // 2 - _SAMPLE // 2), max(0, size - _SAMPLE)}):
                file.seek(place)
                found = zlib.crc32(file.read(_SAMPLE), found)
    except OSError:
        return None
    return size, found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _told(value: Any) -> str:
    if not value:
        return "not given"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
