"""What an evaluation found, for people and programs: table, metrics.json, figures, pictures."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.errors import UserError
from pare_jax.evaluate import Drawn, SampleErrors
from pare_jax.files import write_atomically
from pare_jax.images import encode_png
from pare_jax.rendering import overlay, text
from pare_jax.skeleton import JOINT_NAMES

# The columns of the table: key in metrics.json, heading, and what to make of the unit.
_COLUMNS = (
    ("mpjpe", "MPJPE mm"),
    ("pa_mpjpe", "PA-MPJPE mm"),
    ("pve", "PVE mm"),
    ("pck", "PCK@50"),
    ("auc", "AUC"),
    ("mpjae", "MPJAE deg"),
    ("pa_mpjae", "PA-MPJAE deg"),
    ("pckh", "PCKh@0.5"),
)
# Samples on the sheets of median and worst ones.
_SHEET_ROWS = 8


def summarise(errors: SampleErrors) -> dict[str, Any]:
    """Average the samples of a split into the entry that metrics.json holds for it."""
    finite = np.isfinite(errors.values["mpjpe"]) | np.isfinite(errors.values["pckh"])
    summary: dict[str, Any] = {
        "count": int(finite.sum()),
        # People who have labels, but got no answer that could be compared with them.
        "non_finite": int((errors.labelled & ~finite).sum()),
    }
    for name in (*(key for key, _ in _COLUMNS), "mean_pose_mpjpe"):
        summary[name] = _mean(errors.values[name])
    summary["pckh"] = _pooled_pckh(errors)
    for name, table in (
        ("per_joint_mpjpe", errors.per_joint),
        ("mean_pose_per_joint_mpjpe", errors.constant_per_joint),
    ):
        summary[name] = {joint: _mean(table[:, column]) for column, joint in enumerate(JOINT_NAMES)}
    for name, kept in (("visible", errors.visible == 1), ("occluded", errors.visible == 0)):
        kept &= np.isfinite(errors.per_joint)
        summary[name] = {
            "joints": int(kept.sum()),
            "mpjpe": _mean(errors.per_joint[kept]),
            "mean_pose_mpjpe": _mean(errors.constant_per_joint[kept]),
        }
    return summary


def _pooled_pckh(errors: SampleErrors) -> float | None:
    """Average over all people's joints together, as MPII does."""
    pckh = errors.values["pckh"]
    known = np.isfinite(pckh)
    return (
        float(np.average(pckh[known], weights=errors.pckh_joints[known])) if known.any() else None
    )


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay the summaries out as text: a row a split, then visible and hidden joints apart."""
    known = {key for key, _ in _COLUMNS for summary in splits.values() if summary[key] is not None}
    columns = [(key, heading) for key, heading in _COLUMNS if key in known]
    rows = [["split", "people", *(heading for _, heading in columns), "constant", "ratio"]]
    for name, summary in splits.items():
        values = [_number(summary[key]) for key, _ in columns]
        constant, ratio = _against_constant(summary)
        rows.append([name, str(summary["count"]), *values, constant, ratio])
        for kind in ("visible", "occluded"):
            part = summary[kind]
            if not part["joints"]:
                continue
            constant, ratio = _against_constant(part)
            blanks = [""] * (len(columns) - 1)
            label = f"  {kind} joints"
            rows.append(
                [label, str(part["joints"]), _number(part["mpjpe"]), *blanks, constant, ratio]
            )
    lost = [f"{s['non_finite']} of {name}" for name, s in splits.items() if s["non_finite"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))]).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    lines.append("constant: MPJPE of always answering with the training set's mean joints")
    if lost:
        lines.append(f"left out, for the network's answer is not finite: {', '.join(lost)}")
    return "\n".join(lines)


def _against_constant(summary: Mapping[str, Any]) -> tuple[str, str]:
    ours, constant = summary["mpjpe"], summary["mean_pose_mpjpe"]
    if ours is None or not constant:
        return "-", "-"
    return _number(constant), f"{ours / constant:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def write_report(
    folder: Path,
    step: int,
    weights: str,
    errors: Mapping[str, SampleErrors],
    draw: Callable[[str, Sequence[int]], list[Drawn]],
    faces: np.ndarray,
) -> dict[str, Any]:
    """Write metrics.json and the figures of every split.

    Args:
        folder: the workdir's `eval`.
        step: of the weights.
        weights: "swa" or "last".
        errors: by split.
        draw: predicts the given rows of a split, for the sheet of worst and median samples.
        faces: the body's.

    Returns:
        What metrics.json holds.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    report = {
        "step": step,
        "weights": weights,
        "splits": {name: summarise(split) for name, split in errors.items()},
    }
    for name, split in errors.items():
        prefix = name.replace("/", "_")
        for kind, picture in _figures(name, split, draw, faces):
            _write_png(folder / f"{prefix}_{kind}.png", picture)
    write_atomically(folder / "metrics.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def _figures(
    name: str,
    errors: SampleErrors,
    draw: Callable[[str, Sequence[int]], list[Drawn]],
    faces: np.ndarray,
) -> Iterator[tuple[str, np.ndarray]]:
    if np.isfinite(errors.values["mpjpe"]).any():
        yield from _error_figures(name, errors)
    badness, captions = _ranking(errors)
    order = [int(row) for row in np.argsort(badness, kind="stable") if np.isfinite(badness[row])]
    first = max(0, len(order) // 2 - _SHEET_ROWS // 2)
    chosen = {"median": order[first : first + _SHEET_ROWS], "worst": order[-_SHEET_ROWS:]}
    for kind, rows in chosen.items():
        yield kind, _sheet(draw(name, rows), captions, faces)


def _error_figures(name: str, errors: SampleErrors) -> Iterator[tuple[str, np.ndarray]]:
    # Loads matplotlib, which nothing but a report needs.
    from pare_jax.rendering import figures

    mpjpe, constant = errors.values["mpjpe"], errors.values["mean_pose_mpjpe"]
    yield (
        "per_joint",
        figures.joint_error_figure(
            np.nanmean(errors.per_joint, 0),
            np.nanmean(errors.constant_per_joint, 0),
            f"{name}: error per joint",
        ),
    )
    known = np.isfinite(errors.visible).all(1) & np.isfinite(mpjpe)
    if known.any():
        hidden = 1.0 - errors.visible[known].mean(1)
        yield (
            "occlusion",
            figures.occlusion_figure(
                mpjpe[known], constant[known], hidden, f"{name}: error against occlusion"
            ),
        )


def _ranking(errors: SampleErrors) -> tuple[np.ndarray, list[str]]:
    """Return a number that is larger for worse samples, and what their captions say."""
    mpjpe, pckh = errors.values["mpjpe"], errors.values["pckh"]
    if np.isfinite(mpjpe).any():
        return mpjpe, [f"{value:.0f} mm" for value in mpjpe]
    return -pckh, [f"PCKh {value:.0f} %" for value in pckh]


def _sheet(drawn: Sequence[Drawn], captions: Sequence[str], faces: np.ndarray) -> np.ndarray:
    panels = [
        text.caption(
            overlay.sample_panel(sample.image, sample.vertices, faces, sample.attention),
            f"sample {sample.index}: {captions[sample.index]}",
        )
        for sample in drawn
    ]
    return np.concatenate(panels)


def _write_png(path: Path, picture: np.ndarray) -> None:
    write_atomically(path, encode_png(picture))
