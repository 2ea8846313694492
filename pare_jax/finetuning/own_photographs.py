"""Prepares the user's photographs inside the workdir: people, crops, keypoints, fits, two parts."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from data_pipelines.datasets import own_data
from data_pipelines.fits.fit_people import fit_split
from data_pipelines.fits.gate import Gate
from data_pipelines.fits.label_starts import NetworkStarts
from data_pipelines.preparing import preparation
from data_pipelines.preparing.preparation import NobodyPreparedError
from data_pipelines.reading import storage
from data_pipelines.reading.storage import StoredSplit
from data_pipelines.releases.folder import Folder
from data_pipelines.releases.labelled_photographs import LabelledPhotographs, rank_of
from data_pipelines.releases.spin import OwnSpin
from pare_jax.errors import UserError, counted
from pare_jax.finetuning.comparison import FEWEST_GROUPS
from pare_jax.io.files import read_json
from pare_jax.io.progress import say
from pare_jax.training.config import PHOTOGRAPHS

# Share of the photographs and clips that are held out, and how many at least: one more than the
# comparison needs, because nobody may be found in one of them.
_HELD_OUT, _HELD_OUT_AT_LEAST = 0.2, FEWEST_GROUPS + 1
_FEWEST_PHOTOGRAPHS = 2 * FEWEST_GROUPS
# Flags of the preparation, as its messages name them, and the keys that take their place here.
_KEYS = {
    "--source": "config.data.photos",
    "--labels": "config.data.labels",
    "--keypoint-set": "config.data.keypoint_set",
    "--keypoint_set": "config.data.keypoint_set",
}


@dataclasses.dataclass(frozen=True, eq=False)
class OwnPhotographs:
    """The prepared photographs.

    Attributes:
        train, held_out: their two parts.
        groups: of each held-out person, the photograph or clip.
        annotated: whether the keypoints come from a file; else BlazePose found them.
        notes: lines for the user.
    """

    train: StoredSplit
    held_out: StoredSplit
    groups: tuple[str, ...]
    annotated: bool
    notes: tuple[str, ...]


def prepare_photographs(config: ConfigDict, workdir: Path) -> OwnPhotographs:
    """Prepare `config.data.photos`, fit the people of the training part; resumes.

    Args:
        config: from `adopt.adopted`.
        workdir: the run's folder.

    Raises:
        UserError: the folder or file is missing, or too few photographs, people or fits are left.
    """
    try:
        return _prepare_photographs(config, workdir)
    except UserError as error:
        line = str(error)
        for flag, key in _KEYS.items():
            line = line.replace(flag, key)
        raise UserError(line) from error


def _prepare_photographs(config: ConfigDict, workdir: Path) -> OwnPhotographs:
    folder, labels = config.data.photos, config.data.labels
    if not Path(folder).is_dir():
        raise UserError(f"config.data.photos={folder} is no folder: name that of your photographs")
    reader = _with_share(config)
    for line in (*reader.notes(), *reader.check()):
        say(f"{folder}: {line}", sys.stderr)
    try:
        path = preparation.prepare(reader, own_data(workdir), max_skipped=1.0)
    except NobodyPreparedError:
        hint = "look at its labels" if labels else "give a file of keypoints as config.data.labels"
        raise UserError(f"no person can be used in {folder}: {hint}") from None
    groups = _groups(reader)
    train, held_out = _parts(path, folder, groups)
    _fit(train, folder, config)
    notes = [
        f"{folder}: {_described(train, groups)} to train, {_described(held_out, groups)} held out",
        f"keypoints: {f'from {labels}' if labels else 'found by BlazePose'}",
    ]
    own = tuple(_groups_of(held_out, groups))
    return OwnPhotographs(train, held_out, own, bool(labels), tuple(notes))


def _fit(train: StoredSplit, folder: str, config: ConfigDict) -> None:
    """Fit the people of the training part, unless the labels have the poses of all of them."""
    if all(train[row]["pose_weight"] > 0 for row in range(len(train))):
        return
    fits = fit_split(train, NetworkStarts(None, config.body_model or None))
    gate = Gate.of_config(config.data.fits)
    if not (gate.passes(fits.columns) | fits.columns.posed).any():
        raise UserError(
            f"no body of {folder} is a label to trust ({gate.summary(fits.columns)}): give better "
            "keypoints as config.data.labels, or a wider gate as config.data.fits"
        )


def _groups_of(split: StoredSplit, groups: Mapping[str, str]) -> list[str]:
    """Return the photograph or clip of each person of a split."""
    names = [sample.sequence for sample in split.names().samples]
    return [groups.get(name, name) for name in names]


def _described(split: StoredSplit, groups: Mapping[str, str]) -> str:
    count = len(set(_groups_of(split, groups)))
    return f"{counted(len(split), 'person')} in {count:,} photographs or clips"


def _with_share(config: ConfigDict) -> LabelledPhotographs:
    """Return a reader that holds out enough photographs and clips."""
    groups = set(_groups(_reader(config, 0.5)).values())
    if len(groups) < _FEWEST_PHOTOGRAPHS:
        labels = config.data.labels
        whose = f" and people in config.data.labels={labels}" if labels else ""
        raise UserError(
            f"config.data.photos={config.data.photos} has too few photographs and clips that can "
            f"be read{whose}: {len(groups)}, at least {_FEWEST_PHOTOGRAPHS} are needed; add more "
            "(frames of one clip count once)"
        )
    least = min(max(_HELD_OUT_AT_LEAST, round(_HELD_OUT * len(groups))), len(groups) // 2)
    # Groups of a lower rank are held out.
    return _reader(config, sorted(map(rank_of, groups))[least])


def _groups(reader: LabelledPhotographs) -> dict[str, str]:
    """Return the key of the split of each photograph and clip, by its path."""
    return {
        one.path: (one.people[0].group if one.people else "") or one.name
        for one in reader.photographs()
        if one.path is not None
    }


def _reader(config: ConfigDict, held_out: float) -> LabelledPhotographs:
    folder, labels = config.data.photos, config.data.labels or None
    chosen = config.data.keypoint_set or None
    if labels is not None and labels.lower().endswith(".npz"):
        return OwnSpin(labels, folder, PHOTOGRAPHS, held_out, chosen)
    return Folder(folder, labels, PHOTOGRAPHS, held_out, chosen)


def _parts(path: Path, folder: str, groups: Mapping[str, str]) -> tuple[StoredSplit, StoredSplit]:
    parts: list[StoredSplit] = []
    prepared = read_json(path / storage.SKIPPED_FILE, "remove it to prepare it again")
    for name, purpose in (("train", "train on"), ("validation", "hold out")):
        part = storage.open_split(path, name) if prepared[name]["kept"] else None
        count = 0 if part is None else len(set(_groups_of(part, groups)))
        if part is None or count < FEWEST_GROUPS:
            raise UserError(
                f"people were found in {count} photographs or clips of {folder} to {purpose}, "
                f"fewer than {FEWEST_GROUPS}: add photographs and use another --workdir"
            )
        parts.append(part)
    return parts[0], parts[1]
