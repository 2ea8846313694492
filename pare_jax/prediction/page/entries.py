"""The entries of a run's page, and functions that read them from the run's output folder."""

import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pare_jax.body.io import BodyData
from pare_jax.errors import UserError
from pare_jax.io.files import printable, read_json
from pare_jax.io.images import Picture
from pare_jax.io.media import Clip, FrameReader
from pare_jax.prediction.person import Person, read_people

PICTURE_SUFFIXES = (".jpg", ".png")
VIDEO_SUFFIXES = (".mp4", ".webm")
# Suffixes of linked files, in the page's order.
DATA_SUFFIXES = (".glb", ".obj", ".ply", ".npz", ".json")
# A track's folders of meshes end so.
_MESH_FOLDERS = ("_obj", "_ply")
# A track's file is NAME_track_ID.npz.
_TRACK = re.compile(r"(.+)_track_(\d+)")


@dataclasses.dataclass(frozen=True)
class PhotoEntry:
    """One photograph.

    Attributes:
        name: shown as the title.
        people: found in it; an empty list is shown as "Nobody was found."
        photo_size: width and height, pixels.
        picture: the overlay, or its file; None: the card has no picture.
        attention: each person's sheet of attention, or its file.
        side: a picture of all people from their left and from behind, or its file.
        files: linked files of meshes and numbers.
        facts: those that differ from the run's facts, such as the network.
    """

    name: str
    people: Sequence[Person]
    photo_size: tuple[int, int] | None = None
    picture: Picture | Path | None = None
    attention: Sequence[Picture | Path] = ()
    side: Picture | Path | None = None
    files: Sequence[Path] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class VideoEntry:
    """One clip.

    Attributes:
        name: shown as the title.
        tracks: each track's people, with ids and frame numbers; vertices are not needed.
        frame_count: of the clip.
        frame_rate: frames a second.
        video: the overlay video's file; embedded if it is small, else linked.
        picture: shown before the video plays, or its file; None: the video's first frame.
        sides: each track's video from the person's left and from behind, or None.
        attention: each track's sheet of attention, or its file, or None.
        files: each track's linked files of meshes and numbers, and folders of meshes.
        facts: those that differ from the run's facts, such as the network.
    """

    name: str
    tracks: Sequence[Sequence[Person]]
    frame_count: int
    frame_rate: float
    video: Path | None = None
    picture: Picture | Path | None = None
    sides: Sequence[Path | None] = ()
    attention: Sequence[Picture | Path | None] = ()
    files: Sequence[Sequence[Path]] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Failure:
    """An input that failed: its name and the reason, each one line."""

    name: str
    reason: str


Entry = PhotoEntry | VideoEntry


@dataclasses.dataclass(frozen=True)
class RunPage:
    """One run of predictions.

    Attributes:
        title: of the page.
        entries: in the page's order; an iterator is consumed one entry at a time.
        failures: listed in the summary.
        facts: names and values for the summary, such as the network and the detector.
        body: the body model; without it, tracks and people without vertices have no 3D view.
        warning: a sentence at the top of every page, if there is one.
    """

    title: str
    entries: Iterable[Entry]
    failures: Sequence[Failure] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: BodyData | None = None
    warning: str | None = None


def entries_from_folder(folder: str | Path) -> Iterator[Entry]:
    """Read every photograph and clip in a run's output folder, sorted by name.

    Args:
        folder: the run's output folder.

    Yields:
        One entry at a time; see `entry_from_files`.

    Raises:
        UserError: the folder is missing, or one of its files is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"the folder {folder} is missing; give the output folder of a prediction")
    names = set()
    for path in folder.iterdir():
        if path.suffix == ".npz":
            track = _TRACK.fullmatch(path.stem)
            names.add(track[1] if track else path.stem)
        elif path.suffix in VIDEO_SUFFIXES and path.stem.endswith("_overlay"):
            names.add(path.stem.removesuffix("_overlay"))
    for name in sorted(names):
        yield entry_from_files(folder, name)


def entry_from_files(
    folder: str | Path,
    name: str,
    title: str | None = None,
    files: Collection[str] | None = None,
) -> Entry:
    """Read the output files of one photograph or clip.

    A photograph has NAME.npz. It may have NAME_overlay.jpg or .png, NAME_attention.jpg or .png
    (NAME_attention_0.jpg and so on), NAME_side.jpg or .png, and NAME.json with the photograph's
    name. JPEG is read in half the time. A clip has NAME_overlay.mp4 or .webm, and for each track
    NAME_track_ID.npz. A track may have NAME_track_ID_side.mp4 or .webm and
    NAME_track_ID_attention.jpg or .png. Meshes and numbers of both are linked: .glb, .obj, .ply,
    .npz and .json, and a track's folders of meshes, NAME_track_ID_obj and NAME_track_ID_ply.

    Args:
        folder: of the files.
        name: the start of their names.
        title: shown as the title; None: the photograph's name in NAME.json, or NAME.
        files: names of the files to use; None: all that exist.

    Raises:
        UserError: the files are missing, or one is damaged.
    """
    folder = Path(folder)
    files_here = [path for path in _paths(folder, files) if path.name.startswith(name)]
    picture = _first(files_here, f"{name}_overlay", PICTURE_SUFFIXES)
    video = _first(files_here, f"{name}_overlay", VIDEO_SUFFIXES)
    tracks = _numbered(files_here, f"{name}_track", (".npz",))
    if video is not None or tracks:
        return _video_from_files(title or printable(name), files_here, tracks, video, picture)
    path = folder / f"{name}.npz"
    found = read_people(path)
    return PhotoEntry(
        name=title or _photo_name(folder / f"{name}.json") or printable(name),
        people=found.people,
        photo_size=found.photo_size,
        picture=picture,
        attention=_numbered(files_here, f"{name}_attention", PICTURE_SUFFIXES),
        side=_first(files_here, f"{name}_side", PICTURE_SUFFIXES),
        files=_data_files(files_here, name),
    )


def _video_from_files(
    name: str,
    files: Sequence[Path],
    tracks: Sequence[Path],
    video: Path | None,
    picture: Path | None,
) -> VideoEntry:
    saved = [read_people(path, vertices=False) for path in tracks]
    seen = [person.frame or 0 for track in saved for person in track.people]
    rates = [track.frame_rate for track in saved if track.frame_rate]
    frame_count, frame_rate = 0, 0.0
    if video is not None:
        with contextlib.suppress(UserError), FrameReader(Clip(video)) as reader:
            frame_count, frame_rate = reader.frame_count or 0, reader.frame_rate
    return VideoEntry(
        name=name,
        tracks=[track.people for track in saved],
        frame_count=max([frame_count, *(frame + 1 for frame in seen)]),
        frame_rate=rates[0] if rates else frame_rate,
        video=video,
        picture=picture,
        sides=[_first(files, f"{path.stem}_side", VIDEO_SUFFIXES) for path in tracks],
        attention=[_first(files, f"{path.stem}_attention", PICTURE_SUFFIXES) for path in tracks],
        files=[_data_files(files, path.stem) for path in tracks],
    )


def _photo_name(path: Path) -> str | None:
    """Return the photograph's name in NAME.json, without folders; None if there is none."""
    try:
        content = read_json(path, "run the prediction again")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} does not describe people: run the prediction again")
    photo = content.get("photo")
    return Path(photo).name if isinstance(photo, str) else None


def _paths(folder: Path, files: Collection[str] | None) -> list[Path]:
    if files is None:
        return list(folder.iterdir()) if folder.is_dir() else []
    return [folder / file for file in files]


def _first(files: Sequence[Path], stem: str, suffixes: Sequence[str]) -> Path | None:
    names = [f"{stem}{suffix}" for suffix in suffixes]
    found = [path for path in files if path.name in names and path.is_file()]
    return min(found, key=lambda path: names.index(path.name), default=None)


def _data_files(files: Sequence[Path], stem: str) -> list[Path]:
    """Return the files of meshes and numbers with this stem, and its folders of meshes."""
    names = [stem + ending for ending in (*DATA_SUFFIXES, *_MESH_FOLDERS)]
    found = {path.name: path for path in files}
    return [found[name] for name in names if name in found and found[name].exists()]


def _numbered(files: Sequence[Path], stem: str, suffixes: Sequence[str]) -> list[Path]:
    """Return STEM.suffix and STEM_0.suffix, STEM_1.suffix, ..., in order."""
    endings = "|".join(map(re.escape, suffixes))
    pattern = re.compile(re.escape(stem) + rf"(?:_(\d+))?(?:{endings})")
    found = ((pattern.fullmatch(path.name), path) for path in files if path.is_file())
    return [path for _, path in sorted((int(m[1] or -1), path) for m, path in found if m)]
