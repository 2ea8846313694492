"""Resolves config.data.train: groups that share one weight by size, and missing datasets.

An entry of config.data.train is (name, weight) or ((name, name, ...), weight). The datasets of a
group share its weight by their numbers of examples. A missing dataset leaves its part of a group's
weight to the others of the group. A missing entry leaves its weight to all others.

`keep` records what a run resolved. A resumed run reads it with `read`, so that its batches stay the
same whatever was prepared in the meantime.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pare_jax.errors import UserError, be, listed
from pare_jax.io.files import read_json, write_atomically
from pare_jax.training.config import dataset_names

# In a workdir: {"train": config.data.train, "sets": [{"name", "people", "weight"}, ...]}.
MIXTURE_FILE = "mixture.json"
# The value of config.data.missing that leaves missing datasets out.
SHARE = "share"

Entry = tuple[str | tuple[str, ...], float]


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """A dataset of a mixture.

    Attributes:
        name: as config.data.train names it.
        people: its number of examples.
        weight: its share of the stream, relative to the other weights.
    """

    name: str
    people: int
    weight: float


def resolve(train: Sequence[Entry], people: Mapping[str, int]) -> list[TrainingSet]:
    """Return the datasets that are there, in the order of config.data.train, with their weights.

    Args:
        train: config.data.train.
        people: the number of examples by name; missing datasets are not in it.

    Raises:
        UserError: all datasets are missing.
    """
    sets = []
    for names, weight in train:
        there = [name for name in _members(names) if name in people]
        total = sum(people[name] for name in there)
        for name in there:
            # A single dataset has the config's own number, to the last bit.
            part = weight if len(there) == 1 else weight * people[name] / total
            sets.append(TrainingSet(name, people[name], float(part)))
    if not sets:
        raise UserError(
            f"config.data.train: none of {', '.join(dataset_names(train))} is prepared: "
            "prepare at least one (docs/data.md), or give their folder as config.data.root"
        )
    return sets


def describe(train: Sequence[Entry], sets: Sequence[TrainingSet], missing: str) -> list[str]:
    """Return the lines that a run starts with: a table of the mixture, and what is missing.

    Args:
        train: config.data.train.
        sets: what was resolved.
        missing: says when or where other datasets are missing, for instance "in data".

    Returns:
        The lines; none if config.data.train names a single dataset.
    """
    names = dataset_names(train)
    if len(names) == 1:
        return []
    total = sum(one.weight for one in sets)
    width = max(12, *(len(one.name) for one in sets))
    lines = [f"{'training set':{width}}  {'people':>9}  of a batch"]
    for one in sets:
        share = f"{100 * one.weight / total:.3g} %"
        lines.append(f"{one.name:{width}}  {one.people:>9,}  {share:>10}")
    there = {one.name for one in sets}
    whole = sum(weight for _, weight in train)
    for group, weight in train:
        members = _members(group)
        absent = [name for name in members if name not in there]
        left = [name for name in members if name in there]
        if not absent:
            continue
        share = f"{100 * weight / whole:.3g} %"
        heirs = listed(left) if left else "the other sets"
        lines.append(
            f"{listed(absent)} {be(len(absent))} missing {missing}: the {share} go to {heirs}"
        )
    return lines


def changed(recorded: Sequence[TrainingSet], people: Mapping[str, int]) -> list[str]:
    """Return a line for each dataset whose size differs from that of the run's first start.

    Args:
        recorded: what the run recorded.
        people: the number of examples now, by name.
    """
    return [
        f"{one.name} has {people[one.name]:,} people, and had {one.people:,} when the run began: "
        "its share stays, but its batches are others"
        for one in recorded
        if people[one.name] != one.people
    ]


def keep(path: Path, train: Sequence[Entry], sets: Sequence[TrainingSet]) -> None:
    """Record a resolved mixture.

    Raises:
        UserError: the file cannot be written.
    """
    content = {"train": train, "sets": [dataclasses.asdict(one) for one in sets]}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def read(path: Path, train: Sequence[Entry]) -> list[TrainingSet] | None:
    """Read the mixture that a run recorded; None if it recorded none for this config.data.train.

    Args:
        path: the file, written by `keep`.
        train: config.data.train.

    Raises:
        UserError: the file is damaged or cannot be read.
    """
    advice = "copy the run again, or remove the file to share by the sizes of now"
    if not path.exists():
        return None
    try:
        content = read_json(path, advice)
        sets = [
            TrainingSet(str(one["name"]), int(one["people"]), float(one["weight"]))
            for one in content["sets"]
        ]
        same = content["train"] == json.loads(json.dumps(train))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path} ({type(error).__name__}): {advice}") from error
    if not {one.name for one in sets} <= set(dataset_names(train)):
        return None
    return sets if same and sets else None


def _members(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
