"""Measure what fine-tuning gains on drawn people who look unlike those of the first run.

    python scripts/measure_finetuning.py --run=runs/quickstart --look=ceiling --labels=2d \
        --photos=people/ceiling --workdir=runs/ceiling [--config.data.photos_share=0.5 ...]

Draws photographs of one person each into --photos, as the first run's people but for the look, and
their labels: COCO's points in 2D, or these with poses in 3D (SPIN's arrays). Runs the fine-tuning
on them; flags of the config are passed on. Then measures other people of the same look, whose pose
is known, with the first weights and with the best fine-tuned ones, kept or not. The last rows are
the first run's own splits, where they are prepared.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from configs.common import get_base
from data_pipelines.preparing.preparation import prepare
from data_pipelines.reading import storage
from data_pipelines.releases.spin import OwnSpin
from data_pipelines.releases.stored_crop import encode_jpeg
from data_pipelines.synthetic import settings as synthetic_settings
from data_pipelines.synthetic.scenery import Scene, draw_scene
from data_pipelines.synthetic.settings import SPLITS, SyntheticSettings
from data_pipelines.synthetic.viewpoints import sample_camera
from pare_jax.body.io import load_body_data
from pare_jax.crop import BOX_SCALE
from pare_jax.errors import UserError
from pare_jax.evaluation.evaluate import Weights
from pare_jax.finetuning.comparison import MEASURES
from pare_jax.finetuning.earlier_data import measure_earlier, splits_at_hand
from pare_jax.finetuning.held_out_people import HeldOutPeople
from pare_jax.io.files import read_json, write_atomically
from pare_jax.keypoints.body_points import PointBody, body_points
from pare_jax.keypoints.sets import COCO17
from pare_jax.training.config import PHOTOGRAPHS
from pare_jax.training.step import network_graphs
from pare_jax.training.trained_run import load_config, load_model, split_checkpoint


class Look(NamedTuple):
    """Changes of the settings with which the first run's people were drawn.

    Attributes:
        changes: of `SyntheticSettings`.
        pitch: least angle by which the camera looks down, degrees.
    """

    changes: Mapping[str, float]
    pitch: float = -90.0


LOOKS = {
    "same": Look({}),
    "ceiling": Look({"pitch": 60.0}, 35.0),
    "night": Look({"clutter": 1.0, "light": 1.0, "degradation": 1.0}),
}
# Each part has its own random streams; the first run's test people are measured, too.
_PARTS = {"train": "train", "test": "validation"}
_SEED = 1
_LABELS = {"2d": "json", "3d": "npz"}
_ROWS = {"missed": "PCK 0.1, %", "mpjpe": "MPJPE, mm", "pa_mpjpe": "PA-MPJPE, mm"}


def draw_part(
    folder: Path, part: str, look: Look, settings: SyntheticSettings, body: PointBody, count: int
) -> None:
    """Write photographs to FOLDER/PART/, labels to FOLDER/PART.json and PART.npz.

    Args:
        folder: of all parts.
        part: "train" or "test".
        look: of the people.
        settings: of the first run's people.
        body: of the keypoints.
        count: number of people.
    """
    settings = dataclasses.replace(settings, seed=_SEED, **look.changes)
    split = _PARTS[part]
    chosen, index = [], 0
    while len(chosen) < count:
        # The camera is what is drawn first.
        rng = np.random.default_rng([settings.seed, SPLITS[split], index])
        down = -np.arcsin(sample_camera(rng, settings).rotation[2, 1])
        chosen += [index] if np.degrees(down) >= look.pitch else []
        index += 1
    scenes = [draw_scene(settings, split, index) for index in chosen]
    (folder / part).mkdir(parents=True, exist_ok=True)
    names = [f"{index:06d}.jpg" for index in chosen]
    for name, scene in zip(names, scenes, strict=True):
        (folder / part / name).write_bytes(encode_jpeg(scene.image))
    points = coco_points(scenes, body)
    middle, box = settings.image_size / 2.0, scenes[0].crop.box_side
    people = [scene.person for scene in scenes]
    vectors = Rotation.from_matrix(np.concatenate([one.rotations for one in people])).as_rotvec()
    np.savez(
        folder / f"{part}.npz",
        imgname=np.array(names),
        center=np.full((count, 2), middle),
        scale=np.full(count, BOX_SCALE * box / 200.0),
        part=points,
        pose=vectors.reshape(count, -1),
        shape=np.array([one.betas for one in people]),
    )
    square = [middle - box / 2.0, middle - box / 2.0, box, box]
    labels = coco_labels(names, settings.image_size, square, points)
    # Written last: what exists is complete.
    write_atomically(folder / f"{part}.json", json.dumps(labels).encode())


def coco_points(scenes: list[Scene], body: PointBody) -> Float[np.ndarray, "people 17 3"]:
    """Return COCO's points in pixels with confidence; those outside the photograph are unknown."""
    rotations = np.array([scene.person.rotations for scene in scenes], np.float32)
    betas = np.array([scene.person.betas for scene in scenes], np.float32)
    placed, joints = (np.asarray(x) for x in jax.jit(body.place)(rotations, betas))
    about_pelvis = placed - joints[:, :1]
    rows = np.zeros((len(scenes), len(COCO17.points), 3))
    for row, scene, points in zip(rows, scenes, about_pelvis, strict=True):
        pelvis = scene.person.surface.joints[0]
        pixels = scene.crop.points(scene.camera.project(points[list(COCO17.indices)] + pelvis))
        shown = scene.crop.shows(pixels)
        row[shown, :2], row[shown, 2] = pixels[shown], 1.0
    return rows


def coco_labels(names: list[str], side: int, box: list[float], points: np.ndarray) -> Any:
    """Return a file of COCO's keypoints: photographs of one size, one person each in one box."""
    images = [
        {"id": k, "file_name": name, "width": side, "height": side} for k, name in enumerate(names)
    ]
    annotations = [
        {
            "id": k,
            "image_id": k,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": box,
            "num_keypoints": int((rows[:, 2] > 0).sum()),
            "keypoints": (rows * [1.0, 1.0, 2.0]).round(2).ravel().tolist(),
        }
        for k, rows in enumerate(points)
    ]
    return {"images": images, "annotations": annotations}


def measure(run: Path, workdir: Path, photos: Path) -> list[tuple[str, float, float]]:
    """Return rows of the table: what, before, after.

    Args:
        run: the first run.
        workdir: of the fine-tuning.
        photos: the folder of `draw_part`.
    """
    step = read_json(workdir / "finetuning" / "comparison.json")["step"]
    config = load_config(workdir, get_base())
    first, tuned = load_model(run)[1], load_model(workdir / "checkpoints" / str(step))[1]
    weights = [
        Weights(*nnx.split(one, nnx.Param, ...)[1:], "last", at)
        for one, at in ((first, 0), (tuned, step))
    ]
    reader = OwnSpin(photos / "test.npz", photos / "test", PHOTOGRAPHS, 1.0, COCO17.name)
    split = storage.open_split(prepare(reader, photos / "prepared"), "validation")
    people = HeldOutPeople(split, config)
    errors = [people.errors(one.params, one.batch_stats) for one in weights]
    rows = []
    for name in MEASURES:
        pair = [float(np.nanmean(one[name])) for one in errors]
        pair = [100.0 - value for value in pair] if name == "missed" else pair
        rows.append((f"{len(split)} other people: {_ROWS[name]}", *pair))
    earlier, root = load_config(split_checkpoint(run)[0], get_base()), config.data.root
    graphs, names = network_graphs(first), splits_at_hand(earlier, root)
    kept = measure_earlier(config, earlier, workdir, names, weights, graphs)
    return rows + [(f"{one.split}: MPJPE, mm", one.before, one.after) for one in kept]


def main(arguments: list[str] | None = None) -> None:
    """Draw, fine-tune, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="the first run, on drawn people")
    parser.add_argument("--look", choices=LOOKS, default="ceiling")
    parser.add_argument("--labels", choices=_LABELS, default="2d")
    parser.add_argument("--people", type=int, default=2000, help="photographs to fine-tune on")
    parser.add_argument("--test", type=int, default=1000, help="other people to measure")
    parser.add_argument("--photos", type=Path, required=True, help="folder of the drawn people")
    parser.add_argument("--workdir", type=Path, required=True, help="of the fine-tuning")
    options, others = parser.parse_known_args(arguments)
    config = load_config(split_checkpoint(options.run)[0], get_base())
    settings = synthetic_settings.from_mapping(config.data.synthetic)
    body = body_points(load_body_data(config.body_model or None))
    for part, count in (("train", options.people), ("test", options.test)):
        drawn, wanted = (
            options.photos / f"{part}_drawn.json",
            {"look": options.look, "people": count},
        )
        if not drawn.exists():
            draw_part(options.photos, part, LOOKS[options.look], settings, body, count)
            write_atomically(drawn, json.dumps(wanted).encode())
        elif read_json(drawn) != wanted:
            raise UserError(f"{options.photos} has other people: give another folder as --photos")
    labels = options.photos / f"train.{_LABELS[options.labels]}"
    command = [
        *(sys.executable, "-m", "pare_jax.main", "--config=configs/finetune.py"),
        f"--workdir={options.workdir}",
        f"--config.pretrained.path={options.run}",
        f"--config.data.photos={options.photos / 'train'}",
        f"--config.data.labels={labels}",
        f"--config.data.keypoint_set={COCO17.name}",
        *others,
    ]
    subprocess.run(command, check=True)
    print("| what | before | after |\n| --- | ---: | ---: |")
    for what, before, after in measure(options.run, options.workdir, options.photos):
        print(f"| {what} | {before:.1f} | {after:.1f} |")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"measure_finetuning: {error}")
