"""One self-contained index.html for a run: pictures, numbers, and bodies to turn.

The page opens from disk, fetches nothing and holds no one else's code. Its size is about 100 kB a
person (the mesh), 50 kB a picture and as much a sheet of attention, and for tracks 1.5 kB a frame
besides 100 kB a person: some 40 MB for 200 photographs of one person each with their sheets.
"""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from pare_jax.files import write_together
from pare_jax.images import Picture
from pare_jax.page.entries import Entry, PhotoEntry, RunPage, VideoEntry
from pare_jax.page.packing import Data, embedded_file, first_frame, thumbnail
from pare_jax.people import Person
from pare_jax.rendering.people import person_colour, person_number

# A video of more bytes is linked, not embedded.
EMBEDDED_VIDEO_LIMIT = 1_500_000
_KINDS = {".mp4": "video/mp4", ".webm": "video/webm"}
_HERE = Path(__file__).parent
# Nothing may be fetched, whatever a name in the page says; a video may lie beside the page.
_POLICY = (
    "default-src 'none'; img-src data:; media-src data: file: 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)


def write_page(run: RunPage, folder: str | Path) -> Path:
    """Write a run's page, whole or not at all.

    Args:
        run: what it shows.
        folder: the run's, where index.html is put; files are linked relative to it.

    Returns:
        The page's path.

    Raises:
        UserError: a picture cannot be read, or the page cannot be written.
    """
    folder = Path(folder)
    write_together(folder, {"index.html": page_html(run, folder).encode()})
    return folder / "index.html"


def page_html(run: RunPage, folder: str | Path) -> str:
    """Return a run's page.

    Args:
        run: what it shows.
        folder: where the page will lie.

    Raises:
        UserError: a picture cannot be read.
    """
    folder, data = Path(folder), Data(run.body)
    cards, photos, videos, found = [], 0, 0, 0
    for number, entry in enumerate(run.entries):
        if isinstance(entry, PhotoEntry):
            photos, found = photos + 1, found + len(entry.people)
        else:
            videos, found = videos + 1, found + len(entry.tracks)
        cards.append(_card(entry, number, data, folder))
    style, viewer, script = (
        (_HERE / name).read_text() for name in ("page.css", "viewer.js", "page.js")
    )
    body = "\n".join(
        [
            _summary(run, photos, videos, found),
            '<main id="cards">',
            *cards,
            "</main>",
            (_HERE / "dialog.html").read_text(),
            data.html(),
            f"<script>\n{viewer}\n{script}</script>",
        ]
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(run.title)}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _summary(run: RunPage, photos: int, videos: int, found: int) -> str:
    done = [_counted(photos, "photograph")] if photos or not videos else []
    done += [_counted(videos, "video")] if videos else []
    people = "1 person" if found == 1 else f"{found} people"
    lines = ["<header>", f"<h1>{html.escape(run.title)}</h1>"]
    lines.append(f"<p>{' and '.join(done)}, {people}.</p>")
    if run.facts:
        rows = (
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
            for name, value in run.facts.items()
        )
        lines.append(f"<dl>{''.join(rows)}</dl>")
    if run.failures:
        rows = (
            f"<li><b>{html.escape(failure.name)}</b>: {html.escape(failure.reason)}</li>"
            for failure in run.failures
        )
        lines.append(
            f'<section class="failed"><h2>{len(run.failures)} could not be done</h2>'
            f"<ul>{''.join(rows)}</ul></section>"
        )
    if photos + videos > 1:
        lines.append(
            '<p><label for="filter">Show names with </label>'
            '<input id="filter" type="search" autocomplete="off"> '
            '<span id="shown" role="status"></span></p>'
        )
    return "\n".join([*lines, "</header>"])


def _card(entry: Entry, number: int, data: Data, folder: Path) -> str:
    parts = [f'<article class="card" aria-labelledby="e{number}">']
    parts.append(f'<h2 id="e{number}">{html.escape(entry.name)}</h2>')
    if isinstance(entry, PhotoEntry):
        parts += _photo(entry, data, folder)
    else:
        parts += _video(entry, data, folder)
    return "\n".join([*parts, "</article>"])


def _photo(entry: PhotoEntry, data: Data, folder: Path) -> list[str]:
    parts = []
    if entry.picture is not None:
        parts.append(_image(entry.picture, f"Bodies drawn over {entry.name}", folder))
    count = len(entry.people)
    facts = "Nobody was found." if not count else "1 person" if count == 1 else f"{count} people"
    if entry.photo_size is not None:
        facts += f" · {entry.photo_size[0]} x {entry.photo_size[1]} px"
    parts.append(f'<p class="facts">{facts}</p>')
    if not count:
        return parts
    scene = data.photo_scene(entry.name, entry.people, entry.photo_size)
    if data.has_bodies(scene):
        parts.append(_turn(scene, "Turn in 3D", entry.name))
    parts.append(f'<details data-joints="{scene}"><summary>Joints</summary></details>')
    if entry.attention:
        parts.append("<details><summary>Attention</summary>")
        for person, sheet in enumerate(entry.attention):
            said = f"person {person}" if len(entry.attention) > 1 else "each joint"
            alt = f"Where in {entry.name} the network looked for each joint"
            caption = f"<figcaption>{said}</figcaption>" if len(entry.attention) > 1 else ""
            parts.append(f"<figure>{_image(sheet, f'{alt}, {said}', folder)}{caption}</figure>")
        parts.append("</details>")
    return parts


def _video(entry: VideoEntry, data: Data, folder: Path) -> list[str]:
    parts = []
    picture = entry.picture
    if entry.video is not None:
        picture = first_frame(entry.video) if picture is None else picture
        parts.append(_player(entry.video, picture, f"Bodies drawn over {entry.name}", folder))
    elif picture is not None:
        parts.append(_image(picture, f"Bodies drawn over {entry.name}", folder))
    count = len(entry.tracks)
    facts = "Nobody was found." if not count else "1 person" if count == 1 else f"{count} people"
    if entry.frame_rate > 0:
        facts += f" · {entry.frame_count / entry.frame_rate:.1f} s at {entry.frame_rate:g} frames/s"
    parts.append(f'<p class="facts">{facts}</p>')
    for number, track in enumerate(entry.tracks):
        if track:
            parts.append(_track(entry, track, number, data))
    return parts


def _track(entry: VideoEntry, people: Sequence[Person], number: int, data: Data) -> str:
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
    scene = data.track_scene(f"{entry.name}, {label}", people, number, rate)
    button = _turn(scene, "3D", label) if data.has_bodies(scene) else ""
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


def _image(picture: Picture | Path, alt: str, folder: Path) -> str:
    url, width, height = thumbnail(picture)
    image = (
        f'<img src="{url}" width="{width}" height="{height}" alt="{html.escape(alt)}" '
        'loading="lazy" decoding="async">'
    )
    link = _relative(picture, folder) if isinstance(picture, Path) else None
    return f'<a href="{link}" title="Open in full size">{image}</a>' if link else image


def _player(video: Path, picture: Picture | Path | None, said: str, folder: Path) -> str:
    kind = _KINDS.get(video.suffix.lower(), "video/mp4")
    small = video.is_file() and video.stat().st_size <= EMBEDDED_VIDEO_LIMIT
    url = embedded_file(video, kind) if small else _relative(video, folder)
    poster = f'poster="{thumbnail(picture)[0]}" ' if picture is not None else ""
    return (
        f'<video controls playsinline preload="none" {poster}src="{url or quote(video.name)}" '
        f'aria-label="{html.escape(said)}"></video>'
    )


def _relative(path: Path, folder: Path) -> str | None:
    """A link to a file in the page's folder; None for one elsewhere, which stays where it is."""
    relative = os.path.relpath(path, folder)
    inside = not relative.startswith("..") and not os.path.isabs(relative)
    # "./" keeps a name with a colon from being read as a scheme.
    return "./" + quote(relative) if inside else None


def _turn(scene: int, text: str, said: str) -> str:
    label = html.escape(f"{text}: {said}")
    return f'<button type="button" data-scene="{scene}" aria-label="{label}">{text}</button>'


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
