"""Decides whether fine-tuned weights are better than the first ones, from errors of people.

A difference counts if chance would hardly give it. People of one photograph or clip are alike, so
that the test flips the signs of the differences of whole photographs and clips (a randomisation
test, Fisher 1935). The weights were chosen among several evaluations, for their errors on the same
people; so each flip takes the best of all evaluations too (maximum statistic, Westfall and Young
1993), and choosing gives no advantage.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

# Errors of a person, lower is better: keypoints missed in %, MPJPE and PA-MPJPE in mm.
MEASURES = ("missed", "mpjpe", "pa_mpjpe")
# Those that are tested; the others must only not get worse.
_TESTED = ("missed", "pa_mpjpe")
LEVEL = 0.05
# With fewer groups, no difference is beyond chance: 2 ** -6 is below half of `LEVEL`, the limit of
# each of two tested measures.
FEWEST_GROUPS = 6
# All flips of so many groups are counted, of more groups so many at random.
_EXACT_GROUPS, _FLIPS = 12, 10_000

Errors = Mapping[str, Float[np.ndarray, " people"]]


@dataclasses.dataclass(frozen=True)
class Change:
    """The change of one measure.

    Attributes:
        measure: one of `MEASURES`.
        people: number of people that have it.
        before, after: means over these people.
        chance: the share of flips that give a change at least as good; 1 for measures that are not
            tested.
    """

    measure: str
    people: int
    before: float
    after: float
    chance: float


@dataclasses.dataclass(frozen=True)
class WeightComparison:
    """The decision.

    Attributes:
        step: of the best evaluation.
        is_better: whether its weights replace the first ones.
        reason: why, in one line.
        changes: of each measure that somebody has.
        level: the largest chance that counts as a change.
    """

    step: int
    is_better: bool
    reason: str
    changes: tuple[Change, ...]
    level: float


def badness(before: Errors, after: Errors) -> float:
    """Return what chooses among evaluations: the mean ratio of errors, lower is better.

    Evaluations that are worse in any measure come after all others.

    Args:
        before: errors of the first weights.
        after: of others, for the same people.
    """
    ratios = []
    for measure in MEASURES:
        known = np.isfinite(before[measure])
        if known.any():
            first = max(float(before[measure][known].mean()), 1e-6)
            ratios.append(_mean(after[measure][known]) / first)
    if not ratios:
        return float("inf")
    return float(np.mean(ratios) + (max(ratios) > 1.0))


def _mean(values: np.ndarray) -> float:
    """Return the mean; infinite if a value is not finite."""
    return float(values.mean()) if np.isfinite(values).all() else float("inf")


def compare(
    before: Errors,
    evaluations: Mapping[int, Errors],
    groups: Sequence[str],
    kept: Sequence[int] = (),
) -> WeightComparison:
    """Compare the best evaluation with the first weights.

    Args:
        before: errors of the first weights.
        evaluations: by step, errors of later weights for the same people.
        groups: of each person, the photograph or clip.
        kept: steps whose weights still exist; (): all.
    """
    step = min(kept or evaluations, key=lambda at: (badness(before, evaluations[at]), at))
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    known = {name: np.isfinite(before[name]) for name in MEASURES}
    tested = [name for name in _TESTED if known[name].any()]
    level = LEVEL / max(1, len(tested))
    changes = []
    for name in MEASURES:
        if not known[name].any():
            continue
        own = known[name]
        differences = np.stack(
            [evaluations[at][name][own] - before[name][own] for at in evaluations]
        )
        chosen = list(evaluations).index(step)
        chance = _chance(differences, chosen, numbers[own]) if name in tested else 1.0
        changes.append(
            Change(
                name,
                int(own.sum()),
                float(before[name][own].mean()),
                _mean(evaluations[step][name][own]),
                chance,
            )
        )
    is_better, reason = _decide(changes, level)
    return WeightComparison(step, is_better, reason, tuple(changes), level)


def _chance(
    differences: Float[np.ndarray, "evaluations people"],
    chosen: int,
    groups: Int[np.ndarray, " people"],
) -> float:
    """Return the share of flips whose best mean difference is as low as the chosen one's."""
    differences = np.where(np.isfinite(differences), differences, 1e6)
    count = int(groups.max()) + 1
    sums = np.zeros((len(differences), count))
    np.add.at(sums.T, groups, differences.T)
    used = np.unique(groups)
    sums = sums[:, used]
    if len(used) <= _EXACT_GROUPS:
        bits = np.arange(2 ** len(used))[:, None] >> np.arange(len(used)) & 1
        signs = 1.0 - 2.0 * bits
    else:
        random = np.random.default_rng(0).choice([-1.0, 1.0], (_FLIPS - 1, len(used)))
        signs = np.concatenate([np.ones((1, len(used))), random])
    best = (signs @ sums.T).min(1)
    # Sums in another order differ in their last digits.
    return float((best <= sums[chosen].sum() + 1e-9).mean())


def _decide(changes: Sequence[Change], level: float) -> tuple[bool, str]:
    if not changes:
        return False, "no held-out person has labels to compare"
    names = {"missed": "keypoints missed", "mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE"}
    worse = [names[one.measure] for one in changes if not one.after <= one.before]
    better = [names[one.measure] for one in changes if one.chance <= level]
    if worse:
        return False, f"worse in {' and '.join(worse)}"
    if not better:
        least = min(one.chance for one in changes)
        return False, f"chance gives a change as good in {100 * least:.0f} of 100 cases"
    return True, f"better in {' and '.join(better)}, beyond chance"
