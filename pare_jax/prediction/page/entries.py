"""What a run's page is made of, given in memory or found again in the run's folder."""

import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2

from pare_jax.body.io import BodyData
from pare_jax.errors import UserError
from pare_jax.io.files import printable
from pare_jax.io.images import Picture
from pare_jax.io.media import open_video
from pare_jax.prediction.person import Person, read_people

PICTURE_SUFFIXES = (".jpg", ".png")
VIDEO_SUFFIXES = (".mp4", ".webm")
# What a track's file is called: NAME_track_ID.npz.
_TRACK = re.compile(r"(.+)_track_(\d+)")


@dataclasses.dataclass(frozen=True)
class PhotoEntry:
    """One photograph.

    Attributes:
        name: what the reader knows it by.
        people: found in it; none is said to be so.
        photo_size: width and height, pixels.
        picture: the overlay, or its file; None: the card has no picture.
        attention: each person's sheet of attention, or its file.
        side: everybody from the side and from behind, or the file of that.
        facts: what is other than the run's facts say, such as the network.
    """

    name: str
    people: Sequence[Person]
    photo_size: tuple[int, int] | None = None
    picture: Picture | Path | None = None
    attention: Sequence[Picture | Path] = ()
    side: Picture | Path | None = None
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class VideoEntry:
    """One clip.

    Attributes:
        name: what the reader knows it by.
        tracks: each person's appearances, with ids and frame numbers; vertices are not needed.
        frame_count: of the clip.
        frame_rate: frames a second.
        video: the overlay video's file; embedded where it is small, else linked.
        picture: what is seen before it plays, or its file; None: its first frame.
        sides: each track's video from the side, as far as there is one.
        attention: each track's sheet of attention, or its file, as far as there is one.
        facts: what is other than the run's facts say, such as the network.
    """

    name: str
    tracks: Sequence[Sequence[Person]]
    frame_count: int
    frame_rate: float
    video: Path | None = None
    picture: Picture | Path | None = None
    sides: Sequence[Path | None] = ()
    attention: Sequence[Picture | Path | None] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Failure:
    """Something that could not be done: its name and the reason, each one line."""

    name: str
    reason: str


Entry = PhotoEntry | VideoEntry


@dataclasses.dataclass(frozen=True)
class RunPage:
    """One run of predictions.

    Attributes:
        title: of the page.
        entries: in the order of the page; taken one at a time, so that they may be made on the way.
        failures: what could not be done.
        facts: what else the summary says, such as the network and the detector.
        body: the body model; tracks and people without vertices can be turned in 3D only with it.
    """

    title: str
    entries: Iterable[Entry]
    failures: Sequence[Failure] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: BodyData | None = None


def entries_from_folder(folder: str | Path) -> Iterator[Entry]:
    """Find every photograph and clip whose files are in a run's folder, sorted by name.

    Args:
        folder: where predictions were written.

    Yields:
        Entries, read when they are asked for; see `entry_from_files`.

    Raises:
        UserError: the folder is not there, or one of its files is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name one that predictions were written to")
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
    """Read what a run wrote about one photograph or clip; nothing is computed again.

    A photograph has NAME.npz, and as far as they exist NAME_overlay.jpg or .png,
    NAME_attention.jpg or .png (NAME_attention_0.jpg and so on), NAME_side.jpg or .png and
    NAME.json, which says what it is called. JPEG is read in half the time.
    A clip has NAME_overlay.mp4 or .webm and a NAME_track_ID.npz for each person, beside which
    NAME_track_ID_side.mp4 or .webm and NAME_track_ID_attention.jpg or .png may lie.

    Args:
        folder: where they are.
        name: what their names begin with.
        title: what the reader knows it by; None: as NAME.json says, or else NAME.
        files: names of what the run wrote about it; None: everything that is called like that.

    Raises:
        UserError: there are no such files, or one is damaged.
    """
    folder = Path(folder)
    there = [path for path in _inside(folder, files) if path.name.startswith(name)]
    picture = _first(there, f"{name}_overlay", PICTURE_SUFFIXES)
    video = _first(there, f"{name}_overlay", VIDEO_SUFFIXES)
    tracks = _numbered(there, f"{name}_track", (".npz",))
    if video is not None or tracks:
        return _video_from_files(title or printable(name), there, tracks, video, picture)
    path = folder / f"{name}.npz"
    found = read_people(path)
    return PhotoEntry(
        name=title or _photo_name(folder / f"{name}.json") or printable(name),
        people=found.people,
        photo_size=found.photo_size,
        picture=picture,
        attention=_numbered(there, f"{name}_attention", PICTURE_SUFFIXES),
        side=_first(there, f"{name}_side", PICTURE_SUFFIXES),
    )


def _video_from_files(
    name: str,
    there: Sequence[Path],
    tracks: Sequence[Path],
    video: Path | None,
    picture: Path | None,
) -> VideoEntry:
    saved = [read_people(path, vertices=False) for path in tracks]
    seen = [person.frame or 0 for track in saved for person in track.people]
    rates = [track.frame_rate for track in saved if track.frame_rate]
    frame_count, frame_rate = 0, 0.0
    if video is not None:
        clip = open_video(video)
        frame_count = max(0, int(clip.get(cv2.CAP_PROP_FRAME_COUNT)))
        frame_rate = float(clip.get(cv2.CAP_PROP_FPS))
        clip.release()
    return VideoEntry(
        name=name,
        tracks=[track.people for track in saved],
        frame_count=max([frame_count, *(frame + 1 for frame in seen)]),
        frame_rate=rates[0] if rates else frame_rate,
        video=video,
        picture=picture,
        sides=[_first(there, f"{path.stem}_side", VIDEO_SUFFIXES) for path in tracks],
        attention=[_first(there, f"{path.stem}_attention", PICTURE_SUFFIXES) for path in tracks],
    )


def _photo_name(path: Path) -> str | None:
    """What the photograph is called in the file about it, without its folders."""
    try:
        photo = json.loads(path.read_text()).get("photo")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not what a prediction wrote ({reason})") from None
    return Path(photo).name if isinstance(photo, str) else None


def _inside(folder: Path, files: Collection[str] | None) -> list[Path]:
    if files is None:
        return list(folder.iterdir()) if folder.is_dir() else []
    return [folder / file for file in files]


def _first(there: Sequence[Path], stem: str, suffixes: Sequence[str]) -> Path | None:
    names = [f"{stem}{suffix}" for suffix in suffixes]
    found = [path for path in there if path.name in names and path.is_file()]
    return min(found, key=lambda path: names.index(path.name), default=None)


def _numbered(there: Sequence[Path], stem: str, suffixes: Sequence[str]) -> list[Path]:
    """STEM.suffix and STEM_0.suffix, STEM_1.suffix, ..., in order."""
    endings = "|".join(map(re.escape, suffixes))
    pattern = re.compile(re.escape(stem) + rf"(?:_(\d+))?(?:{endings})")
    found = ((pattern.fullmatch(path.name), path) for path in there if path.is_file())
    return [path for _, path in sorted((int(m[1] or -1), path) for m, path in found if m)]
