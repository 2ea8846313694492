"""Tabulates the error that a patch over each joint adds to every joint, on labelled people."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pare_jax.errors import UserError, counted
from pare_jax.evaluation.figures import table_figure
from pare_jax.prediction.predictor import Predictor
from pare_jax.rendering.text import Picture
from pare_jax.sensitivity.maps import distances, root_centred
from pare_jax.sensitivity.patches import BATCH_SIZE, NO_PATCH, predict_with_patches
from pare_jax.skeleton import NUM_JOINTS, joint_index

# Rows and columns in the order of the body, so that neighbouring joints are neighbours.
_LIMBS = {
    "arm": ("collar", "shoulder", "elbow", "wrist", "hand"),
    "leg": ("hip", "knee", "ankle", "foot"),
}
REGIONS: dict[str, tuple[str, ...]] = {
    "torso and head": ("pelvis", "spine1", "spine2", "spine3", "neck", "head"),
    **{
        f"{side} {limb}": tuple(f"{side}_{name}" for name in names)
        for limb, names in _LIMBS.items()
        for side in ("left", "right")
    },
}
ROWS = tuple(name for names in REGIONS.values() for name in names)
# Without the pelvis: it is the origin, so its error is 0.
COLUMNS = ROWS[1:]

# Width of the printed table's first column.
_HEAD = 14


@dataclasses.dataclass(frozen=True)
class OcclusionTable:
    """Mean error that a patch over each joint adds to every joint.

    Attributes:
        increase: of the error, mm. Row: the joint under the patch; column: the joint whose error
            it is; both in SMPL's order. The row of a joint that no crop shows is NaN. The column
            of the pelvis, the origin, is 0.
        counts: number of people that each row averages.
        clean: error of each joint without a patch, mean over people, mm.
        people: number of people.
        patch: side of the patch, pixels of the network's crop.
        image_size: side of the network's crop, pixels.
    """

    increase: Float[np.ndarray, "24 24"]
    counts: Int[np.ndarray, "24"]
    clean: Float[np.ndarray, "24"]
    people: int
    patch: int
    image_size: int

    @property
    def overall(self) -> Float[np.ndarray, "24"]:
        """Increase of the MPJPE over all 24 joints, mm, one number a row."""
        return self.increase.mean(1)

    def regions(self) -> Float[np.ndarray, "5 5"]:
        """Return means over the regions of `REGIONS`; the pelvis is in no column."""
        groups = [[joint_index(name) for name in names] for names in REGIONS.values()]
        means = np.full((len(groups), len(groups)), np.nan)
        for row, hidden in enumerate(groups):
            known = [joint for joint in hidden if self.counts[joint]]
            for column, affected in enumerate(groups):
                if known:
                    block = self.increase[np.ix_(known, [j for j in affected if j])]
                    means[row, column] = block.mean()
        return means

    def text(self) -> str:
        """Return the tables of joints and of regions as text, 118 columns wide."""
        starts = {names[0] if names[0] in COLUMNS else names[1] for names in REGIONS.values()}
        lines = [
            f"Error that a patch adds to each joint, mm, mean of {counted(self.people, 'person')}; "
            f"patch of {self.patch} px, crop of {self.image_size} px",
            "",
            _headline(),
            _line("patch over", [_short(name) for name in COLUMNS], "all", starts),
        ]
        for region, names in REGIONS.items():
            if region != next(iter(REGIONS)):
                lines.append("")
            for name in names:
                row = joint_index(name)
                values = [_whole(self.increase[row, joint_index(column)]) for column in COLUMNS]
                lines.append(_line(_readable(name), values, _tenth(self.overall[row]), starts))
        clean = [_whole(self.clean[joint_index(column)]) for column in COLUMNS]
        lines += ["", _line("without patch", clean, _tenth(self.clean.mean()), starts), ""]
        lines.append("means of regions" + "".join(f"{name:>16}" for name in REGIONS))
        for name, values in zip(REGIONS, self.regions(), strict=True):
            lines.append(f"{name:16}" + "".join(f"{_tenth(value):>16}" for value in values))
        return "\n".join(lines)

    def picture(self) -> Picture:
        """Draw the table of joints; the last column is the mean of all joints."""
        order = [joint_index(name) for name in ROWS]
        affected = [joint_index(name) for name in COLUMNS]
        values = np.column_stack([self.increase[np.ix_(order, affected)], self.overall[order]])
        return table_figure(
            values,
            ROWS,
            (*COLUMNS, "all joints"),
            f"error that a patch of {self.patch} of {self.image_size} px adds "
            f"(mm, {counted(self.people, 'person')})",
            "joint under the patch",
            "joint whose error grows",
        )

    def csv(self) -> str:
        """Return the table as CSV, mm, with columns patch_over, people, one a joint, and all.

        The last row, patch_over "none", has the errors without a patch. A row without people has
        empty cells.
        """
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["patch_over", "people", *COLUMNS, "all"])
        for name in ROWS:
            row = joint_index(name)
            values = [*(self.increase[row, joint_index(c)] for c in COLUMNS), self.overall[row]]
            written = [f"{value:.2f}" if np.isfinite(value) else "" for value in values]
            writer.writerow([name, int(self.counts[row]), *written])
        clean = [*(self.clean[joint_index(c)] for c in COLUMNS), self.clean.mean()]
        writer.writerow(["none", self.people, *(f"{value:.2f}" for value in clean)])
        return buffer.getvalue()

    def described(self) -> dict[str, Any]:
        """Return the table as values for JSON; None for a joint that no crop shows."""
        rows = {}
        for name in ROWS:
            row = joint_index(name)
            rows[name] = {
                "people": int(self.counts[row]),
                "increase_mm": {c: _number(self.increase[row, joint_index(c)]) for c in COLUMNS},
                "all_mm": _number(self.overall[row]),
            }
        regions = {
            name: dict(zip(REGIONS, map(_number, values), strict=True))
            for name, values in zip(REGIONS, self.regions(), strict=True)
        }
        return {
            "people": self.people,
            "patch_px": self.patch,
            "crop_px": self.image_size,
            "error_without_patch_mm": {c: _number(self.clean[joint_index(c)]) for c in COLUMNS}
            | {"all": _number(self.clean.mean())},
            "patch_over": rows,
            "regions_increase_mm": regions,
        }

    def json(self, dataset: str) -> str:
        """Return `described` and the dataset's name as JSON."""
        return json.dumps({"dataset": dataset, **self.described()}, indent=1) + "\n"


def occlusion_table(
    predictor: Predictor,
    batches: Iterable[Mapping[str, np.ndarray]],
    patch: int,
    *,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int], object] | None = None,
) -> OcclusionTable:
    """Cover each true joint of labelled people in turn and measure the errors of all joints.

    Args:
        predictor: network and body.
        batches: with `data_pipelines.example.BATCH_FIELDS`, at the network's size.
        patch: side of the patch, pixels of the network's crop.
        batch_size: patches predicted at once.
        advance: called for each batch with its number of people.

    Returns:
        The table. It counts joints whose true 2D position is known and inside the crop.

    Raises:
        UserError: no person has both 3D and 2D joints, or the network predicts NaN.
    """
    size = predictor.image_size
    increase, clean = np.zeros((NUM_JOINTS, NUM_JOINTS)), np.zeros(NUM_JOINTS)
    counts, people = np.zeros(NUM_JOINTS, int), 0
    for batch in batches:
        positions = (np.asarray(batch["joints_2d"], np.float64) + 1.0) * (size / 2.0)
        known = _known(batch, positions, size)
        if advance is not None:
            advance(int((batch["sample_weight"] > 0).sum()))
        if not known.any():
            continue
        errors = _errors(predictor, batch, positions, known, patch, batch_size)
        increase += ((errors[:, 1:] - errors[:, :1]) * known[..., None]).sum(0)
        counts += known.sum(0)
        labelled = known.any(1)
        clean += errors[labelled, 0].sum(0)
        people += int(labelled.sum())
    if not people:
        raise UserError(
            "no person has both 3D and 2D joints, which the table needs: "
            "choose a split of 3DPW or of synthetic people"
        )
    with np.errstate(invalid="ignore"):
        mean = np.where(counts[:, None] > 0, increase / counts[:, None], np.nan)
    return OcclusionTable(mean, counts, clean / people, people, patch, size)


def _errors(
    predictor: Predictor,
    batch: Mapping[str, np.ndarray],
    positions: Float[np.ndarray, "b 24 2"],
    known: Bool[np.ndarray, "b 24"],
    patch: int,
    batch_size: int,
) -> Float[np.ndarray, "b 25 24"]:
    """Return errors of each person's joints, mm: without a patch, then with one over each joint.

    People without labels are predicted too, so that all batches run one program.
    """
    without = np.full((len(positions), 1, 2), NO_PATCH)
    centres = np.concatenate([without, np.where(known[..., None], positions, NO_PATCH)], 1)
    crop_numbers = np.repeat(np.arange(len(centres)), NUM_JOINTS + 1)
    found = predict_with_patches(
        predictor, batch["image"], crop_numbers, centres.reshape(-1, 2), patch, batch_size
    )
    joints = found.joints.reshape(len(centres), NUM_JOINTS + 1, NUM_JOINTS, 3)
    return distances(joints, root_centred(batch["joints_3d"])[:, None])


def _known(
    batch: Mapping[str, np.ndarray], positions: Float[np.ndarray, "b 24 2"], size: int
) -> Bool[np.ndarray, "b 24"]:
    """Return which joints a patch can cover: labelled, known in 2D and inside the crop."""
    labelled = (batch["joints_3d_weight"] > 0) & (batch["sample_weight"] > 0)
    inside = ((positions >= 0) & (positions < size)).all(-1)
    return labelled[:, None] & inside & (batch["joints_2d_weight"] > 0)


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _short(name: str) -> str:
    """Return the heading of a column; the line above it names the region."""
    name = name.rpartition("_")[2]
    return f"sp{name[-1]}" if name.startswith("spine") else name[:3]


def _headline() -> str:
    """Return the line with the regions' names."""
    line = " " * _HEAD
    for region, names in REGIONS.items():
        width = 4 * len([name for name in names if name in COLUMNS])
        line += "  " + f"{region:<{width - 1}}"
    return line.rstrip()


def _line(head: str, values: list[str], last: str, starts: set[str]) -> str:
    cells = [
        (" " if column in starts else "") + f"{value:>4}"
        for column, value in zip(COLUMNS, values, strict=True)
    ]
    return f"{head:{_HEAD}}" + "".join(cells) + f"{last:>7}"


def _whole(value: float) -> str:
    return str(round(value)) if np.isfinite(value) else "-"


def _tenth(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else "-"


def _number(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None
