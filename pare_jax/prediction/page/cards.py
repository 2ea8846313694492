"""Makes the HTML of one photograph or clip on a run's page."""

import dataclasses
import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from pare_jax.errors import UserError, counted
from pare_jax.io.files import printable
from pare_jax.io.images import Picture
from pare_jax.prediction.drawing import person_colour, person_number
from pare_jax.prediction.page.entries import (
    DATA_SUFFIXES,
    Entry,
    Failure,
    PhotoEntry,
    VideoEntry,
)
from pare_jax.prediction.page.packing import Data, embedded_file, first_frame, thumbnail
from pare_jax.prediction.person import Person

# A video with more bytes is linked instead of embedded.
EMBEDDED_VIDEO_LIMIT = 1_500_000
# The title of pictures from `pare_jax.rendering.overlay.side_and_back_view`.
_SIDES = "From the person's left and from behind"
_KINDS = {".mp4": "video/mp4", ".webm": "video/webm"}


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A small picture, and the file that a click opens, if there is one."""

    url: str
    width: int
    height: int
    link: Path | None


_Small = Thumbnail | Failure | None


@dataclasses.dataclass(frozen=True)
class Pictures:
    """An entry's thumbnails; None for a picture that does not exist.

    Attributes:
        overlay: the bodies drawn over the photograph or the video's first frame.
        attention: sheets, in the order of the people.
        sides: a photograph's picture of all people, or the first frames of tracks' videos.
    """

    overlay: _Small
    attention: Sequence[_Small]
    sides: Sequence[_Small] = ()

    def failures(self) -> list[Failure]:
        """Return the pictures that could not be read."""
        every = [self.overlay, *self.attention, *self.sides]
        return [picture for picture in every if isinstance(picture, Failure)]


@dataclasses.dataclass
class Sheet:
    """A page that is being built."""

    data: Data
    folder: Path
    failures: list[Failure] = dataclasses.field(default_factory=list)


def with_pictures(entry: Entry) -> tuple[Entry, Pictures]:
    """Return an entry and its thumbnails."""
    attention = [_small(entry, sheet) for sheet in entry.attention]
    if isinstance(entry, PhotoEntry):
        overlay, side = (_small(entry, picture) for picture in (entry.picture, entry.side))
        return entry, Pictures(overlay, attention, [side])
    picture = entry.picture
    if picture is None and entry.video is not None:
        picture = first_frame(entry.video)
    sides = [_small(entry, None if side is None else first_frame(side)) for side in entry.sides]
    return entry, Pictures(_small(entry, picture), attention, sides)


def _small(entry: Entry, picture: Picture | Path | None) -> _Small:
    if picture is None:
        return None
    try:
        return Thumbnail(*thumbnail(picture), picture if isinstance(picture, Path) else None)
    except UserError as error:
        return Failure(entry.name, str(error))


def card(entry: Entry, pictures: Pictures, number: int, page: Sheet) -> str:
    """Return an entry's HTML, and add its numbers to the page's data.

    Args:
        entry: the photograph or clip.
        pictures: its thumbnails.
        number: its index in the run.
        page: the page that it is on.
    """
    parts = [f'<article class="card" aria-labelledby="e{number}">']
    parts.append(f'<h2 id="e{number}">{html.escape(entry.name)}</h2>')
    if isinstance(entry, PhotoEntry):
        parts += _photo(entry, pictures, page)
    else:
        parts += _video(entry, pictures, page)
    facts = " · ".join(f"{name}: {value}" for name, value in entry.facts.items())
    if facts:
        parts.append(f'<p class="facts">{html.escape(facts)}</p>')
    return "\n".join([*filter(None, parts), "</article>"])


def _photo(entry: PhotoEntry, pictures: Pictures, page: Sheet) -> list[str]:
    parts = [_image(pictures.overlay, f"Bodies drawn over {entry.name}", page)]
    count = len(entry.people)
    facts = counted(count, "person") if count else "Nobody was found."
    if entry.photo_size is not None:
        facts += f" · {entry.photo_size[0]} x {entry.photo_size[1]} px"
    parts.append(f'<p class="facts">{facts}</p>')
    if count:
        parts.append(_legend(entry.people))
    parts.append(_links("Files", entry.files, page))
    if not count:
        return parts
    scene = page.data.photo_scene(entry.name, entry.people, entry.photo_size)
    if page.data.has_bodies(scene):
        parts.append(_button(scene, "Turn in 3D", entry.name))
    parts.append(f'<details data-joints="{scene}"><summary>Joints</summary></details>')
    alt = f"The bodies of {entry.name} from each person's left and from behind"
    side = _image(pictures.sides[0], alt, page)
    if side:
        parts.append(f"<details><summary>{_SIDES}</summary><figure>{side}</figure></details>")
    if entry.attention:
        parts.append("<details><summary>Attention</summary>")
        for person, sheet in enumerate(pictures.attention):
            label = f"person {person}" if len(entry.attention) > 1 else ""
            caption = f"<figcaption>{label}</figcaption>" if label else ""
            alt = f"Attention maps of each joint in {entry.name}"
            image = _image(sheet, f"{alt}, {label}" if label else alt, page)
            parts.append(f"<figure>{image}{caption}</figure>" if image else "")
        parts.append("</details>")
    return parts


def _video(entry: VideoEntry, pictures: Pictures, page: Sheet) -> list[str]:
    parts = []
    if entry.video is not None:
        label = f"Bodies drawn over {entry.name}"
        parts.append(_player(entry, entry.video, pictures.overlay, label, page))
    else:
        parts.append(_image(pictures.overlay, f"Bodies drawn over {entry.name}", page))
    count = len(entry.tracks)
    facts = counted(count, "person") if count else "Nobody was found."
    if entry.frame_rate > 0:
        facts += (
            f" · {entry.frame_count / entry.frame_rate:.1f} s at {entry.frame_rate:.4g} frames/s"
        )
    parts.append(f'<p class="facts">{facts}</p>')
    for number, track in enumerate(entry.tracks):
        if track:
            parts.append(_track(entry, track, number, page))
            if number < len(entry.files):
                label = f"Files of person {person_number(track[0], number)}"
                parts.append(_links(label, entry.files[number], page))
            parts += _views_of_track(entry, pictures, track, number, page)
    return parts


def _legend(people: Sequence[Person]) -> str:
    """Return the colour and number of each person."""
    items = "".join(
        f'<li><i style="background:{_css(person, number)}"></i>'
        f"person {person_number(person, number)}</li>"
        for number, person in enumerate(people)
    )
    return f'<ul class="legend" aria-label="Colours">{items}</ul>'


def _css(person: Person, number: int) -> str:
    return f"rgb({','.join(map(str, person_colour(person, number)))})"


def _links(label: str, files: Sequence[Path], page: Sheet) -> str:
    """Return links to files of meshes and numbers; "" if none is in the page's folder."""
    links = []
    for path in files:
        link = _relative(path, page.folder)
        if link is not None:
            # A folder of meshes ends in _obj or _ply.
            is_file = path.suffix in DATA_SUFFIXES
            kind = path.suffix[1:].upper() if is_file else f"{path.name[-3:].upper()} folder"
            title = html.escape(printable(path.name))
            links.append(f'<a href="{link}" title="{title}">{kind}</a>')
    return f'<p class="facts files">{label}: {", ".join(links)}</p>' if links else ""


def _views_of_track(
    entry: VideoEntry, pictures: Pictures, people: Sequence[Person], number: int, page: Sheet
) -> list[str]:
    """Return a track's video from the left and sheet of attention, if they exist."""
    person = f"person {person_number(people[0], number)}"
    side = entry.sides[number] if number < len(entry.sides) else None
    sheet = pictures.attention[number] if number < len(pictures.attention) else None
    shown = []
    if side is not None:
        label = f"The body of {person} in {entry.name} from the person's left and from behind"
        shown.append((_SIDES, _player(entry, side, pictures.sides[number], label, page)))
    if sheet is not None:
        label = f"Attention maps of each joint of {person} in {entry.name}"
        shown.append(("Attention", _image(sheet, label, page)))
    return [
        f"<details><summary>{title}, {person}</summary><figure>{content}</figure></details>"
        for title, content in shown
        if content
    ]


def _track(entry: VideoEntry, people: Sequence[Person], number: int, page: Sheet) -> str:
    """Return a track's row: a name, a bar with the frames that show the person, a button."""
    label = f"person {person_number(people[0], number)}"
    frames = sorted(person.frame or 0 for person in people)
    total = max(entry.frame_count, frames[-1] + 1)
    bars = "".join(
        f'<i style="left:{100 * start / total:.2f}%;width:{100 * (stop - start) / total:.2f}%;'
        f'background:{_css(people[0], number)}"></i>'
        for start, stop in _runs(frames)
    )
    extent = html.escape(f"{label}: frames {frames[0]} to {frames[-1]}, seen in {len(frames)}")
    rate = entry.frame_rate if entry.frame_rate > 0 else 25.0
    scene = page.data.track_scene(f"{entry.name}, {label}", people, number, rate)
    button = _button(scene, "3D", label) if page.data.has_bodies(scene) else ""
    return (
        f'<div class="track"><span>{label}</span>'
        f'<span class="bar" role="img" aria-label="{extent}" title="{extent}">'
        f'{bars}</span><span class="frames">{len(frames):,} of {counted(total, "frame")}</span>'
        f"{button}</div>"
    )


def _runs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Return the runs of successive frames as (first, one past the last)."""
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and frame <= runs[-1][1]:
            runs[-1] = (runs[-1][0], frame + 1)
        else:
            runs.append((frame, frame + 1))
    return runs


def _image(picture: _Small, alt: str, page: Sheet) -> str:
    """Return a thumbnail that links to its file; "" if there is none."""
    if not isinstance(picture, Thumbnail):
        return ""
    image = (
        f'<img src="{picture.url}" width="{picture.width}" height="{picture.height}" '
        f'alt="{html.escape(alt)}" loading="lazy" decoding="async">'
    )
    link = _relative(picture.link, page.folder) if picture.link is not None else None
    return f'<a href="{link}" title="Open in full size">{image}</a>' if link else image


def _player(entry: Entry, video: Path, picture: _Small, label: str, page: Sheet) -> str:
    kind = _KINDS.get(video.suffix.lower(), "video/mp4")
    url = _relative(video, page.folder)
    try:
        if video.is_file() and video.stat().st_size <= EMBEDDED_VIDEO_LIMIT:
            url = embedded_file(video, kind)
    except (OSError, UserError) as error:
        page.failures.append(Failure(entry.name, str(error)))
    poster = f'poster="{picture.url}" ' if isinstance(picture, Thumbnail) else ""
    return (
        f'<video controls playsinline preload="none" {poster}src="{url or _quoted(video.name)}" '
        f'aria-label="{html.escape(label)}"></video>'
    )


def _quoted(path: str) -> str:
    return quote(os.fsencode(path))


def _relative(path: Path, folder: Path) -> str | None:
    """Return a link to a file in the page's folder; None for a file outside of it."""
    relative = os.path.relpath(path, folder)
    inside = not relative.startswith("..") and not os.path.isabs(relative)
    # Without "./" the start of a name with a colon would be read as a scheme.
    return "./" + _quoted(relative) if inside else None


def _button(scene: int, text: str, title: str) -> str:
    label = html.escape(f"{text}: {title}")
    return f'<button type="button" data-scene="{scene}" aria-label="{label}">{text}</button>'
