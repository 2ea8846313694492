"""Time prediction for photographs, with reading, drawing and writing, against the network alone.

    python scripts/benchmark_photos.py [--config=configs/final.py] [--photos=32] [--width=640]

The photographs are JPEG frames of a drawn clip with two people, whose boxes are given. The network
has the config's size and random weights. Each round times the network alone, on the same crops in
batches of 8. It then times the whole prediction for several choices of outputs: reading, cropping,
predicting, drawing, encoding, writing, and the page if chosen. The table has medians over rounds.
"""

import argparse
import contextlib
import io
import os
import runpy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from flax import nnx

from data_pipelines.synthetic.clip import ClipSettings, draw_clip
from pare_jax.body.io import load_body_data
from pare_jax.body.model import body_from_data
from pare_jax.io.images import encode_jpeg, read_image
from pare_jax.io.progress import ProgressBar
from pare_jax.models import build_model
from pare_jax.prediction.page.entries import RunPage, entries_from_folder
from pare_jax.prediction.page.index_page import write_page
from pare_jax.prediction.predictor import Predictor
from pare_jax.prediction.run.options import DEFAULT_OUTPUTS, Job, PredictionRun
from pare_jax.prediction.run.output_folder import OutputFolder
from pare_jax.prediction.run.photographs import BATCH, predict_photos
from pare_jax.prediction.run.reporting import Reporter
from pare_jax.prediction.smoothing import Smoothing
from pare_jax.prediction.tracking import TrackSettings

ALONE = "the network alone"
OUTPUTS = {
    "outputs: overlay": ("overlay",),
    "outputs: npz, json, overlay": ("npz", "json", "overlay"),
    "outputs: the default": DEFAULT_OUTPUTS,
}


def draw_photos(folder: Path, count: int, width: int) -> list[tuple[Path, np.ndarray]]:
    """Write `count` photographs; return their paths and boxes."""
    settings = ClipSettings(seconds=count / ClipSettings.frame_rate)
    photos = []
    for number, frame in enumerate(draw_clip(settings)):
        scale = width / frame.image.shape[1]
        image = cv2.resize(frame.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        path = folder / f"photo{number:04}.jpg"
        path.write_bytes(encode_jpeg(image))
        photos.append((path, frame.boxes * scale))
    return photos


def network_alone(predictor: Predictor, photos: list[tuple[Path, np.ndarray]]) -> Callable:
    """Return a function that runs the network on everybody's crop, cut beforehand."""
    crops = [predictor.crop(read_image(path), box) for path, boxes in photos for box in boxes]
    batches = [crops[start : start + BATCH] for start in range(0, len(crops), BATCH)]

    def run() -> None:
        waiting = []
        for batch in batches:
            waiting.append(predictor.start(batch, pad_to=BATCH))
            if len(waiting) > 1:
                waiting.pop(0).wait()
        waiting.pop(0).wait()

    return run


def whole_command(
    predictor: Predictor, photos: list[tuple[Path, np.ndarray]], outputs: tuple[str, ...]
) -> Callable:
    """Return a function that predicts the photographs as the command does."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
            folder = Path(name)
            run = PredictionRun(
                predictor=predictor,
                folder=OutputFolder(folder),
                outputs=frozenset(outputs),
                detector=None,
                clip_detector=None,
                tracking=TrackSettings(),
                smoothing=Smoothing(),
                reporter=Reporter(),
            )
            jobs = [
                Job(path, path.stem, path.stem, [list(box) for box in boxes])
                for path, boxes in photos
            ]
            with ProgressBar("photographs", len(jobs)) as bar:
                predict_photos(run, jobs, bar)
            assert len(run.folder) == len(jobs)
            if run.wants("page"):
                write_page(RunPage("A page", entries_from_folder(folder)), folder)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=Path("configs/final.py"))
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--width", type=int, default=640, help="of the photographs, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    config = runpy.run_path(str(arguments.config))["get_config"]()
    network = build_model(config.model, rngs=nnx.Rngs(0))
    network.eval()
    body = load_body_data()
    predictor = Predictor(network, body_from_data(body), config.image_size, body)
    with tempfile.TemporaryDirectory() as name:
        photos = draw_photos(Path(name), arguments.photos, arguments.width)
        people = sum(len(boxes) for _, boxes in photos)
        ways = {ALONE: network_alone(predictor, photos)}
        ways |= {name: whole_command(predictor, photos, kinds) for name, kinds in OUTPUTS.items()}
        times = {name: [] for name in ways}
        for round_ in range(arguments.rounds + 1):  # the first compiles
            for name, way in ways.items():
                wall, processor = time.perf_counter(), time.process_time()
                way()
                taken = time.perf_counter() - wall, time.process_time() - processor
                if round_:
                    times[name].append(taken)
    cores = len(os.sched_getaffinity(0))
    print(
        f"{arguments.config.stem}, {config.image_size} px, {len(photos)} photographs "
        f"{arguments.width} px wide of {people} people, {cores} cores\n"
    )
    print("| what | people a second | of the network alone | processor, ms a person |")
    print("| --- | ---: | ---: | ---: |")
    # Ratios are taken within a round, as other work on the machine varies.
    alone = np.array(times[ALONE])[:, 0]
    for name, taken in times.items():
        wall, processor = np.array(taken).T
        print(
            f"| {name} | {people / np.median(wall):.1f} | {np.median(alone / wall):.2f} "
            f"| {1e3 * np.median(processor) / people:.0f} |"
        )


if __name__ == "__main__":
    main()
