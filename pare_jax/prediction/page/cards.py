"""What a page says about one photograph or clip."""

import dataclasses
import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.prediction.drawing import person_colour, person_number
from pare_jax.prediction.page.entries import Entry, Failure, PhotoEntry, VideoEntry
from pare_jax.prediction.page.packing import Data, embedded_file, first_frame, thumbnail
from pare_jax.prediction.person import Person

# A video of more bytes is linked, not embedded.
EMBEDDED_VIDEO_LIMIT = 1_500_000
_KINDS = {".mp4": "video/mp4", ".webm": "video/webm"}


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A small picture, and what opens when it is clicked; no link where there is no such file."""

    url: str
    width: int
    height: int
    link: Path | None


_Small = Thumbnail | Failure | None


@dataclasses.dataclass(frozen=True)
class Pictures:
    """An entry's pictures, made small; None where there is none.

    Attributes:
        own: with the bodies drawn over it.
        attention: sheets, in the order of the people.
        sides: a photograph's one picture of everybody, or the first frames of tracks' videos.
    """

    own: _Small
    attention: Sequence[_Small]
    sides: Sequence[_Small] = ()

    def failures(self) -> list[Failure]:
        every = [self.own, *self.attention, *self.sides]
        return [picture for picture in every if isinstance(picture, Failure)]


@dataclasses.dataclass
class Sheet:
    """A page that is being built."""

    data: Data
    folder: Path
    failures: list[Failure] = dataclasses.field(default_factory=list)


def with_pictures(entry: Entry) -> tuple[Entry, Pictures]:
    """Make an entry's pictures small."""
    attention = [_small(entry, sheet) for sheet in entry.attention]
    if isinstance(entry, PhotoEntry):
        own, side = (_small(entry, picture) for picture in (entry.picture, entry.side))
        return entry, Pictures(own, attention, [side])
    own = entry.picture
    if own is None and entry.video is not None:
        own = first_frame(entry.video)
    sides = [_small(entry, None if side is None else first_frame(side)) for side in entry.sides]
    return entry, Pictures(_small(entry, own), attention, sides)


def _small(entry: Entry, picture: Picture | Path | None) -> _Small:
    if picture is None:
        return None
    try:
        return Thumbnail(*thumbnail(picture), picture if isinstance(picture, Path) else None)
    except UserError as error:
        return Failure(entry.name, str(error))


def card(entry: Entry, pictures: Pictures, number: int, page: Sheet) -> str:
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
    parts = [_image(pictures.own, f"Bodies drawn over {entry.name}", page)]
    count = len(entry.people)
    facts = "Nobody was found." if not count else "1 person" if count == 1 else f"{count} people"
    if entry.photo_size is not None:
        facts += f" · {entry.photo_size[0]} x {entry.photo_size[1]} px"
    parts.append(f'<p class="facts">{facts}</p>')
    if not count:
        return parts
    scene = page.data.photo_scene(entry.name, entry.people, entry.photo_size)
    if page.data.has_bodies(scene):
        parts.append(_turn(scene, "Turn in 3D", entry.name))
    parts.append(f'<details data-joints="{scene}"><summary>Joints</summary></details>')
    side = _image(pictures.sides[0], f"The bodies of {entry.name} from the side and behind", page)
    if side:
        parts.append(f"<details><summary>From the side</summary><figure>{side}</figure></details>")
    if entry.attention:
        parts.append("<details><summary>Attention</summary>")
        for person, sheet in enumerate(pictures.attention):
            said = f"person {person}" if len(entry.attention) > 1 else "each joint"
            alt = f"Where in {entry.name} the network looked for each joint"
            caption = f"<figcaption>{said}</figcaption>" if len(entry.attention) > 1 else ""
            image = _image(sheet, f"{alt}, {said}", page)
            parts.append(f"<figure>{image}{caption}</figure>" if image else "")
        parts.append("</details>")
    return parts


def _video(entry: VideoEntry, pictures: Pictures, page: Sheet) -> list[str]:
    parts = []
    if entry.video is not None:
        said = f"Bodies drawn over {entry.name}"
        parts.append(_player(entry, entry.video, pictures.own, said, page))
    else:
        parts.append(_image(pictures.own, f"Bodies drawn over {entry.name}", page))
    count = len(entry.tracks)
    facts = "Nobody was found." if not count else "1 person" if count == 1 else f"{count} people"
    if entry.frame_rate > 0:
        facts += f" · {entry.frame_count / entry.frame_rate:.1f} s at {entry.frame_rate:g} frames/s"
    parts.append(f'<p class="facts">{facts}</p>')
    for number, track in enumerate(entry.tracks):
        if track:
            parts.append(_track(entry, track, number, page))
            parts += _views_of_track(entry, pictures, track, number, page)
    return parts


def _views_of_track(
    entry: VideoEntry, pictures: Pictures, people: Sequence[Person], number: int, page: Sheet
) -> list[str]:
    """One person's video from the side and sheet of attention, where they exist."""
    label = f"person {person_number(people[0], number)}"
    side = entry.sides[number] if number < len(entry.sides) else None
    sheet = pictures.attention[number] if number < len(pictures.attention) else None
    shown = []
    if side is not None:
        said = f"The body of {label} in {entry.name} from the side and from behind"
        shown.append(("From the side", _player(entry, side, pictures.sides[number], said, page)))
    if sheet is not None:
        said = f"Where in {entry.name} the network looked for each joint of {label}"
        shown.append(("Attention", _image(sheet, said, page)))
    return [
        f"<details><summary>{title}, {label}</summary><figure>{content}</figure></details>"
        for title, content in shown
        if content
    ]


def _track(entry: VideoEntry, people: Sequence[Person], number: int, page: Sheet) -> str:
    """One person's row: a name, a bar of when the person was seen, a button."""
    label = f"person {person_number(people[0], number)}"
    red, green, blue = person_colour(people[0], number)
    frames = sorted(person.frame or 0 for person in people)
    total = max(entry.frame_count, frames[-1] + 1)
    bars = "".join(
        f'<i style="left:{100 * start / total:.2f}%;width:{100 * (stop - start) / total:.2f}%;'
        f'background:rgb({red},{green},{blue})"></i>'
        for start, stop in _runs(frames)
    )
    said = html.escape(f"{label}: frames {frames[0]} to {frames[-1]}, seen in {len(frames)}")
    rate = entry.frame_rate if entry.frame_rate > 0 else 25.0
    scene = page.data.track_scene(f"{entry.name}, {label}", people, number, rate)
    button = _turn(scene, "3D", label) if page.data.has_bodies(scene) else ""
    return (
        f'<div class="track"><span>{label}</span>'
        f'<span class="bar" role="img" aria-label="{said}" title="{said}">'
        f"{bars}</span>{button}</div>"
    )


def _runs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of successive frames as (first, one past the last)."""
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and frame <= runs[-1][1]:
            runs[-1] = (runs[-1][0], frame + 1)
        else:
            runs.append((frame, frame + 1))
    return runs


def _image(picture: _Small, alt: str, page: Sheet) -> str:
    """A picture that opens in full size; nothing where there is none that can be read."""
    if not isinstance(picture, Thumbnail):
        return ""
    image = (
        f'<img src="{picture.url}" width="{picture.width}" height="{picture.height}" '
        f'alt="{html.escape(alt)}" loading="lazy" decoding="async">'
    )
    link = _relative(picture.link, page.folder) if picture.link is not None else None
    return f'<a href="{link}" title="Open in full size">{image}</a>' if link else image


def _player(entry: Entry, video: Path, picture: _Small, said: str, page: Sheet) -> str:
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
        f'aria-label="{html.escape(said)}"></video>'
    )


def _quoted(path: str) -> str:
    return quote(os.fsencode(path))


def _relative(path: Path, folder: Path) -> str | None:
    """A link to a file in the page's folder; None for one elsewhere, which stays where it is."""
    relative = os.path.relpath(path, folder)
    inside = not relative.startswith("..") and not os.path.isabs(relative)
    # "./" keeps a name with a colon from being read as a scheme.
    return "./" + _quoted(relative) if inside else None


def _turn(scene: int, text: str, said: str) -> str:
    label = html.escape(f"{text}: {said}")
    return f'<button type="button" data-scene="{scene}" aria-label="{label}">{text}</button>'
