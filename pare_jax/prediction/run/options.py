"""Settings of a prediction run, and the key that identifies the settings of an output."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from pare_jax.errors import UserError
from pare_jax.io.media import Clip, Photo, numbered_frames
from pare_jax.keypoints.sets import KeypointSet
from pare_jax.prediction.detection import Detector
from pare_jax.prediction.focal_length import FocalFlags
from pare_jax.prediction.keypoint_source import BLAZEPOSE, keypoint_file
from pare_jax.prediction.loading import SHIPPED_NAME
from pare_jax.prediction.output_names import place_of
from pare_jax.prediction.predictor import Predictor
from pare_jax.prediction.run.output_folder import OutputFolder
from pare_jax.prediction.run.reporting import WARNING, Reporter
from pare_jax.prediction.smoothing import Smoothing
from pare_jax.prediction.tracking import TrackSettings
from pare_jax.training.checkpoints import CHECKPOINT_FOLDER
from pare_jax.training.shipped import shipped_digest
from pare_jax.training.trained_run import split_checkpoint

# Everything that can be written; see docs/predict.md.
OUTPUTS = (
    "npz",
    "json",
    "overlay",
    "attention",
    "keypoints",
    "side",
    "obj",
    "ply",
    "glb",
    "vertices",
    "page",
)
DEFAULT_OUTPUTS = ("npz", "json", "overlay", "attention", "page")
SMOOTHINGS = ("rotations", "shape", "camera")
# The fact that holds for clips only.
_SMOOTHED = "Smoothed in clips"
# Raise it when files change their content for the same settings; outputs are then made again.
_FORMAT = 6


@dataclasses.dataclass(frozen=True)
class Job:
    """One photograph or clip to predict.

    Attributes:
        path: the input file.
        name: the beginning of its output files' names.
        key: see `key_of`.
        boxes: a photograph's, or a clip's by frame; None: the detector finds people.
        frame_rate: of a folder of numbered frames, frames a second.
    """

    path: Path
    name: str
    key: str
    boxes: Any
    frame_rate: float | None = None


@dataclasses.dataclass(frozen=True)
class PredictionRun:
    """One run of the command.

    Attributes:
        predictor: the network with its body model.
        folder: the output folder.
        outputs: the chosen ones of `OUTPUTS`.
        detector: finds people in a photograph.
        clip_detector: the same in a clip's frame, with lower scores; None if no clip needs it.
        tracking: how detections become tracks.
        smoothing: of tracks.
        reporter: prints and counts results and failures.
        facts: network, detector and smoothing, as the page shows them.
        focal: the focal length of all inputs, if flags give it.
    """

    predictor: Predictor
    folder: OutputFolder
    outputs: frozenset[str]
    detector: Detector | None
    clip_detector: Detector | None
    tracking: TrackSettings
    smoothing: Smoothing
    reporter: Reporter
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    focal: FocalFlags = dataclasses.field(default_factory=FocalFlags)

    def facts_of(self, *, is_clip: bool) -> dict[str, str]:
        """Return the facts that hold for a photograph, or for a clip."""
        return {name: value for name, value in self.facts.items() if is_clip or name != _SMOOTHED}

    def wants(self, *outputs: str) -> bool:
        """Return whether one of these outputs was chosen."""
        return bool(self.outputs & set(outputs))


def checked_outputs(names: Sequence[str]) -> frozenset[str]:
    """Return the outputs that --outputs names.

    Raises:
        UserError: one is unknown or needs another, or there is none.
    """
    outputs = frozenset(name.strip() for name in names if name.strip())
    unknown = sorted(outputs - set(OUTPUTS))
    if unknown:
        raise UserError(f"unknown --outputs={unknown[0]}: choose from {','.join(OUTPUTS)}")
    if not outputs:
        raise UserError(f"--outputs is empty: choose from {','.join(OUTPUTS)}")
    for output in ("page", "vertices"):
        if output in outputs and "npz" not in outputs:
            raise UserError(f"--outputs={output} needs npz: add it")
    return outputs


def key_of(
    source: Photo | Clip,
    boxes: Any,
    values: flags.FlagValues,
    outputs: frozenset[str],
    predictor: Predictor,
) -> str:
    """Return a digest of everything that decides the outputs of one input.

    Args:
        source: the input.
        boxes: of the people in it, or None.
        values: the command's flags.
        outputs: the chosen outputs.
        predictor: the network; whether it needs a source of keypoints counts.
    """
    settings = {
        "format": _FORMAT,
        "checkpoint": _checkpoint_identity(values),
        "body": values.body and _file_identity(Path(values.body)),
        "input": _file_identity(source.path),
        "boxes": boxes,
        "crop_scale": predictor.crop_scale,
        "refine": values.refine,
        # The page is of the whole folder.
        "outputs": sorted(outputs - {"page"}),
        "threshold": values.threshold,
        "focal": [values.focal, values.fov],
    }
    if boxes is None:
        settings["detector"] = _name_or_file(values.detector)
    if predictor.source is not None:
        name = values.keypoints or BLAZEPOSE
        settings["keypoints"] = [_name_or_file(name), values.keypoint_set]
    if isinstance(source, Clip):
        settings["smoothing"] = [values[f"smooth_{name}"].value for name in SMOOTHINGS]
        if source.frame_rate is not None:
            frames = [_file_identity(path) for path in numbered_frames(source.path)]
            settings["input"] = [source.frame_rate, frames]
    else:
        # A photograph's .npz has the vertices in any case.
        settings["outputs"] = sorted(outputs - {"page", "vertices"})
        if boxes is not None:  # already chosen by the threshold
            del settings["threshold"]
    text = json.dumps(settings, sort_keys=True, default=_as_json)
    return hashlib.sha256(text.encode()).hexdigest()


def facts_of_flags(values: flags.FlagValues, predictor: Predictor) -> dict[str, str]:
    """Return network, detector and smoothing, and a predictor's warning, as the page shows them."""
    warning, needs_source = predictor.warning, predictor.source is not None
    file = keypoint_file(values.keypoints)
    step = _checkpoint_identity(values)[1] if values.checkpoint else None
    network = [
        values.checkpoint or SHIPPED_NAME,
        *[f"step {step}"] * (step is not None),
        *[f"{values.weights} weights"] * (values.weights != "auto"),
        *[f"body {values.body}"] * bool(values.body),
        *[f"crops of {values.crop_scale} times the box"] * (values.crop_scale is not None),
    ]
    focal = [
        *[f"{values.focal} pixels"] * (values.focal is not None),
        *[f"angle of view {values.fov} degrees"] * (values.fov is not None),
    ]
    found_by = "boxes that were given" if values.boxes else values.detector
    smoothed = [name for name in SMOOTHINGS if values[f"smooth_{name}"].value]
    return {
        "Network": ", ".join(network),
        "People found by": f"keypoints of {file}" if file else found_by,
        **({"Keypoints by": values.keypoints or BLAZEPOSE} if needs_source else {}),
        **({"Refined": "by fitting the body to the keypoints"} if values.refine else {}),
        **({"Focal length": focal[0]} if focal else {}),
        _SMOOTHED: ", ".join(smoothed) or "nothing",
        **({WARNING: warning} if warning else {}),
    }


def _checkpoint_identity(values: flags.FlagValues) -> list[Any]:
    """Return a checkpoint's folder, step, time of writing and kind of weights."""
    if not values.checkpoint:
        return [SHIPPED_NAME, shipped_digest()]
    workdir, step = split_checkpoint(values.checkpoint)
    folder = workdir / CHECKPOINT_FOLDER
    with contextlib.suppress(OSError, ValueError):
        if step is None:
            step = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        changed = (folder / str(step)).stat().st_mtime_ns
        return [str(folder.resolve()), step, changed, values.weights]
    return [str(folder.absolute()), step, values.weights]


def _name_or_file(name: str) -> Any:
    """Return a file's identity, or the name if there is no such file."""
    return _file_identity(Path(name)) if Path(name).is_file() else name


def _file_identity(path: Path) -> list[Any]:
    """Return a file's place, size and time of its last change; its place if it is no file."""
    with contextlib.suppress(OSError):
        if path.is_file():
            state = path.stat()
            return [place_of(path), state.st_size, state.st_mtime_ns]
    return [place_of(path)]


def _as_json(value: Any) -> Any:
    if isinstance(value, KeypointSet):
        return value.name
    return vars(value) if dataclasses.is_dataclass(value) else value.tolist()
