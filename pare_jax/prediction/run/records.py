"""Which photographs and clips of a folder are done, so that a run that was stopped goes on.

Each has a small file of its own in `.predictions/`. Before its files appear it names those that are
intended, so that they are never taken for photographs; after them it says that they are done. A
kill at any moment therefore loses what was not finished and nothing else. What is intended keeps
the record of what an earlier run finished under the name: where it fails, that record is good again
as long as none of its files was replaced. A file that no record names is the user's own, and is
never overwritten.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pare_jax.errors import UserError
from pare_jax.io.files import scratch_of, write_together
from pare_jax.prediction.box_files import place_of
from pare_jax.training.checkpoints import CHECKPOINT_FOLDER, split_checkpoint

FOLDER = ".predictions"
# Letters of a key in the name of a clip's folder of unfinished things.
_KEY_LENGTH = 12
# What a frame's mesh is called.
_MESH = re.compile(r"\d{6,}\.(obj|ply)")
# What files about NAME are called, see docs/predict.md; a photograph's may look like a clip's.
_FILES_OF = tuple(
    re.compile(r"(.+)" + ending)
    for ending in (
        r"\.(?:npz|json|obj|ply|glb)",
        r"_(?:overlay\.(?:jpg|mp4|webm)|side\.jpg|attention(?:_\d+)?\.jpg)",
        r"_track_\d+(?:\.(?:npz|json|glb)|_side\.(?:mp4|webm)|_attention\.jpg|_obj|_ply)",
    )
)


@dataclasses.dataclass(frozen=True)
class Record:
    """One photograph or clip that is done, or whose files are about to be written.

    Attributes:
        name: what its files are called after.
        source: what the user knows it by.
        key: of the file, the network and the settings; see `key_of`.
        files: names of what was written.
        people: how many were found.
        is_clip: or else a photograph.
        complaints: what could not be done of it, one line each.
        place: where the source is, see `box_files.place_of`; "" where nobody noted it.
        finished: or else the files are only intended.
        meshes: folders of numbered meshes, one for each frame, and how many each holds.
        facts: the network, the detector and the smoothing, as the page calls them.
        before: of what is only intended, what an earlier run finished under the name.
        stamps: of each file and folder of `before`, what changes when it is replaced.
    """

    name: str
    source: str
    key: str
    files: tuple[str, ...]
    people: int
    is_clip: bool = False
    complaints: tuple[str, ...] = ()
    place: str = ""
    finished: bool = True
    meshes: dict[str, int] = dataclasses.field(default_factory=dict)
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    before: "Record | None" = None
    stamps: dict[str, list[int] | None] = dataclasses.field(default_factory=dict)


class Records:
    """What is done in one folder of predictions."""

    def __init__(self, output: Path):
        """Read the records; one that cannot be read counts as not done."""
        self._output = output
        self._folder = output / FOLDER
        self._place = output.resolve()
        self._records: dict[str, Record] = {}
        self._written: set[str] = set()
        # Whose record is there and cannot be read: what is called after them may be a run's.
        self._unreadable: set[str] = set()
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []:
            try:
                record = _record_of(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, KeyError):
                self._unreadable.add(path.stem)
                continue
            self._records[record.name] = record
            self._written.update(record.files, record.meshes)

    def sweep(self) -> None:
        """Remove scratch files that a killed run left behind; no other run may be writing."""
        left = [*self._output.glob(".index*.html.partial"), *self._folder.glob(".*.partial")]
        for record in self._records.values():
            if record.finished:
                continue
            for path in (self._output / file for file in record.files):
                # A video's ending says what it is to whoever writes it.
                left += [scratch_of(path), path.with_name(f".{path.stem}.partial{path.suffix}")]
            for folder in record.meshes:
                left += (self._output / folder).glob(".*.partial")
        for path in left:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def __iter__(self):
        """Go through the records of what is done, sorted by name."""
        finished = [record for record in self._records.values() if record.finished]
        return iter(sorted(finished, key=lambda record: record.name))

    def __len__(self) -> int:
        return sum(record.finished for record in self._records.values())

    def done(self, name: str, key: str) -> Record | None:
        """Return the record of what was done with this very key and is still there."""
        record = self._records.get(name)
        if record is None or not record.finished or record.key != key:
            return None
        there = all((self._output / file).is_file() for file in record.files)
        for folder, count in record.meshes.items():
            there = there and len(_meshes_in(self._output / folder)) >= count
        return record if there else None

    def written_here(self, path: Path) -> bool:
        """Return whether a file is one that a run wrote into the folder, or was about to write."""
        return path.name in self._written and path.parent.resolve() == self._place

    def held(self) -> dict[str, str]:
        """Return the place of the source of every name in use, where it is known."""
        return {name: record.place for name, record in self._records.items() if record.place}

    def names_of_others(self) -> set[str]:
        """Return the names whose files could meet files in the folder that no run wrote."""
        names: set[str] = set()
        with contextlib.suppress(OSError):
            for path in self._output.iterdir():
                if path.name not in self._written:
                    found = (pattern.fullmatch(path.name) for pattern in _FILES_OF)
                    names.update(match[1] for match in found if match)
        return names - self._unreadable

    def intend(
        self,
        name: str,
        source: str,
        place: str,
        files: Iterable[str],
        meshes: Mapping[str, int] | None = None,
    ) -> None:
        """Note which files are about to be written; what was finished before is so no longer.

        Safe in a thread, as long as no other is about the same name.

        Raises:
            UserError: the record cannot be written, or a file is there that no run wrote.
        """
        files = tuple(files)
        for file in [*files, *(meshes or ())]:
            if self._is_of_others(name, file):
                raise UserError(
                    f"{self._output / file} is there and no run wrote it: move it away, or give "
                    "another --output"
                )
        last = self._records.get(name)
        if last is None or last.finished:
            earlier, stamps = last, self._stamps(last) if last is not None else {}
        else:
            earlier, stamps = last.before, last.stamps
        kept = last.files if last is not None else ()
        record = Record(
            name,
            source,
            key="",
            files=tuple(dict.fromkeys([*files, *kept])),
            people=0,
            place=place,
            finished=False,
            meshes={**(last.meshes if last is not None else {}), **(meshes or {})},
            before=earlier,
            stamps=stamps,
        )
        self._save(record)

    def _stamps(self, record: Record) -> dict[str, list[int] | None]:
        return {name: _stamp(self._output / name) for name in (*record.files, *record.meshes)}

    def _is_of_others(self, name: str, file: str) -> bool:
        known = file in self._written or name in self._unreadable
        return not known and os.path.lexists(self._output / file)

    def add(self, record: Record) -> None:
        """Remember that something is done, and remove files of before that it no longer has.

        Raises:
            UserError: the record cannot be written.
        """
        # Files that go are gone before the record that names them is.
        before = self._records.get(record.name)
        if before is not None:
            gone = before.meshes.keys() - record.meshes.keys()
            self._remove(set(before.files) - set(record.files), gone)
        self._save(record)

    def _save(self, record: Record) -> None:
        text = json.dumps(dataclasses.asdict(record), indent=1)
        write_together(self._folder, {f"{record.name}.json": text.encode()})
        self._records[record.name] = record
        self._written.update(record.files, record.meshes)

    def drop_unfinished(self, name: str) -> None:
        """Take back something that was begun and failed: its record, and the files that are new.

        What an earlier run finished under that name stays: a full disk, a drive that is away or a
        mistyped box must not cost it. It is done as before where none of its files was replaced;
        else they are kept as files of something unfinished.
        """
        record = self._records.get(name)
        if record is None or record.finished:
            return
        earlier = record.before
        if earlier is None:
            del self._records[name]
            self._remove(record.files, record.meshes)
            with contextlib.suppress(OSError):
                (self._folder / f"{name}.json").unlink(missing_ok=True)
            return
        gone = record.meshes.keys() - earlier.meshes.keys()
        self._remove(set(record.files) - set(earlier.files), gone)
        if self._stamps(earlier) == record.stamps:
            # Where not even this can be written the next run finds both records in one.
            with contextlib.suppress(UserError):
                self._save(earlier)

    def _remove(self, files: Iterable[str], meshes: Iterable[str]) -> None:
        for file in files:
            with contextlib.suppress(OSError):
                (self._output / file).unlink(missing_ok=True)
        for folder in meshes:
            remove_meshes(self._output / folder)

    def scratch_folder(self, name: str, key: str) -> Path:
        """Return a folder for what a clip has so far; it is made when it is written to."""
        return self._folder / f"{name}-{key[:_KEY_LENGTH]}"

    def drop_scratch(self, name: str, keep: Path) -> None:
        """Remove what a clip had when it, the network or the settings were other than now."""
        pattern = re.compile(re.escape(name) + rf"-([0-9a-f]{{{_KEY_LENGTH}}})?")
        for folder in self._folder.iterdir() if self._folder.is_dir() else []:
            if folder != keep and folder.is_dir() and pattern.fullmatch(folder.name):
                shutil.rmtree(folder, ignore_errors=True)


def _record_of(fields: dict[str, Any]) -> Record:
    """Return a record as it was written, or raise what its damage leads to."""
    before = fields.get("before")
    typed: dict[str, Any] = {name: tuple(fields[name]) for name in ("files", "complaints")}
    typed["before"] = before and _record_of(before)
    return Record(**fields | typed)


def _stamp(path: Path) -> list[int] | None:
    """Return what another file, or another content of a folder, would not have; None: not there."""
    try:
        state = path.stat()
    except OSError:
        return None
    return [state.st_ino, state.st_mtime_ns, state.st_size]


def remove_meshes(folder: Path) -> None:
    """Remove a folder's numbered meshes, and the folder if nothing else is in it."""
    with contextlib.suppress(OSError):
        for path in _meshes_in(folder):
            path.unlink(missing_ok=True)
        folder.rmdir()


def _meshes_in(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if _MESH.fullmatch(path.name)]


def key_of(path: Path, boxes: Any, identity: Mapping[str, Any]) -> str:
    """Return a key that changes with the file, its boxes, the network or the settings.

    Args:
        path: of the photograph or clip.
        boxes: that were given, or None.
        identity: of the network and the settings.
    """
    with contextlib.suppress(OSError):
        state = path.stat()
        return _digest([place_of(path), state.st_size, state.st_mtime_ns, boxes, identity])
    return ""


def checkpoint_identity(checkpoint: str | Path, weights: str) -> list[Any]:
    """Return what tells a checkpoint from all others: its place, step, age and kind of weights."""
    workdir, step = split_checkpoint(checkpoint)
    folder = workdir / CHECKPOINT_FOLDER
    with contextlib.suppress(OSError, ValueError):
        if step is None:
            step = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        changed = (folder / str(step)).stat().st_mtime_ns
        return [str(folder.resolve()), step, changed, weights]
    return [str(folder.absolute()), step, weights]


def _plain(value: Any) -> Any:
    return vars(value) if dataclasses.is_dataclass(value) else value.tolist()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()
