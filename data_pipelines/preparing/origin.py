"""Records what a prepared dataset was made of, to detect other files, other flags or other code.

Files are named and identified within the release: the same files give the same origin in any
folder, and copies with other times of change do too.
"""

import ast
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
from pare_jax.errors import UserError, be
from pare_jax.io.files import read_json

ORIGIN_FILE = "preparation.json"
_ROOT = Path(__file__).parents[2]
# The code that determines the bytes of examples and shards, for all datasets. Each dataset adds its
# own file and those whose names begin alike (pw3d.py, pw3d_sequence.py).
_CODE = (
    "data_pipelines/example.py",
    "data_pipelines/reading/jpeg.py",
    "data_pipelines/preparing/part_labels.py",
    "data_pipelines/releases/labelled_people.py",
    "data_pipelines/releases/labelled_photographs.py",
    "data_pipelines/releases/named_photographs.py",
    "data_pipelines/releases/stored_crop.py",
    "data_pipelines/preparing/preparation.py",
    "data_pipelines/preparing/prepared_builder.py",
    "data_pipelines/releases/release.py",
    "data_pipelines/preparing/tfds_writer.py",
    "data_pipelines/preparing/unit_files.py",
    "pare_jax/body/io.py",
    "pare_jax/body/numpy_body.py",
    "pare_jax/crop.py",
    "pare_jax/io/images.py",
    "pare_jax/rendering/rasterizer.py",
    "pare_jax/io/archives.py",
    "pare_jax/io/pickle_opcodes.py",
    "pare_jax/io/pickled_arrays.py",
    "pare_jax/io/safe_pickle.py",
    "pare_jax/skeleton.py",
)
# Bytes read from the start, the middle and the end of a file.
_SAMPLE = 4096


@dataclasses.dataclass(frozen=True)
class Origin:
    """The code, settings and files that a dataset is made of.

    Attributes:
        code: digest of the code that makes the examples.
        settings: the settings that change the examples, by the flag that sets them.
        parts: by split, the name of each piece of work and the digest of its files.
    """

    code: str
    settings: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, str]]

    @property
    def digest(self) -> str:
        """Digest of code and settings: pieces with the same digest can be combined."""
        return _digest(json.dumps([self.code, self.settings], sort_keys=True).encode())


def origin_of(dataset: RawDataset, units: Mapping[str, Sequence[Any]]) -> Origin:
    """Return the origin of a dataset that is prepared now.

    Args:
        dataset: the release.
        units: its pieces of work by split.
    """
    code = code_digest([*own_files(dataset), *(_ROOT / name for name in _CODE)])
    settings = dataset.settings() if isinstance(dataset, HasSettings) else {}
    parts = {split: _parts(own) for split, own in units.items()}
    # Through JSON, as `read_origin` returns them: tuples become lists.
    return Origin(code, json.loads(json.dumps(settings)), parts)


def own_files(dataset: RawDataset) -> list[Path]:
    """Return the files of a dataset's own code; [] for a class that is in no file.

    Such a class was defined in a notebook, on a command line or on the standard input.
    """
    try:
        own = Path(inspect.getfile(type(dataset)))
    except (OSError, TypeError):
        return []
    return list(own.parent.glob(f"{own.stem}*.py")) if own.is_file() else []


def code_digest(files: Sequence[Path]) -> str:
    """Return a digest of what Python files do.

    It depends neither on names and order of the files, nor on comments, docstrings, formatting and
    imports, nor on the version of Python.
    """
    statements = [node for path in files for node in ast.parse(path.read_bytes()).body]
    texts = [json.dumps(_plain_tree(node)) for node in statements if not _does_nothing(node)]
    return _digest("\n".join(sorted(texts)).encode())


def _plain_tree(node: Any) -> Any:
    """Return a syntax tree as nested lists, without statements that do nothing."""
    if isinstance(node, list):
        return [_plain_tree(item) for item in node if not _does_nothing(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, _plain_tree(value)) for name, value in ast.iter_fields(node)]
    # Later versions of Python add fields, which are empty where they are not used.
    return [type(node).__name__, *(field for field in fields if field[1] not in ([], "None"))]


def _does_nothing(node: Any) -> bool:
    if isinstance(node, ast.If):  # for instance `if TYPE_CHECKING`
        return all(map(_does_nothing, node.body + node.orelse))
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant or isinstance(node, ast.Import | ast.ImportFrom)


def _parts(units: Sequence[Any]) -> dict[str, str]:
    parts = {}
    for number, unit in enumerate(units):
        name = getattr(unit, "name", f"part {number}")
        name = f"{name} (part {number})" if name in parts else name
        parts[name] = _digest(json.dumps(_plain(unit), sort_keys=True).encode())
    return parts


def _plain(value: Any) -> Any:
    """Return a unit's numbers and texts as JSON types, without names of classes.

    The digest of annotations then depends neither on names in the code nor on NumPy's version.

    Raises:
        TypeError: the unit has something else than plain data.
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
    raise TypeError(f"a unit must be plain data, not a {type(value).__name__}")


def read_origin(path: Path) -> Origin | None:
    """Read the origin of the prepared dataset in `path`; None if it is missing or damaged."""
    try:
        return Origin(**read_json(path / ORIGIN_FILE))
    except (OSError, UserError, TypeError):
        return None


def undecided(made: Origin, now: Origin) -> bool:
    """Return whether the files may be the same although every part differs.

    Other code may describe the same files in another way. If one part is the same, it does not.
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
    """Describe how settings and files differ from those of now, one text per difference."""
    lines = []
    for name in sorted(made.settings.keys() | now.settings.keys()):
        was, wanted = made.settings.get(name), now.settings.get(name)
        if was != wanted:
            lines.append(f"--{name} was {_described(was)} and is {_described(wanted)}")
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
    """Return the size of a file and a checksum of its bytes.

    Args:
        path: the file.
        whole: read the whole file, as for annotations, where one number may change. Else samples
            are read: all photographs of a release take as long to read as to prepare, and one that
            was truncated, filled with zeros or replaced differs in a sample.

    Returns:
        Size and checksum; None if the file cannot be read.
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


def _described(value: Any) -> str:
    if not value:
        return "not given"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
