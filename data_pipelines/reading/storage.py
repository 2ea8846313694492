"""Prepared datasets on disk: where they lie, and reading their examples in any order.

A dataset is a TFDS directory of array_record shards, which know where each record starts, so that
example i is read without reading those before it. TensorFlow, which takes seconds to import, is
imported by what opens or describes a dataset, not by what asks where one lies.
"""

import collections
import contextlib
import errno
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from data_pipelines.example import STORED_FIELDS
from data_pipelines.releases.release import RELEASED
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.errors import UserError, be
from pare_jax.evaluation.sequences import Extent, SampleName, SplitNames

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Raised when the record changes, so that what was prepared before is told to be prepared again.
VERSION = "1.2.0"
# Beside the shards of a dataset with sequences: {split: {sequence: {"people": P, "frames": N}}}.
SEQUENCES_FILE = "sequences.json"
# Beside the shards of a dataset read from a release: {split: {"kept": n, "skipped": [...]}}, each
# entry as `raw.Skipped`.
SKIPPED_FILE = "skipped.json"
_COMPLETE = "dataset_info.json"  # TFDS writes it last and moves the whole directory into place


class MissingDatasetError(UserError):
    """Datasets that are not prepared; says how to make them, and how to do without."""

    def __init__(self, names: Sequence[str], data_root: str | Path):
        self.names = list(names)
        datasets = list(dict.fromkeys(name.split("/")[0] for name in names))
        places = " and none in ".join(str(Path(data_root) / name) for name in names)
        known = ["synthetic", *RELEASED]
        if unknown := [name for name in datasets if name not in known]:
            prepared = sorted(
                {path.parents[1].name for path in Path(data_root).glob(f"*/*/{_COMPLETE}")}
            )
            others = [name for name in prepared if name not in known]
            there = f", and {', '.join(others)} {be(len(others))} prepared there" if others else ""
            super().__init__(
                f"no prepared dataset in {places}; {' and '.join(map(repr, unknown))} "
                f"{be(len(unknown))} unknown here: there are {', '.join(known)}{there} "
                "(docs/data.md)"
            )
            return
        commands = [
            f"python -m data_pipelines.prepare --dataset={dataset}"
            f"{'' if dataset == 'synthetic' else ' --source=RAW'} --output={data_root}"
            for dataset in datasets
        ]
        super().__init__(
            f"no prepared dataset in {places}; make {'it' if len(names) == 1 else 'them'} with "
            f"{' and '.join(commands)} (docs/data.md), or start without data: "
            "--config=configs/quickstart.py"
        )


def stored_features() -> "tfds.features.FeaturesDict":
    """Return the record's fields as TFDS features; pictures stay the bytes they were encoded to."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    features = {}
    for name, field in STORED_FIELDS.items():
        if field.dtype == "bytes":
            features[name] = tfds.features.Tensor(shape=(), dtype=tf.string)
        elif field.dtype == "str":
            features[name] = tfds.features.Text()
        else:
            features[name] = tfds.features.Tensor(
                shape=field.shape, dtype=tf.dtypes.as_dtype(field.dtype)
            )
    return tfds.features.FeaturesDict(features)


def cannot_write(
    path: Path, error: OSError, elsewhere: str = "another --output", goes_on: str = ""
) -> UserError:
    """Return what to tell of a dataset that could not be written.

    Args:
        path: of the dataset.
        error: what came of it.
        elsewhere: what to name instead.
        goes_on: what the command does when it is run again with more room, beside starting anew.
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = f"name {elsewhere}"
    if full:
        advice = f"free some space, or {advice}{goes_on}"
    return UserError(f"cannot write the dataset to {path}: {error.strerror or error}; {advice}")


def is_prepared(path: str | Path) -> bool:
    """Tell whether a whole dataset lies in `path` (a directory ending in its version)."""
    return (Path(path) / _COMPLETE).is_file()


def synthetic_path(settings: SyntheticSettings, data_root: str | Path) -> Path:
    """Return where the dataset of these settings lies once it is prepared."""
    return Path(data_root) / "synthetic" / settings.name() / VERSION


def find_dataset(data_root: str | Path, name: str) -> Path:
    """Return the directory of the prepared dataset `name`.

    Args:
        data_root: where prepared datasets lie.
        name: "pw3d", "mpii", "synthetic", or with its configuration, "synthetic/96px_..."; without
            one there must be only one.

    Raises:
        MissingDatasetError: it is not there.
        UserError: there are several.
    """
    folder = Path(data_root) / name
    found = sorted(path.parent for path in folder.glob(f"**/{_COMPLETE}"))
    # One prepared before the record's last change may still lie beside the current one.
    found = [path for path in found if path.name == VERSION] or found
    if not found:
        raise MissingDatasetError([name], data_root)
    if len(found) > 1:
        names = ", ".join(str(path.parent.relative_to(data_root)) for path in found)
        raise UserError(f"several datasets in {folder}: {names}; name one of them")
    return found[0]


class _Records(Protocol):
    """What is used of TFDS's data source: serialised examples, read by their position."""

    @property
    def data_source(self) -> Sequence[bytes]: ...
    def __len__(self) -> int: ...


class StoredSplit:
    """A split whose examples can be read in any order and from any thread."""

    def __init__(
        self, path: Path, split: str, source: _Records, shards: Sequence[tuple[Path, int]] = ()
    ):
        """Take a split as it is stored.

        Args:
            path: the dataset's directory.
            split: its name.
            source: of its records.
            shards: its files, in order, and how many examples each holds; to name one of them.
        """
        self.path, self.split = path, split
        self._shards = shards
        # Imported here for TensorFlow's sake, like TFDS in open_split.
        from data_pipelines.reading.stored_example import parse_example

        self._source, self._parse = source, parse_example
        # The reader opens its files at its first use.
        self._lock = threading.Lock()
        self._opened = False

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return example `index` as `STORED_FIELDS` says, pictures still encoded.

        Raises:
            IndexError: there is no such example.
            UserError: the shard is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.split} has {len(self)} examples, not number {index}")
        try:
            if self._opened:
                serialised = self._source.data_source[index]
            else:
                with self._lock:
                    serialised = self._source.data_source[index]
                    self._opened = True
            return self._parse(serialised)
        except Exception as error:
            # What follows are places within the file.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            reason = reason.partition(";")[0].partition(" (")[0][:80]
            raise UserError(
                f"cannot read example {index} of {self.split} in {self._file_of(index)} "
                f"({reason}); remove the directory and prepare the dataset again"
            ) from error

    def _file_of(self, index: int) -> Path:
        for file, count in self._shards:
            if index < count:
                return file
            index -= count
        return self.path

    def names(self) -> SplitNames:
        """Read the names of all examples, which takes a pass over the split.

        Raises:
            UserError: a shard or the list of sequences is damaged.
        """
        examples = (self[index] for index in range(len(self)))
        samples = [
            SampleName(example["sequence"], int(example["person"]), int(example["frame"]))
            for example in examples
        ]
        return SplitNames(samples, self._extents(), self._left_out())

    def _extents(self) -> dict[str, Extent]:
        with self._side_file(SEQUENCES_FILE) as content:
            return {
                name: Extent(int(entry["people"]), int(entry["frames"]))
                for name, entry in content.get(self.split, {}).items()
            }

    def _left_out(self) -> dict[str, collections.Counter[str]]:
        found: dict[str, collections.Counter[str]] = {}
        with self._side_file(SKIPPED_FILE) as content:
            for item in content.get(self.split, {}).get("skipped", []):
                # "NAME frame 12 person 1", as `raw.Skipped.what` names people in sequences.
                sequence = item["what"].rpartition(" frame ")[0]
                found.setdefault(sequence, collections.Counter())[item["reason"]] += 1
        return found

    @contextlib.contextmanager
    def _side_file(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Read a JSON file beside the shards, {} if there is none, and name it if it is damaged."""
        path = self.path / name
        try:
            yield json.loads(path.read_text()) if path.exists() else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"cannot read {path} ({type(error).__name__}); remove the directory and prepare "
                "the dataset again"
            ) from error


def open_split(path: str | Path, split: str) -> StoredSplit:
    """Open a split of a prepared dataset.

    Args:
        path: the dataset's directory, from `find_dataset` or a builder's `prepare`.
        split: "train", "validation", "test" ...

    Returns:
        Its examples.

    Raises:
        UserError: there is no dataset, no such split, or its files are damaged.
    """
    import tensorflow_datasets as tfds

    path = Path(path)
    if not is_prepared(path):
        raise UserError(f"no prepared dataset in {path}; make it with data_pipelines.prepare")
    try:
        builder = tfds.builder_from_directory(path)
        known = list(builder.info.splits)
    except Exception as error:
        raise UserError(
            f"cannot read the dataset in {path} ({type(error).__name__}); remove the directory and "
            "prepare it again"
        ) from error
    lacking = [name for name in STORED_FIELDS if name not in (builder.info.features or {})]
    if lacking:
        raise UserError(
            f"the dataset in {path} was prepared without {', '.join(lacking)}, which this version "
            f"({VERSION}) needs; prepare it again (python -m data_pipelines.prepare)"
        )
    if split not in known:
        raise UserError(f"no split {split!r} in {path}; there are {', '.join(known)}")
    try:
        source = builder.as_data_source(split)
        info = builder.info.splits[split]
        shards = list(zip(map(Path, info.filepaths), info.shard_lengths, strict=True))
    except Exception as error:
        raise UserError(
            f"cannot open {split} in {path} ({type(error).__name__}); remove the directory and "
            "prepare it again"
        ) from error
    return StoredSplit(path, split, source, shards)
