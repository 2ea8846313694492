"""The gate that fits must pass to be labels: verdict, error, agreement of starts, plausibility."""

import dataclasses

import numpy as np
from jaxtyping import Bool
from ml_collections import ConfigDict

from data_pipelines.fits.fit_file import VERDICTS, FitColumns
from pare_jax.errors import counted


@dataclasses.dataclass(frozen=True)
class Gate:
    """Limits of fits that become labels.

    Attributes:
        error: largest error, in shares of the person's extent.
        agreement: largest mean distance of the starts' joints, mm.
        plausibility: smallest share of the prior's bodies that are less likely.
    """

    error: float
    agreement: float
    plausibility: float

    @classmethod
    def of_config(cls, fits: ConfigDict) -> "Gate":
        """Return the gate of `config.data.fits`."""
        return cls(fits.error, fits.agreement, fits.plausibility)

    def refused(self, fits: FitColumns) -> dict[str, Bool[np.ndarray, " people"]]:
        """Return the fits that each criterion refuses, by its name; a fit counts once."""
        criteria = {
            name: fits.verdict == number for number, name in enumerate(VERDICTS) if number
        } | {
            "error": ~(fits.error <= self.error),
            "agreement": ~(fits.agreement <= self.agreement),
            "plausibility": ~(fits.plausibility >= self.plausibility),
        }
        left = np.ones(len(fits), bool)
        found = {}
        for name, bad in criteria.items():
            found[name] = left & bad
            left = left & ~bad
        return found

    def passes(self, fits: FitColumns) -> Bool[np.ndarray, " people"]:
        """Return which fits pass."""
        return ~np.any(list(self.refused(fits).values()), axis=0)

    def summary(self, fits: FitColumns) -> str:
        """Return how many people were fitted, how many pass, and what refuses the others."""
        refused = {name: int(bad.sum()) for name, bad in self.refused(fits).items()}
        fitted = int(np.isfinite(fits.agreement).sum())
        passed = len(fits) - sum(refused.values())
        reasons = ", ".join(f"{name} {count:,}" for name, count in refused.items() if count)
        return (
            f"{counted(len(fits), 'person')}, {fitted:,} fitted, {passed:,} pass the gate"
            f"{f' (refused: {reasons})' if reasons else ''}"
        )
