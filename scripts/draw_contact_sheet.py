"""Draw 64 people with their labels on one sheet: synthetic people or a prepared dataset.

    python scripts/draw_contact_sheet.py --output=docs/images/synthetic_sheet.jpg
    python scripts/draw_contact_sheet.py --output=sheet.png --split=test_occluded \
        --set image_size=256 --set mesh=full
    python scripts/draw_contact_sheet.py --output=sheet.jpg --data=data --dataset=pw3d --count=16
    python scripts/draw_contact_sheet.py --output=sheet.jpg --data=data --dataset=pw3d --count=16 \
        --body=/raw/SMPL --side=256 --columns=2

Each person has a title with the index in the split. The first of the two squares below it is the
stored crop with the network's crop framed. The second is the dimmed crop under the visible part
labels and the skeleton. The person's left side is blue, the right side orange, the middle white.
Visible joints and joints of unknown visibility are filled, hidden joints are rings, unknown joints
are not drawn. A yellow cross is the top of the head. Dots in the first square are body points as
annotated, in the same colours.

--body adds three squares: the mesh of the labels over the stored crop and over two augmented
network crops, the second of them mirrored.
"""

import argparse
import colorsys
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_pipelines.example import CROP_MARGIN
from data_pipelines.prepare import read_settings
from data_pipelines.reading import storage
from data_pipelines.synthetic.generate import generate_example
from data_pipelines.transforms import Placement
from pare_jax.body.gendered import find_bodies
from pare_jax.body.io import BodyData, load_body_data
from pare_jax.errors import UserError, counted
from pare_jax.keypoints.sets import POINT_NAMES
from pare_jax.rendering.skeleton_lines import LEFT, MIDDLE, RIGHT, draw_skeleton
from pare_jax.rendering.text import grid, titled
from pare_jax.rendering.truth import draw_truth
from pare_jax.skeleton import NUM_PART_LABELS

_COLUMNS = 8
_SUFFIXES = (".jpg", ".jpeg", ".png")
_HEAD_TOP = (255, 255, 0)
_SHIFT = 4
_SIDES = {"left": LEFT, "right": RIGHT}
_NETWORK_SIDE = 224
# The person smaller and turned; then larger, turned the other way and mirrored.
_AUGMENTED = Placement(
    crop_scale=np.array([1.2, 0.9]),
    rotation=np.deg2rad([25.0, -20.0]),
    mirror=np.array([False, True]),
)
_LABELS = ("betas", "rotations", "joints_3d")


def _palette() -> np.ndarray:
    """Return a colour per part label, with different hues for neighbours and black for 0."""
    hues = np.arange(NUM_PART_LABELS) * 0.381966
    colours = np.array([colorsys.hsv_to_rgb(hue % 1.0, 0.75, 1.0) for hue in hues]) * 255
    colours[0] = 0
    return colours


def draw_cell(example: Mapping[str, Any], side: int) -> np.ndarray:
    """Draw one example as two squares beside each other, RGB."""
    image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
    labels = np.zeros((1, 1), np.uint8)
    if example["part_labels"]:
        labels = cv2.imdecode(np.frombuffer(example["part_labels"], np.uint8), cv2.IMREAD_UNCHANGED)
    scale = side / len(image)
    plain = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    tint = _palette()[cv2.resize(labels, (side, side), interpolation=cv2.INTER_NEAREST)]
    dim = 0.45 * plain
    marked = np.where(tint.any(-1, keepdims=True), 0.35 * plain + 0.55 * tint, dim).astype(np.uint8)

    def fixed(point) -> tuple[int, int]:  # OpenCV's origin is the first pixel's centre
        x, y = np.rint((np.asarray(point) * scale - 0.5) * 2**_SHIFT).astype(int)
        return int(x), int(y)

    known = example["joints_2d_weight"][:, None] > 0
    hidden = (example["visible"] == 0) & (example["visible_weight"] > 0)
    joints = np.where(known, example["joints_2d"] * scale, np.nan)
    marked = draw_skeleton(marked, joints, ~hidden, width=1.0)
    if example["head_top_weight"]:
        for arm in (np.array([4, 0]) / scale, np.array([0, 4]) / scale):
            ends = fixed(example["head_top"] - arm), fixed(example["head_top"] + arm)
            cv2.line(marked, *ends, _HEAD_TOP, 1, cv2.LINE_AA, _SHIFT)
    margin = side * (0.5 - 0.5 / CROP_MARGIN)
    for name, place, weight in zip(
        POINT_NAMES, example["points_2d"], example["points_2d_weight"], strict=True
    ):
        if weight:
            colour = _SIDES.get(name.partition("_")[0], MIDDLE)
            cv2.circle(plain, fixed(place), round(1.5 * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT)
    corners = [(round(v), round(v)) for v in (margin, side - margin)]
    cv2.rectangle(plain, *corners, (255, 255, 255), 1)
    return np.hstack([plain, marked])


def draw_meshes(
    example: Mapping[str, Any], bodies: Mapping[str, BodyData], side: int
) -> np.ndarray:
    """Draw the labels' mesh over the stored crop and two augmented ones, side by side, RGB."""
    # Imports TensorFlow, which sheets without --body do not need.
    from data_pipelines.reading import input_pipeline

    body = bodies.get(example["gender"], bodies.get("neutral"))
    image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
    batch = input_pipeline.assemble_batch([([example], 0)] * 2, _AUGMENTED, _NETWORK_SIDE)
    joints = (batch["joints_2d"] + 1.0) * (_NETWORK_SIDE / 2.0)
    shown = [(image, example, example["joints_2d"])]
    shown += [
        (picture, {name: batch[name][row] for name in _LABELS}, joints[row])
        for row, picture in enumerate(batch["image"])
    ]
    cells = []
    for picture, labels, joints_2d in shown:
        scale = side / len(picture)
        cell = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
        if body is not None and example["pose_weight"] and example["joints_3d_weight"]:
            cell = draw_truth(
                cell, body, *(labels[name] for name in _LABELS), np.asarray(joints_2d) * scale
            )
        cells.append(cell)
    return np.hstack(cells)


def load_bodies(place: str) -> dict[str, BodyData]:
    """Load a folder's bodies by gender, or a file's body for everybody."""
    path = Path(place)
    if path.is_file():
        return {"neutral": load_body_data(path)}
    return {gender: load_body_data(file) for gender, file in find_bodies([path]).items()}


def examples(flags: argparse.Namespace) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the examples that the flags name, each with its index in the split."""
    numbers = range(flags.start, flags.start + flags.count)
    if flags.dataset == "synthetic":
        settings = read_settings(flags.config, flags.set)
        return ((number, generate_example(settings, flags.split, number)) for number in numbers)
    try:
        path = storage.find_dataset(flags.data, flags.dataset)
    except storage.MissingDatasetError as error:
        raise UserError(
            f"no prepared dataset in {flags.data / flags.dataset}; give --dataset and --data, or "
            "--dataset=synthetic, which needs none"
        ) from error
    split = storage.open_split(path, flags.split)
    # Spread over the split, as neighbours in a sequence look alike.
    count = min(flags.count, len(split) - flags.start)
    chosen = np.linspace(flags.start, len(split) - 1, max(count, 0)).astype(int)
    return ((int(number), split[int(number)]) for number in chosen)


def _check(flags: argparse.Namespace) -> None:
    """Check the flags before the slow work."""
    if flags.output.suffix.lower() not in _SUFFIXES:
        raise UserError(
            f"--output={flags.output}: give a file that ends in {' or '.join(_SUFFIXES)}"
        )
    for name, least in (("start", 0), ("count", 1), ("side", 16), ("columns", 1)):
        if getattr(flags, name) < least:
            raise UserError(f"--{name}={getattr(flags, name)}: give {least} or more")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    parser.add_argument("--dataset", default="synthetic", help="a prepared dataset, or synthetic")
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder of prepared datasets"
    )
    parser.add_argument("--split", default="train")
    parser.add_argument("--start", type=int, default=0, help="index of the first person")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--side", type=int, default=128, help="side of a square, pixels")
    parser.add_argument("--columns", type=int, default=_COLUMNS, help="people in a row")
    parser.add_argument("--body", help="body file, or folder of gendered ones; draws meshes")
    parser.add_argument("--config", help="config file whose data.synthetic to use")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    flags = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        _check(flags)
        bodies = load_bodies(flags.body) if flags.body else {}
        cells = []
        for number, example in examples(flags):
            cell = draw_cell(example, flags.side)
            if bodies:
                cell = np.hstack([cell, draw_meshes(example, bodies, flags.side)])
            cells.append(titled(cell, f"person {number}"))
        if not cells:
            raise UserError(
                f"--start={flags.start}: {flags.split} has fewer people; give a smaller index"
            )
    except UserError as error:
        print(f"draw_contact_sheet: {error}", file=sys.stderr)
        return 2
    sheet = cv2.cvtColor(grid(cells, flags.columns), cv2.COLOR_RGB2BGR)
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    quality = [] if flags.output.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 85]
    if not cv2.imwrite(str(flags.output), sheet, quality):
        print(
            f"draw_contact_sheet: cannot write {flags.output}; give another path", file=sys.stderr
        )
        return 2
    print(f"{flags.output}: {counted(len(cells), 'person')} of {flags.dataset}/{flags.split}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
