"""What a run of predictions was asked for."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pare_jax.prediction.detection import Detector
from pare_jax.prediction.predictor import Predictor
from pare_jax.prediction.run.records import Records
from pare_jax.prediction.run.reporting import Reporter
from pare_jax.prediction.smoothing import Smoothing
from pare_jax.prediction.tracking import TrackSettings

# Everything that can be written; see docs/predict.md.
OUTPUTS = (
    "npz",
    "json",
    "overlay",
    "attention",
    "side",
    "obj",
    "ply",
    "glb",
    "vertices",
    "page",
)
DEFAULT_OUTPUTS = ("npz", "json", "overlay", "attention", "page")
# The fact that is about clips alone.
SMOOTHED = "Smoothed in clips"


@dataclasses.dataclass(frozen=True)
class PredictionRun:
    """One run of the command, as its parts need it.

    Attributes:
        predictor: the network.
        output: the folder.
        outputs: of `OUTPUTS`, those that were asked for.
        detector: finds people in a photograph; None where boxes are given.
        clip_detector: finds people in a clip's frame, the unsure ones as well.
        tracking: what becomes of those.
        smoothing: of tracks.
        identity: of network and settings: what was done with another is done again, as far as
            it decides what is written about a photograph or clip.
        records: of what is done.
        reporter: told what happens.
        facts: what the page says of the network, the detector and the smoothing.
    """

    predictor: Predictor
    output: Path
    outputs: frozenset[str]
    detector: Detector | None
    clip_detector: Detector | None
    tracking: TrackSettings
    smoothing: Smoothing
    identity: dict[str, Any]
    records: Records
    reporter: Reporter
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def facts_of(self, *, is_clip: bool) -> dict[str, str]:
        """Return the facts that hold for a photograph, or for a clip."""
        return {name: value for name, value in self.facts.items() if is_clip or name != SMOOTHED}

    def wants(self, *outputs: str) -> bool:
        """Return whether one of these outputs was asked for."""
        return bool(self.outputs & set(outputs))
