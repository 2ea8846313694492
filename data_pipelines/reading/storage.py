"""Finds prepared datasets and reads their examples by index.

A dataset is a TFDS directory of array_record shards. These have an index of their records, so
example i is read without the ones before it. TensorFlow takes seconds to import, so only the
functions that open or describe a dataset import it.
"""

import collections
import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.example import STORED_FIELDS
from data_pipelines.reading.damaged_examples import DamagedExampleError, are_too_many
from data_pipelines.releases.release import FIXED_NAMES, RELEASED
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.errors import UserError, be
from pare_jax.evaluation.sequences import UNKNOWN_NAME, Extent, SampleName, SplitNames
from pare_jax.io.files import read_json

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Increased when stored fields change that have no default (`example.Field`); a dataset of another
# version must be prepared again.
VERSION = "1.2.0"
# Beside the shards of a dataset with sequences: {split: {sequence: {"people": P, "frames": N}}}.
SEQUENCES_FILE = "sequences.json"
# Beside the shards of a prepared release: {split: {"kept": n, "skipped": [...]}}, each entry with
# the fields of `release.Skipped`.
SKIPPED_FILE = "skipped.json"
_COMPLETE = "dataset_info.json"  # TFDS moves the finished directory into place
# Raised by TFDS, json and protobuf when a dataset's JSON files are damaged.
_DAMAGED_INFO = (ValueError, TypeError, KeyError, AttributeError)
# array_record raises RuntimeError both for damaged shards and for these, named in its message.
_SYSTEM_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE),
)
# Bytes of each end of a shard that identify it.
_SAMPLE = 1 << 16
_PREPARE_AGAIN = "remove the directory and prepare the dataset again"
_TRY_AGAIN = "run the command again when it can be read"


class MissingDatasetError(UserError):
    """Datasets are missing; the message says how to prepare them, or how to train without."""

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
            there = f"; {', '.join(others)} {be(len(others))} prepared there" if others else ""
            if not Path(data_root).is_dir():
                there = f"; there is no folder {data_root}"
            kinds = "|".join(name for name in RELEASED if name not in FIXED_NAMES)
            commands = " and ".join(f"--name={name}" for name in unknown)
            super().__init__(
                f"no prepared dataset in {places}{there}; check the spelling, or prepare it with "
                f"python -m data_pipelines.prepare --dataset={kinds} {commands} (docs/data.md)"
            )
            return
        commands = [
            f"python -m data_pipelines.prepare --dataset={dataset}"
            f"{'' if dataset == 'synthetic' else ' --source=RAW'} --output={data_root}"
            for dataset in datasets
        ]
        super().__init__(
            f"no prepared dataset in {places}; prepare {'it' if len(names) == 1 else 'them'} with "
            f"{' and '.join(commands)} (docs/data.md), or train without data: "
            "--config=configs/quickstart.py"
        )


class MissingSplitError(UserError):
    """A prepared dataset lacks a split."""


def stored_features() -> "tfds.features.FeaturesDict":
    """Return the stored fields as TFDS features; encoded images are plain bytes."""
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
    path: Path, error: OSError, elsewhere: str = "another --output", resume: str = ""
) -> UserError:
    """Return the error message for a dataset that cannot be written.

    Args:
        path: the dataset's directory.
        error: the system's error.
        elsewhere: what the user can name instead.
        resume: added to the advice for a full disk.
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = f"free some space, or name {elsewhere}{resume}" if full else f"name {elsewhere}"
    return UserError(f"cannot write the dataset to {path}: {error.strerror or error}; {advice}")


def system_error(text: str) -> OSError | None:
    """Return the error of the operating system that a message of array_record names, if any."""
    number = next((number for number in _SYSTEM_ERRORS if os.strerror(number) in text), None)
    return None if number is None else OSError(number, os.strerror(number))


def is_prepared(path: str | Path) -> bool:
    """Return whether `path`, a directory named by a version, has a finished dataset."""
    return (Path(path) / _COMPLETE).is_file()


def synthetic_path(settings: SyntheticSettings, data_root: str | Path) -> Path:
    """Return the directory of the synthetic dataset with these settings."""
    return Path(data_root) / "synthetic" / settings.name() / VERSION


def find_dataset(data_root: str | Path, name: str) -> Path:
    """Return the directory of the prepared dataset `name`.

    Args:
        data_root: the folder of prepared datasets.
        name: "pw3d", "mpii", "synthetic", or "synthetic/96px_..." to choose one of several.

    Raises:
        MissingDatasetError: there is none.
        UserError: there are several.
    """
    folder = Path(data_root) / name
    found = sorted(path.parent for path in folder.glob(f"**/{_COMPLETE}"))
    # A dataset of an earlier version may be there too.
    found = [path for path in found if path.name == VERSION] or found
    if not found:
        raise MissingDatasetError([name], data_root)
    if len(found) > 1:
        names = ", ".join(str(path.parent.relative_to(data_root)) for path in found)
        raise UserError(f"several datasets in {folder}: {names}; name one of them")
    return found[0]


class StoredSplit:
    """A split whose examples are read by index, from any thread."""

    def __init__(
        self,
        path: Path,
        split: str,
        records: Sequence[bytes],
        shards: Sequence[tuple[Path, int]] = (),
        *,
        part_labels: bool = True,
    ):
        """Wrap the records of a split.

        Args:
            path: the dataset's directory.
            split: the split's name.
            records: the serialised examples.
            shards: the files in order, each with its number of examples; messages name them.
            part_labels: whether examples keep their part labels.
        """
        # stored_example imports TensorFlow.
        from data_pipelines.reading import stored_example

        self.path, self.split = path, split
        self._records, self._shards, self._part_labels = records, shards, part_labels
        self._parser = stored_example

    def without_part_labels(self) -> "StoredSplit":
        """Return the same split with every part label missing, so that none is decoded."""
        return StoredSplit(self.path, self.split, self._records, self._shards, part_labels=False)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return the fields of `STORED_FIELDS` of an example; images stay encoded.

        Raises:
            IndexError: there is no such example.
            DamagedExampleError: the example is damaged.
            UserError: the shard cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.split} has {len(self)} examples: no example {index}")
        example = self._parse(self._parser.parse_example, index)
        if not self._part_labels:
            example |= {"part_labels": b"", "parts_weight": np.float32(0)}
        return example

    def _parse(self, parse: Callable[[bytes], Any], index: int) -> Any:
        try:
            return parse(self._records[index])
        except (RuntimeError, ValueError) as error:
            raise self._unreadable(error, index) from error

    def _unreadable(self, error: Exception, index: int) -> UserError:
        place, left = self.path, index
        for file, count in self._shards:
            if left < count:
                place = file
                break
            left -= count
        what = f"cannot read example {index} of {self.split} in {place}"
        if system := system_error(str(error)):
            return UserError(f"{what}: {system.strerror}; {_TRY_AGAIN}")
        # array_record's messages continue with offsets and paths.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        reason = reason.partition(";")[0].partition(" (")[0][:80]
        return DamagedExampleError(f"{what} ({reason}); {_PREPARE_AGAIN}")

    def names(self) -> SplitNames:
        """Read the names of all examples: reads every record, but parses only its name.

        Raises:
            UserError: a shard cannot be read, too many records are damaged, or the list of
                sequences is damaged or cannot be read.
        """
        parse, samples = self._parser.parse_name, []
        for index in range(len(self)):
            try:
                samples.append(SampleName(*self._parse(parse, index)))
            except DamagedExampleError:  # named where its batch is made
                samples.append(UNKNOWN_NAME)
                if are_too_many(samples.count(UNKNOWN_NAME), len(self)):
                    raise
        return SplitNames(samples, self._extents(), self._skipped())

    def fingerprint(self) -> str:
        """Return a digest of the split's files: their names, sizes, first and last 64 KiB.

        The end of a shard has the places of its records. A change between the two parts that keeps
        all sizes is not seen.

        Raises:
            UserError: a shard cannot be read.
        """
        digest = hashlib.sha256()
        for file, count in self._shards:
            try:
                with file.open("rb") as shard:
                    size = shard.seek(0, os.SEEK_END)
                    digest.update(f"{file.name} {count} {size}".encode())
                    for start in (0, max(0, size - _SAMPLE)):
                        shard.seek(start)
                        digest.update(shard.read(_SAMPLE))
            except OSError as error:
                raise UserError(
                    f"cannot read {file}: {error.strerror or error}; {_TRY_AGAIN}"
                ) from error
        return digest.hexdigest()[:16]

    def _extents(self) -> dict[str, Extent]:
        with self._side_file(SEQUENCES_FILE) as content:
            return {
                name: Extent(int(entry["people"]), int(entry["frames"]))
                for name, entry in content.get(self.split, {}).items()
            }

    def _skipped(self) -> dict[str, collections.Counter[str]]:
        found: dict[str, collections.Counter[str]] = {}
        with self._side_file(SKIPPED_FILE) as content:
            for item in content.get(self.split, {}).get("skipped", []):
                # `release.Skipped.what` is "NAME frame 12 person 1" in sequences.
                sequence = item["what"].rpartition(" frame ")[0]
                found.setdefault(sequence, collections.Counter())[item["reason"]] += 1
        return found

    @contextlib.contextmanager
    def _side_file(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Read a JSON file beside the shards, {} if it is missing; its user's errors name it."""
        path = self.path / name
        try:
            yield read_json(path, _PREPARE_AGAIN) if path.exists() else {}
        except OSError as error:
            raise UserError(
                f"cannot read {path}: {error.strerror or error}; {_TRY_AGAIN}"
            ) from error
        except _DAMAGED_INFO as error:
            reason = type(error).__name__
            raise UserError(f"cannot read {path} ({reason}); {_PREPARE_AGAIN}") from error


def open_split(path: str | Path, split: str) -> StoredSplit:
    """Open a split of a prepared dataset.

    Args:
        path: the dataset's directory, from `find_dataset` or a builder's `prepare`.
        split: "train", "validation", "test" ...

    Raises:
        UserError: there is no such dataset or split, or its files are damaged or cannot be read.
    """
    import tensorflow_datasets as tfds
    from google.protobuf import json_format

    path = Path(path)
    if not is_prepared(path):
        raise UserError(
            f"no prepared dataset in {path}; prepare it with python -m data_pipelines.prepare"
        )
    damaged = (json_format.Error, *_DAMAGED_INFO)
    try:
        builder = tfds.builder_from_directory(path)
        known = list(builder.info.splits)
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise UserError(
            f"cannot read the dataset in {path}: {cause.strerror or cause}; {_TRY_AGAIN}"
        ) from error
    except damaged as error:
        raise UserError(
            f"cannot read the dataset in {path} ({type(error).__name__}); {_PREPARE_AGAIN}"
        ) from error
    needed = [name for name, field in STORED_FIELDS.items() if field.default is None]
    missing = [name for name in needed if name not in (builder.info.features or {})]
    if missing:
        raise UserError(
            f"the dataset in {path} lacks {', '.join(missing)}, which version {VERSION} has; "
            "prepare it again (python -m data_pipelines.prepare)"
        )
    if split not in known:
        raise MissingSplitError(f"no split {split!r} in {path}; there are {', '.join(known)}")
    try:
        # The serialised records; TFDS's own source also parses them.
        records = builder.as_data_source(split).data_source
        info = builder.info.splits[split]
        shards = list(zip(map(Path, info.filepaths), info.shard_lengths, strict=True))
    except (*damaged, NotImplementedError) as error:  # TFDS: not stored as array_record
        raise UserError(
            f"cannot open {split} in {path} ({type(error).__name__}); {_PREPARE_AGAIN}"
        ) from error
    return StoredSplit(path, split, records, shards)
