"""Makes photographs and clips of red spots, their boxes, and settings of runs."""

from pathlib import Path

import cv2
import numpy as np

from pare_jax.io.images import encode_png
from pare_jax.io.video import VideoWriter
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.run.options import PredictionRun
from pare_jax.prediction.run.output_folder import OutputFolder
from pare_jax.prediction.run.reporting import Reporter
from pare_jax.prediction.smoothing import Smoothing
from pare_jax.prediction.tracking import TrackSettings
from tests.prediction.predict_fakes import box_about, photo_with_spots


def save_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        picture = photo_with_spots((60.0 + number, 90.0), height=160, width=120)
        (folder / f"p{number:02}.png").write_bytes(encode_png(picture))
    return folder


def save_clip(path: Path, frames: int = 12, speed: float = 4.0) -> list[tuple[float, float]]:
    """Write a clip of two people who walk towards each other; returns the first one's places."""
    places = [(60.0 + speed * number, 90.0) for number in range(frames)]
    with VideoWriter(path, 20) as writer:
        for x, y in places:
            writer.write(photo_with_spots((x, y), (340.0 - x, y + 110.0)))
    return places


def boxes_of_clip(places) -> list[list[tuple[float, ...]]]:
    return [[box_about(x, y, 60, 100), box_about(340.0 - x, y + 110.0, 60, 100)] for x, y in places]


def stamps(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in output.glob("p*")}


def spots_detector(image):
    """Detect the red discs."""
    red = (image[..., 0].astype(int) - image[..., 1] > 100).astype(np.uint8)
    count, _, _, centres = cv2.connectedComponentsWithStats(red)
    boxes = [np.array(box_about(*centres[n], 60, 100)) for n in range(1, count)]
    return [Detection(box, 0.9) for box in boxes]


def make_run(predictor, output: Path, *outputs: str, clip_detector=None) -> PredictionRun:
    """Return the settings of a run with these outputs, without the command."""
    output.mkdir()
    return PredictionRun(
        predictor=predictor,
        folder=OutputFolder(output),
        outputs=frozenset(outputs),
        detector=None,
        clip_detector=clip_detector,
        tracking=TrackSettings(),
        smoothing=Smoothing(),
        reporter=Reporter(),
    )
