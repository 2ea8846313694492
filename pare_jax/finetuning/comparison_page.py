"""Writes the page of a fine-tuning: the table, and the worst held-out people before and after."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.finetuning.comparison import WeightComparison
from pare_jax.io.files import printable, write_atomically
from pare_jax.io.images import Picture, encode_jpeg
from pare_jax.rendering.camera import crop_camera
from pare_jax.rendering.overlay import draw_mesh, side_view

SIDE = 256
_STYLE = """
:root { color-scheme: light dark; --ground: #f4f4f1; --card: #fff; --ink: #1d1e21;
  --soft: #5b5e66; --line: #d6d7d3; --good: #1d6b3a; --bad: #9c2f12; }
@media (prefers-color-scheme: dark) { :root { --ground: #17181b; --card: #212327; --ink: #eceded;
  --soft: #a6aab3; --line: #3a3d44; --good: #7fd39b; --bad: #f0a283; } }
body { margin: 0 auto; padding: 1rem; max-width: 88rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.verdict { font-weight: 600; border-left: .3rem solid var(--bad); padding: .3rem .75rem; }
.verdict.better { border-color: var(--good); }
table { border-collapse: collapse; background: var(--card); }
th, td { border: 1px solid var(--line); padding: .3rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .75rem; margin: 1rem 0; }
.row { display: flex; flex-wrap: wrap; gap: .5rem; }
figure { margin: 0; flex: 1 1 9rem; max-width: 16rem; } img { width: 100%; display: block; }
figcaption, .soft { color: var(--soft); font-size: .875rem; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_DOT = (255, 225, 60)


class Body(NamedTuple):
    """One network's body of a person, and its errors in words."""

    vertices: Float[np.ndarray, "V 3"]
    root: Float[np.ndarray, "3 3"]
    errors: str


class WorstPerson(NamedTuple):
    """A held-out person to show.

    Attributes:
        name: of the photograph or clip, and the person.
        crop: the square, `SIDE` pixels a side.
        keypoints: pixels of the crop and confidence.
        before, after: the two bodies.
    """

    name: str
    crop: Picture
    keypoints: Float[np.ndarray, "points 3"]
    before: Body
    after: Body


def table_rows(comparison: WeightComparison) -> list[tuple[str, ...]]:
    """Return the table's headings and rows."""
    rows = [("held-out people", "people", "before", "after", "change", "by chance")]
    for one in comparison.changes:
        # PCK is the share that is not missed.
        is_share = one.measure == "missed"
        before, after = (
            (100.0 - value if is_share else value) for value in (one.before, one.after)
        )
        name = {"missed": "PCK@0.1 2D, %", "mpjpe": "MPJPE, mm", "pa_mpjpe": "PA-MPJPE, mm"}
        chance = f"{100 * one.chance:.1f} %" if one.chance < 1 else "-"
        rows.append(
            (
                name[one.measure],
                f"{one.people:,}",
                f"{before:.1f}",
                f"{after:.1f}",
                f"{after - before:+.1f}",
                chance,
            )
        )
    return rows


def write_page(
    path: Path,
    title: str,
    verdict: str,
    comparison: WeightComparison,
    notes: Sequence[str],
    people: Sequence[WorstPerson],
    faces: np.ndarray,
) -> None:
    """Write the page: one file with all pictures, which fetches nothing.

    Args:
        path: the HTML file.
        title: its title.
        verdict: the decision in one line.
        comparison: the numbers.
        notes: further lines.
        people: the worst first.
        faces: of both bodies.

    Raises:
        UserError: the file cannot be written.
    """
    kind = "verdict better" if comparison.is_better else "verdict"
    head, *rows = (
        "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in row)
        for tag, row in zip(
            ["th"] + ["td"] * len(comparison.changes), table_rows(comparison), strict=True
        )
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        f'<p class="{kind}">{_text(verdict)}</p>',
        f'<div class="wide"><table><tr>{head}</tr>',
        *(f"<tr>{row}</tr>" for row in rows),
        "</table></div>",
        *(f'<p class="soft">{_text(note)}</p>' for note in notes),
        f"<h2>The worst {len(people)} of the held-out people</h2>",
        *(_card(person, faces) for person in people),
        "</body></html>",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "\n".join(parts).encode())


def _card(person: WorstPerson, faces: np.ndarray) -> str:
    camera = crop_camera(SIDE)
    pictures = [(_with_keypoints(person.crop, person.keypoints), "keypoints")]
    for body, name in ((person.before, "before"), (person.after, "after")):
        over = draw_mesh(person.crop, body.vertices, faces, camera)
        pictures.append((over, f"{name}: {body.errors}"))
    for body, name in ((person.before, "before"), (person.after, "after")):
        side = side_view(body.vertices, faces, body.root, SIDE, SIDE)
        pictures.append((side, f"{name}, from the person's left"))
    figures = "".join(_figure(picture, caption) for picture, caption in pictures)
    title = f"<h3>{_text(person.name)}</h3>"
    return f'<article class="card">{title}<div class="row">{figures}</div></article>'


def _figure(picture: Picture, caption: str) -> str:
    data = base64.b64encode(encode_jpeg(picture)).decode()
    text = _text(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _with_keypoints(crop: Picture, points: Float[np.ndarray, "points 3"]) -> Picture:
    picture = crop.copy()
    for x, y, confidence in points:
        if confidence > 0 and max(abs(x), abs(y)) < 1e5:
            # OpenCV's integers are pixel centres.
            place = (round(x - 0.5), round(y - 0.5))
            cv2.circle(picture, place, 4, (20, 20, 20), -1, cv2.LINE_AA)
            cv2.circle(picture, place, 3, _DOT, -1, cv2.LINE_AA)
    return picture


def _text(value: str) -> str:
    return html.escape(printable(value))
