"""Writes a run's index.html: pictures, numbers, and 3D views of the bodies, in one file.

The page opens from disk, fetches nothing and has no third-party code. It takes about 100 kB for a
person's mesh, 50 kB for a picture or a sheet of attention, and 1.5 kB for a frame of a track: some
40 MB for 200 photographs of one person each. More than 400 entries are split over several pages.
"""

import dataclasses
import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pare_jax.errors import counted
from pare_jax.io.files import write_together
from pare_jax.io.threads import ordered_map
from pare_jax.prediction.page.cards import Sheet, card, with_pictures
from pare_jax.prediction.page.entries import Entry, Failure, PhotoEntry, RunPage
from pare_jax.prediction.page.packing import Data
from pare_jax.rendering.overlay import BODY_COLOURS

# Photographs and clips on one page; more of them are on index_2.html and so on.
ENTRIES_A_PAGE = 400
_HERE = Path(__file__).parent
_SCRIPTS = ("shaders.js", "viewer.js", "page.js")
# Forbids to fetch anything but a video beside the page, even if a name contains markup.
_POLICY = (
    "default-src 'none'; img-src data:; media-src data: file: 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
# Marks our pages, so that no other file named index_2.html is removed.
_MARK = '<meta name="generator" content="pare-jax">'


def write_page(
    run: RunPage, folder: str | Path, report_failure: Callable[[Failure], None] | None = None
) -> Path:
    """Write a run's page, and further pages for more than `ENTRIES_A_PAGE` photographs and clips.

    Each page is written completely or not at all, the first one last; at most two are in memory.

    Args:
        run: the page's content. A picture that cannot be read is listed as a failure.
        folder: for index.html, usually the run's output folder; links are relative to it.
        report_failure: called with each such failure.

    Returns:
        The first page's path.

    Raises:
        UserError: a page cannot be written, or the entries cannot be read.
    """
    folder = Path(folder)
    total = _Count()
    failures: list[Failure] = []
    first: _Part | None = None
    number = 0
    for number, part in enumerate(_parts(run, folder), 1):
        total += part.count
        failures += part.sheet.failures
        if first is None:
            first = part
            continue
        header = [*_title(run), _neighbours(number, part), *_filter(part)]
        _write(folder, number, run.title, header, part)
    assert first is not None
    header = _summary(run, [*run.failures, *failures], total)
    if number > 1:
        header.append(_contents(number))
    _write(folder, 1, run.title, [*header, *_filter(first)], first)
    _remove_after(folder, number)
    if report_failure is not None:
        for failure in failures:
            report_failure(failure)
    return folder / _name(1)


@dataclasses.dataclass(frozen=True)
class _Count:
    photos: int = 0
    videos: int = 0
    people: int = 0
    empty: int = 0  # photographs and videos without people
    tracks: int = 0  # the people of videos

    def __add__(self, other: "_Count") -> "_Count":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return _Count(*(mine + theirs for mine, theirs in pairs))


def _count_of(entry: Entry) -> _Count:
    if isinstance(entry, PhotoEntry):
        people = len(entry.people)
        return _Count(photos=1, people=people, empty=not people)
    people = len(entry.tracks)
    return _Count(videos=1, people=people, empty=not people, tracks=people)


@dataclasses.dataclass
class _Part:
    """The entries of one page."""

    sheet: Sheet
    start: int  # index of the first entry in the run
    cards: list[str] = dataclasses.field(default_factory=list)
    count: _Count = dataclasses.field(default_factory=_Count)
    is_last: bool = True


def _parts(run: RunPage, folder: Path) -> Iterator[_Part]:
    """Yield the content of each page; at least one, which may be empty."""
    part = _Part(Sheet(Data(run.body), folder), 0)
    # Threads make thumbnails a few entries ahead.
    for number, (entry, pictures) in enumerate(ordered_map(with_pictures, run.entries)):
        if len(part.cards) == ENTRIES_A_PAGE:
            part.is_last = False
            yield part
            part = _Part(Sheet(Data(run.body), folder), number)
        part.count += _count_of(entry)
        part.sheet.failures += pictures.failures()
        part.cards.append(card(entry, pictures, number, part.sheet))
    yield part


def _write(folder: Path, number: int, title: str, header: Sequence[str], part: _Part) -> None:
    style, dialog = ((_HERE / name).read_text() for name in ("page.css", "dialog.html"))
    scripts = "\n".join((_HERE / name).read_text() for name in _SCRIPTS)
    lines = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="color-scheme" content="light dark">\n{_MARK}',
        f"<title>{html.escape(title)}</title>",
        f"<style>\n{style}</style>\n</head>\n<body>\n<header>",
        *header,
        '</header>\n<main id="cards">',
        *part.cards,
        f"</main>\n{dialog}",
        part.sheet.data.html(),
        f"<script>\n{scripts}</script>\n</body>\n</html>\n",
    ]
    # File names may have bytes that are not UTF-8.
    write_together(folder, {_name(number): "\n".join(lines).encode(errors="replace")})


def _name(number: int) -> str:
    return "index.html" if number == 1 else f"index_{number}.html"


def _remove_after(folder: Path, number: int) -> None:
    """Remove further pages of an earlier, longer run."""
    while (path := folder / _name(number := number + 1)).is_file():
        with path.open("rb") as file:
            if _MARK.encode() not in file.read(2048):
                return
        path.unlink()


def _contents(pages: int) -> str:
    links = "".join(f' <a href="{_name(number)}">{number}</a>' for number in range(2, pages + 1))
    return f'<nav aria-label="Pages"><p>Page 1 of {pages}; more:{links}</p></nav>'


def _neighbours(number: int, part: _Part) -> str:
    before = f'<a href="{_name(number - 1)}" rel="prev">page {number - 1}</a>'
    after = f', <a href="{_name(number + 1)}" rel="next">page {number + 1}</a>'
    end = part.start + len(part.cards)
    links = f'<a href="{_name(1)}">summary</a>, {before}{"" if part.is_last else after}'
    return (
        f'<nav aria-label="Pages"><p>Page {number}, entries {part.start + 1} to {end}; '
        f"{links}</p></nav>"
    )


def _filter(part: _Part) -> list[str]:
    if len(part.cards) < 2:
        return []
    return [
        '<p><label for="filter">Filter by name </label>'
        '<input id="filter" type="search" autocomplete="off"> '
        '<span id="shown" role="status"></span></p>'
    ]


def _title(run: RunPage) -> list[str]:
    """Return the heading, and the warning if there is one."""
    lines = [f"<h1>{html.escape(run.title)}</h1>"]
    if run.warning:
        lines.append(f'<p class="warning" role="note">Warning: {html.escape(run.warning)}.</p>')
    return lines


def _explained(count: _Count) -> list[str]:
    """Return sentences that say what the summary's numbers and the cards' colours mean."""
    lines = [f"Without people: {count.empty:,}."] if count.empty else []
    if count.tracks:
        lines.append(
            "A person of a video counts once; the bar is coloured in the frames with the person."
        )
    if count.people > count.tracks:
        lines.append(
            f"Numbers start at 0 in each photograph; colours repeat after {len(BODY_COLOURS)} "
            "people."
        )
    return lines


def _summary(run: RunPage, failures: Sequence[Failure], count: _Count) -> list[str]:
    photos, videos = count.photos, count.videos
    done = [counted(photos, "photograph")] if photos or not videos else []
    done += [counted(videos, "video")] if videos else []
    lines = _title(run)
    lines.append(f"<p>{' and '.join(done)}, {counted(count.people, 'person')}.</p>")
    if explained := _explained(count):
        lines.append(f'<p class="hint">{" ".join(explained)}</p>')
    if run.facts:
        rows = (
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
            for name, value in run.facts.items()
        )
        lines.append(f"<dl>{''.join(rows)}</dl>")
    if failures:
        rows = (
            f"<li><b>{html.escape(failure.name)}</b>: {html.escape(failure.reason)}</li>"
            for failure in failures
        )
        lines.append(
            f'<section class="failed"><h2>{len(failures)} failed</h2>'
            f"<ul>{''.join(rows)}</ul></section>"
        )
    return lines
