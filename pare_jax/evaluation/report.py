"""Writes the results of an evaluation: table, metrics.json, figures and sheets of samples."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pare_jax.errors import UserError
from pare_jax.evaluation import pckh
from pare_jax.evaluation.evaluate import (
    EvalStep,
    EvaluationSetup,
    PredictedSample,
    Weights,
    draw,
)
from pare_jax.evaluation.hidden_joints import by_hidden_share, hidden_share
from pare_jax.evaluation.sample_errors import HostBatch, SampleErrors
from pare_jax.evaluation.sequences import SplitNames, by_sequence, mean
from pare_jax.io.files import remove_files, write_atomically
from pare_jax.io.images import encode_png
from pare_jax.rendering import overlay, text

# The columns of the table: key in metrics.json and heading.
_COLUMNS = (
    ("mpjpe", "MPJPE mm"),
    ("pa_mpjpe", "PA-MPJPE mm"),
    ("pve", "PVE mm"),
    ("v2v", "V2V mm"),
    ("pck", "PCK@50"),
    ("auc", "AUC"),
    ("mpjae", "MPJAE deg"),
    ("pa_mpjae", "PA-MPJAE deg"),
    ("pckh", "PCKh@0.5"),
    ("pck_2d", "PCK@0.1 2D"),
)
# The figures of a split, by the ends of their file names.
_FIGURES = ("per_joint", "occlusion", "median", "worst")
# Samples on the sheets of median and worst ones.
_SHEET_ROWS = 8


def summarise(errors: SampleErrors, names: SplitNames | None = None) -> dict[str, Any]:
    """Average the samples of a split into its entry in metrics.json.

    Args:
        errors: of the samples.
        names: of the same samples, for the means of each sequence; None leaves these out.
    """
    measured, non_finite = _measured(errors)
    summary: dict[str, Any] = {
        "protocol": errors.protocol.name,
        "truth_body": errors.truth_body,
        "gendered_truth": errors.gendered_truth,
        "count": int(measured.sum()),
        "non_finite": int(non_finite.sum()),
    }
    for name, _ in _COLUMNS:
        summary[name] = mean(errors.values[name])
    # The baseline over the same people and joints, so that the two compare.
    summary["mean_pose_mpjpe"] = mean(errors.values["mean_pose_mpjpe"][measured])
    mean_pose = np.where(np.isfinite(errors.per_joint), errors.mean_pose_per_joint, np.nan)
    summary |= _pckh_entries(errors)
    for name, table in (
        ("per_joint_mpjpe", errors.per_joint),
        ("mean_pose_per_joint_mpjpe", mean_pose),
    ):
        joints = errors.protocol.joint_names
        summary[name] = {joint: mean(table[:, column]) for column, joint in enumerate(joints)}
    for name, kept in (("visible", errors.visible == 1), ("occluded", errors.visible == 0)):
        kept &= np.isfinite(errors.per_joint)
        summary[name] = {
            "joints": int(kept.sum()),
            "mpjpe": mean(errors.per_joint[kept]),
            "mean_pose_mpjpe": mean(errors.mean_pose_per_joint[kept]),
        }
    summary["by_hidden_share"] = by_hidden_share(
        errors.values["mpjpe"], errors.values["mean_pose_mpjpe"], hidden_share(errors.visible)
    )
    sequences = {}
    if names is not None:
        # A split's PCKh is the share of all points, which is not the mean over people.
        kept = [name for name, _ in _COLUMNS if name not in ("pckh", "pck_2d")]
        sequences = by_sequence({name: errors.values[name] for name in kept}, names)
    if sequences:
        summary["sequences"] = sequences
    return summary


def _measured(errors: SampleErrors) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of the people measured, in 3D or else in 2D, and of non-finite predictions.

    In 3D a non-finite prediction has no distance and is skipped; in 2D it counts as missed.
    """
    if errors.labelled.any():
        finite = np.isfinite(errors.values["mpjpe"])
        return errors.labelled & finite, errors.labelled & ~finite
    judged = (errors.pckh_points > 0) | np.isfinite(errors.values["pck_2d"])
    return judged, judged & ~errors.finite_2d


def _pckh_entries(errors: SampleErrors) -> dict[str, Any]:
    """Return the total, MPII's table and each point's share; None without 2D labels."""
    judged = errors.pckh_points > 0
    if not judged.any():
        return {"pckh": None, "pckh_groups": None, "per_joint_pckh": None}
    by_point, groups = pckh.table(errors.pckh_hits[judged])
    return {"pckh": groups[pckh.TOTAL], "pckh_groups": groups, "per_joint_pckh": by_point}


def table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Format summaries as a text table: a row a split, and rows for visible and hidden joints."""
    known = {key for key, _ in _COLUMNS for summary in splits.values() if summary[key] is not None}
    columns = [(key, heading) for key, heading in _COLUMNS if key in known]
    rows = [["split", "people", *(heading for _, heading in columns), "mean pose", "ratio"]]
    for name, summary in splits.items():
        values = [_number(summary[key]) for key, _ in columns]
        rows.append([name, str(summary["count"]), *values, *_against_mean_pose(summary)])
        for kind in ("visible", "occluded"):
            part = summary[kind]
            if not part["joints"]:
                continue
            values = [_number(part["mpjpe"]), *[""] * (len(columns) - 1)]
            label = f"  {kind} joints"
            rows.append([label, str(part["joints"]), *values, *_against_mean_pose(part)])
    lines = aligned(rows)
    if "pckh" in known:
        lines += _pckh_lines(splits)
    if any(summary["mean_pose_mpjpe"] for summary in splits.values()):
        lines.append(
            "mean pose: MPJPE of the mean-pose baseline, which always predicts the training set's "
            "mean joints; ratio: MPJPE divided by it"
        )
    lines.extend(_protocol_lines(splits))
    for action, in_3d in (("skipped", True), ("counted as missed", False)):
        affected_splits = [
            f"{summary['non_finite']} of {name}"
            for name, summary in splits.items()
            if summary["non_finite"] and (summary["mpjpe"] is not None) == in_3d
        ]
        if affected_splits:
            lines.append(
                f"{action} because the prediction is not finite: {', '.join(affected_splits)}"
            )
    return "\n".join(lines)


def _pckh_lines(splits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Format MPII's table."""
    rows = [["PCKh@0.5 %", *pckh.HEADINGS]]
    for name, summary in splits.items():
        if summary["pckh_groups"] is not None:
            rows.append([name, *(_number(summary["pckh_groups"][key]) for key in pckh.HEADINGS)])
    return ["", *aligned(rows), ""]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns, numbers to the right, with a line under the headings."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))]).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _protocol_lines(splits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Name the protocol, and the splits whose men and women are posed with a neutral body."""
    names = sorted({summary["protocol"] for summary in splits.values()})
    lines = [f"protocol: {', '.join(names)}"]
    for split, summary in splits.items():
        people = [gender for gender in ("male", "female") if gender in summary["truth_body"]]
        if people and not summary["gendered_truth"]:
            affected = "every metric" if summary["protocol"] == "j14" else "PVE"
            lines.append(
                f"{split}: the labels of {' and '.join(people)} people are posed with the neutral "
                f"body {summary['truth_body'][people[0]]}, which changes {affected}: set "
                "config.eval.bodies"
            )
    return lines


def _against_mean_pose(summary: Mapping[str, Any]) -> tuple[str, str]:
    mpjpe, mean_pose = summary["mpjpe"], summary["mean_pose_mpjpe"]
    if mpjpe is None or not mean_pose:
        return "-", "-"
    return _number(mean_pose), f"{mpjpe / mean_pose:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def write_results(
    folder: Path,
    step: EvalStep,
    weights: Weights,
    setup: EvaluationSetup,
    errors: Mapping[str, SampleErrors],
    evals: Mapping[str, Callable[[], Iterable[HostBatch]]],
    names: Mapping[str, Callable[[], SplitNames]] | None = None,
) -> dict[str, Any]:
    """Write metrics.json and the figures of every split; remove figures of earlier evaluations.

    Of several processes, which all take part, the first writes.

    Args:
        folder: the workdir's `eval`.
        step: `eval_step` with its graph bound, jitted; predicts the samples to draw.
        weights: the weights that were measured.
        setup: bodies and devices.
        errors: by DATASET/SPLIT, from `evaluate.measure_splits`.
        evals: by DATASET/SPLIT, a function that passes over the split once.
        names: by DATASET/SPLIT, a function that returns the names of the split's samples. None
            leaves out the means of each sequence.

    Returns:
        The content of metrics.json.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    report = {
        "step": weights.step,
        "weights": weights.name,
        "splits": {
            name: summarise(split, names[name]() if names else None)
            for name, split in errors.items()
        },
    }
    faces = np.asarray(setup.body.faces)
    drawn: dict[Path, np.ndarray] = {}
    for name, split in errors.items():
        prefix = name.replace("/", "_")
        median, worst = _ranked_rows(split)
        # Both sheets at once, because finding samples takes a pass over the split.
        samples = draw(step, weights, setup, evals[name](), sorted({*median, *worst}))
        pictures = _error_figures(name, split) | {
            "median": _sheet(samples, median, split, faces),
            "worst": _sheet(samples, worst, split, faces),
        }
        drawn |= {folder / f"{prefix}_{kind}.png": one for kind, one in pictures.items()}
    if jax.process_index() == 0:
        for path, picture in drawn.items():
            write_atomically(path, encode_png(picture))
        earlier = {path for kind in _FIGURES for path in folder.glob(f"*_{kind}.png")}
        remove_files(sorted(earlier - drawn.keys()))
        write_atomically(folder / "metrics.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def _error_figures(name: str, errors: SampleErrors) -> dict[str, np.ndarray]:
    """Draw errors by joint and by hidden share, where there are 3D joints to measure."""
    mpjpe, mean_pose = errors.values["mpjpe"], errors.values["mean_pose_mpjpe"]
    if not np.isfinite(mpjpe).any():
        return {}
    # Loads matplotlib, which only a report needs.
    from pare_jax.evaluation import figures

    pictures = {
        "per_joint": figures.joint_error_figure(
            _joint_means(errors.per_joint),
            _joint_means(errors.mean_pose_per_joint),
            f"{name}: error per joint",
            errors.protocol.joint_names,
        )
    }
    hidden = hidden_share(errors.visible)
    known = np.isfinite(hidden) & np.isfinite(mpjpe)
    if known.any():
        pictures["occlusion"] = figures.occlusion_figure(
            mpjpe[known], mean_pose[known], hidden[known], f"{name}: error against occlusion"
        )
    return pictures


def _joint_means(per_joint: np.ndarray) -> np.ndarray:
    """Average over samples; NaN for a joint that no sample has."""
    means = [mean(column) for column in per_joint.T]
    return np.array([np.nan if value is None else value for value in means])


def _ranked_rows(errors: SampleErrors) -> tuple[list[int], list[int]]:
    """Return the rows of median and of worst samples, each from better to worse."""
    mpjpe, shares = errors.values["mpjpe"], _shares_2d(errors)
    badness = mpjpe
    if not np.isfinite(mpjpe).any():
        badness = np.where(errors.finite_2d, -shares, np.nan)
    order = [int(row) for row in np.argsort(badness, kind="stable") if np.isfinite(badness[row])]
    first = max(0, len(order) // 2 - _SHEET_ROWS // 2)
    return order[first : first + _SHEET_ROWS], order[-_SHEET_ROWS:]


def _shares_2d(errors: SampleErrors) -> np.ndarray:
    """Return the PCKh of each sample, or the PCK where there is no head's length."""
    return np.where(errors.pckh_points > 0, errors.values["pckh"], errors.values["pck_2d"])


def _sheet(
    samples: Sequence[PredictedSample], rows: Sequence[int], errors: SampleErrors, faces: np.ndarray
) -> np.ndarray:
    """Draw the samples at some rows of the split below each other, each under its title."""
    by_row = {sample.index: sample for sample in samples}
    mpjpe, shares = errors.values["mpjpe"], _shares_2d(errors)
    panels = []
    for sample in (by_row[row] for row in rows):
        panel = overlay.sample_panel(
            sample.image, sample.vertices, faces, sample.root, sample.attention
        )
        metric = "PCKh" if errors.pckh_points[sample.index] else "PCK"
        error = f"{metric} {shares[sample.index]:.0f} %"
        if np.isfinite(mpjpe[sample.index]):
            error = f"{mpjpe[sample.index]:.0f} mm"
        panels.append(text.titled(panel, f"sample {sample.index}: {error}"))
    return text.column(panels)
