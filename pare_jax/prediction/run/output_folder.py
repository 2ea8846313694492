"""The output folder of a prediction run: its lock, its records, and the files of each input.

An input is done when its record has the key of this run's settings and its files exist. Files are
written to a scratch folder and moved when all of them are complete. Their names are recorded
before they are moved. A file that no record names belongs to the user and is never replaced.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pare_jax.errors import UserError
from pare_jax.io.files import is_scratch_of, lock_file, parse_json, read_regular, write_together
from pare_jax.prediction.output_names import output_names

RECORDS = ".predictions"
LOCK = "lock"
# Bytes; a clip of a hundred thousand tracks needs as many.
_LARGEST_RECORD = 1 << 24
_SCRATCH = "unfinished-"
_MESH = re.compile(r"\d{6,}\.(obj|ply)")
# File names that belong to NAME, see docs/predict.md. A photograph's may look like a clip's.
_FILES_OF = tuple(
    re.compile(r"(.+)" + ending, re.DOTALL)
    for ending in (
        r"\.(?:npz|json|obj|ply|glb)",
        r"_(?:overlay\.(?:jpg|mp4|webm)|keypoints\.jpg|side\.jpg|attention(?:_\d+)?\.jpg)",
        r"_track_\d+(?:\.(?:npz|json|glb)|_side\.(?:mp4|webm)|_attention\.jpg|_obj|_ply)",
    )
)


@dataclasses.dataclass(frozen=True)
class Record:
    """The outputs of one photograph or clip.

    Attributes:
        name: the beginning of their file names.
        source: the input's path, for messages and the page.
        place: the input's resolved path, see `pare_jax.prediction.output_names.place_of`.
        key: digest of the input and the settings; "" while files are being moved.
        files: names in the output folder; for a folder of meshes how many it holds, else 0.
        people: number of people found.
        is_clip: True for a clip or a camera's recording.
        complaints: what was skipped and why, one line each.
        facts: network, detector and smoothing, as the page shows them.
    """

    name: str
    source: str
    place: str
    key: str
    files: dict[str, int] = dataclasses.field(default_factory=dict)
    people: int = 0
    is_clip: bool = False
    complaints: list[str] = dataclasses.field(default_factory=list)
    facts: dict[str, str] = dataclasses.field(default_factory=dict)


class OutputFolder:
    """The outputs in one folder that runs have recorded.

    Iterating yields the finished records, sorted by name.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path):
        """Read the records; a damaged record is ignored, its files count as the user's."""
        self.path = path
        self._folder = path / RECORDS
        files = [] if self._folder.is_symlink() else sorted(self._folder.glob("*.json"))
        read = [_read_record(file) for file in files]
        self._records = {record.name: record for record in read if record is not None}
        self._written = {file for record in self._records.values() for file in record.files}

    def __iter__(self) -> Iterator[Record]:
        finished = [record for record in self._records.values() if record.key]
        return iter(sorted(finished, key=lambda record: record.name))

    def __len__(self) -> int:
        return sum(bool(record.key) for record in self._records.values())

    def done(self, name: str, key: str) -> Record | None:
        """Return the record with this name and key if all its files exist."""
        record = self._records.get(name)
        if record is None or record.key != key:
            return None
        exist = (_exists(self.path / file, meshes) for file, meshes in record.files.items())
        return record if all(exist) else None

    def wrote(self, path: Path) -> bool:
        """Return whether a run wrote this file into the folder."""
        return path.name in self._written and path.parent.resolve() == self.path.resolve()

    def names_for(self, paths: Sequence[Path]) -> list[str]:
        """Return a name for the outputs of each input.

        An input keeps the name of its record. New names avoid the user's files in the folder.
        """
        held = {record.name: record.place for record in self._records.values()}
        others = set()
        with contextlib.suppress(OSError):  # a folder may be writable but not readable
            others = set(os.listdir(self.path)) - self._written
        return output_names(paths, held, {name for file in others for name in _names_of(file)})

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make a private folder for unfinished files, and remove it at the end.

        Raises:
            UserError: something cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=self._folder) as folder:
                yield Path(folder)
        except OSError as error:
            raise UserError(f"cannot write into {self.path}: {error.strerror or error}") from None

    def publish(self, scratch: Path, record: Record) -> Record:
        """Move an input's files into the folder and record that the input is done.

        Files of its earlier record that are not written again are removed. Threads may call this
        at once for different names.

        Args:
            scratch: folder of the complete files, and of folders of meshes.
            record: its `files` are those published before, which stay.

        Returns:
            The record with all files.

        Raises:
            UserError: a file exists that no run wrote, or something cannot be written.
        """
        new = {path.name: len(_meshes_in(path)) for path in sorted(scratch.iterdir())}
        for target in (self.path / file for file in new):
            # Runs write no links.
            if target.is_symlink() or (target.name not in self._written and target.exists()):
                raise UserError(
                    f"{target} exists and no run wrote it: move it, or give another --output"
                )
        before = self._records.get(record.name)
        old = before.files if before is not None else {}
        record = dataclasses.replace(record, files={**record.files, **new})
        # A run that is killed from here on leaves no file without a record.
        self._save(dataclasses.replace(record, key="", files={**old, **record.files}))
        try:
            for file in new:
                _move(scratch / file, self.path / file)
            for file in old.keys() - record.files.keys():
                _remove(self.path / file)
        except OSError as error:
            raise UserError(f"cannot write into {self.path}: {error.strerror or error}") from None
        self._save(record)
        return record

    def _save(self, record: Record) -> None:
        text = json.dumps(dataclasses.asdict(record), indent=1)
        write_together(self._folder, {f"{record.name}.json": text.encode()})
        self._records[record.name] = record
        self._written.update(record.files)


@contextlib.contextmanager
def claimed_folder(path: Path) -> Iterator[OutputFolder]:
    """Make the output folder and lock it against other runs.

    The operating system releases the lock when the process ends. A folder that was made here is
    removed if nothing was written.

    Raises:
        UserError: the folder is a file or cannot be written, or another run is writing into it.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"--output={path} is a file; name a folder, which may be a new one")
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    records = path / RECORDS
    if records.is_symlink():  # else files of another folder would be removed and replaced
        raise UserError(f"{records} is a link: remove it, or give another --output")
    try:
        records.mkdir(parents=True, exist_ok=True)
        # The records may be writable where the folder itself is not.
        with tempfile.TemporaryFile(dir=path):
            pass
        lock = lock_file(records / LOCK)
    except OSError as error:
        _remove_if_empty(records, made)
        raise UserError(f"cannot write into {path}: {error.strerror or error}") from None
    if lock is None:
        raise UserError(
            f"another run is writing into {path}: wait until it ends, or give another --output"
        )
    try:
        _remove_unfinished(path, records)
        yield OutputFolder(path)
    finally:
        _remove_if_empty(records, made)
        os.close(lock)


def _remove_unfinished(path: Path, records: Path) -> None:
    """Remove what a killed run left: scratch folders, and scratch files of records and pages."""
    with contextlib.suppress(OSError):
        for scratch in records.iterdir():
            if scratch.name.startswith(_SCRATCH):
                shutil.rmtree(scratch, ignore_errors=True)  # of a link, nothing is removed
            elif is_scratch_of(scratch, ".json"):
                scratch.unlink()
        for scratch in path.glob(".index*.partial"):
            if is_scratch_of(scratch, ".html"):
                scratch.unlink()


def _remove_if_empty(records: Path, made: list[Path]) -> None:
    """Remove the records' folder if it has no record, and then the empty folders of `made`."""
    with contextlib.suppress(OSError):
        if all(path.name == LOCK for path in records.iterdir()):
            (records / LOCK).unlink(missing_ok=True)
            records.rmdir()
            for folder in made:
                folder.rmdir()


def _read_record(path: Path) -> Record | None:
    """Read a record; None if it is damaged, or names a file that its input cannot have.

    Records also lie in folders of inputs, which may come from anybody: links and pipes are ignored.
    """
    try:
        record = Record(**parse_json(read_regular(path, _LARGEST_RECORD), path))
    except (OSError, UserError, TypeError):
        return None
    blank = Record("", "", "", "")
    typed = all(type(value) is type(getattr(blank, name)) for name, value in vars(record).items())
    if not typed or record.name != path.stem:
        return None
    texts = [*record.complaints, *record.facts.values()]
    typed = all(type(text) is str for text in texts)
    typed = typed and all(type(meshes) is int for meshes in record.files.values())
    # The name is a bare file name, so that its files are, too.
    own = all(record.name in _names_of(file) for file in record.files)
    return record if typed and own else None


def _names_of(file: str) -> set[str]:
    """Return the names whose outputs could have this file name."""
    found = (pattern.fullmatch(file) for pattern in _FILES_OF)
    return {match[1] for match in found if match}


def _exists(path: Path, meshes: int) -> bool:
    return len(_meshes_in(path)) >= meshes if meshes else path.is_file()


def _meshes_in(folder: Path) -> list[Path]:
    """Return a folder's numbered meshes; none if it is a link."""
    found = folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ()
    return [path for path in found if _MESH.fullmatch(path.name)]


def _move(source: Path, target: Path) -> None:
    if not source.is_dir():
        os.replace(source, target)
        return
    target.mkdir(exist_ok=True)
    for mesh in _meshes_in(target):
        mesh.unlink()
    for mesh in source.iterdir():
        os.replace(mesh, target / mesh.name)


def _remove(path: Path) -> None:
    """Remove an output; of a folder its numbered meshes, and the folder if it is then empty."""
    if path.is_symlink():  # not a run's
        return
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for mesh in _meshes_in(path):
        mesh.unlink()
    with contextlib.suppress(OSError):  # the user's files in it stay
        path.rmdir()
