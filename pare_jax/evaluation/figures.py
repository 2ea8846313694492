"""Draws the figures of an evaluation with Matplotlib, without a display.

Every function returns an RGB image, for PNG files and for TensorBoard. Matplotlib is imported when
the first figure is drawn.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from pare_jax.evaluation.hidden_joints import hidden_share_bins
from pare_jax.rendering.text import Picture
from pare_jax.skeleton import JOINT_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MODEL = "#0072b2"
_MEAN_POSE = "#b0b0b0"


def joint_error_figure(
    errors: Float[np.ndarray, "joints"],
    mean_pose_errors: Float[np.ndarray, "joints"],
    title: str,
    names: Sequence[str] = JOINT_NAMES,
) -> Picture:
    """Draw the error of each joint as bars, beside those of the mean-pose baseline.

    Args:
        errors: mm; NaN for a joint without labels, which gets no bar.
        mean_pose_errors: the mean-pose baseline's, mm; NaN for a protocol without one.
        title: the split and the metric.
        names: of the joints, in order.

    Returns:
        RGB image.
    """
    figure = _figure(9.0, 0.26 * len(names) + 1.3)
    axes = figure.subplots()
    errors, mean_pose_errors = np.asarray(errors, float), np.asarray(mean_pose_errors, float)
    places = np.arange(len(names))
    axes.barh(places - 0.2, errors, 0.4, color=_MODEL, label=_with_mean("model", errors))
    if np.isfinite(mean_pose_errors).any():
        label = _with_mean("mean-pose baseline", mean_pose_errors)
        axes.barh(places + 0.2, mean_pose_errors, 0.4, color=_MEAN_POSE, label=label)
    for place, error in zip(places, errors, strict=True):
        if np.isfinite(error):
            axes.text(error, place - 0.2, f" {error:.0f}", va="center", fontsize=7, color=_MODEL)
    axes.set_yticks(places, [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("mean error after root alignment (mm)")
    axes.set_title(title)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return _rendered(figure)


def occlusion_figure(
    errors: Float[np.ndarray, "samples"],
    mean_pose_errors: Float[np.ndarray, "samples"],
    hidden_share: Float[np.ndarray, "samples"],
    title: str,
) -> Picture:
    """Draw the error of samples against the share of their joints that are hidden.

    Samples are sorted into bins of the share. A line connects the bins' means, in a band of two
    standard errors, above the number of samples in each bin.

    Args:
        errors: MPJPE of each sample, mm.
        mean_pose_errors: the mean-pose baseline's; NaN for a protocol without one.
        hidden_share: share of the sample's joints that are hidden, in [0, 1].
        title: the split and the metric.

    Returns:
        RGB image.
    """
    edges, which = hidden_share_bins(np.asarray(hidden_share, float))
    counts = np.bincount(which, minlength=len(edges) - 1)
    used = np.flatnonzero(counts)
    centres = 50.0 * (edges[used] + edges[used + 1])
    figure = _figure(8.0, 4.5)
    axes = figure.subplots()
    for values, colour, label in (
        (mean_pose_errors, _MEAN_POSE, "mean-pose baseline"),
        (errors, _MODEL, "model"),
    ):
        values = np.asarray(values, float)
        if not np.isfinite(values).any():
            continue
        groups = [values[which == bin_] for bin_ in used]
        means = np.array([group.mean() for group in groups])
        spread = np.array([2.0 * group.std() / np.sqrt(len(group)) for group in groups])
        axes.plot(centres, means, "o-", color=colour, label=_with_mean(label, values))
        axes.fill_between(centres, means - spread, means + spread, color=colour, alpha=0.2, lw=0)
    axes.set_ylim(bottom=0.0)
    for centre, count in zip(centres, counts[used], strict=True):
        place = (centre, 0.02)
        axes.text(*place, f"{count}", transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
    axes.set_xlabel("share of joints hidden (%); number of samples above the axis")
    axes.set_ylabel("MPJPE (mm)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="best")
    return _rendered(figure)


def kept_share_figure(
    panels: Mapping[str, Mapping[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]],
    limit: float,
    x_label: str,
) -> Picture:
    """Draw the mean error of the samples that a gate keeps, against their share.

    Args:
        panels: by title, and then by name of a curve: what the gate looks at, of which small values
            are kept first, and the errors of the same samples, mm.
        limit: the gate's; a dot shows it on each curve.
        x_label: what the gate looks at.

    Returns:
        RGB image.
    """
    figure = _figure(4.6 * len(panels), 4.2)
    for axes, (title, curves) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name, (values, errors) in curves.items():
            order = np.argsort(values, kind="stable")
            share = np.arange(1, len(order) + 1) / len(order)
            means = np.cumsum(errors[order]) / np.arange(1, len(order) + 1)
            shown = share >= 0.05  # fewer have no steady mean
            (line,) = axes.plot(100 * share[shown], means[shown], label=name)
            kept = int((values <= limit).sum())
            if kept:
                dot = (100 * kept / len(order), means[kept - 1])
                axes.plot(*dot, "o", color=line.get_color())
        axes.set_xlabel(f"share kept by {x_label} (%)")
        axes.set_ylabel("MPJPE (mm)")
        axes.set_title(title, fontsize=10)
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    return _rendered(figure)


def table_figure(
    values: Float[np.ndarray, "rows columns"],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    row_label: str,
    column_label: str,
) -> Picture:
    """Draw a table of millimetres as coloured cells with numbers: red above 0, blue below.

    Args:
        values: mm; a cell of NaN stays grey.
        rows: names of the rows.
        columns: names of the columns.
        title: above the table.
        row_label: beside the rows.
        column_label: below the columns.

    Returns:
        RGB image.
    """
    figure = _figure(0.36 * len(columns) + 2.6, 0.27 * len(rows) + 2.2)
    axes = figure.subplots()
    values = np.asarray(values, float)
    largest = max(float(np.max(np.abs(values), initial=1.0, where=np.isfinite(values))), 1.0)
    axes.set_facecolor("#d8d8d8")
    colours = axes.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "white" if abs(value) > 0.6 * largest else "black"
            axes.text(column, row, round(value), ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(columns)), [n.replace("_", " ") for n in columns], rotation=90)
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
    axes.set_xlabel(column_label)
    axes.set_ylabel(row_label)
    axes.set_title(title, fontsize=10)
    figure.colorbar(colours, ax=axes, label="mm", shrink=0.7)
    return _rendered(figure)


def _with_mean(label: str, values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{label} (mean {known.mean():.1f} mm)" if known.size else label


def _figure(width: float, height: float) -> "Figure":
    # The object-oriented interface needs no display and does not touch pyplot's global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _rendered(figure: "Figure") -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
