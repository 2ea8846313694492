"""Measures the usual loader of the field, for scripts/benchmark_input.py.

It makes a sample as the datasets of SPIN, PARE and 4D-Humans do: read the whole photograph with
OpenCV, cut and rotate the crop by one warpAffine, mirror it, scale its channels by noise, make it
normalised float32 with channels first, and move the labels in NumPy. Torch's DataLoader has a
worker per core. It runs in a separate process, because forked workers would break TensorFlow's
threads.

    python scripts/benchmark_input_peers.py people.npz 5
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark_releases import CORES, cpu_seconds

from pare_jax.crop import IMAGENET_MEAN, IMAGENET_STD
from pare_jax.skeleton import MIRROR

IMAGE_SIZE, BATCH_SIZE = 224, 64
# The augmentation of configs/common.py, with SPIN's noise.
_SCALE, _ROTATION, _FLIP, _NOISE = 0.25, 30.0, 0.5, 0.4
_MEAN = np.array(IMAGENET_MEAN, np.float32)[:, None, None]
_STD = np.array(IMAGENET_STD, np.float32)[:, None, None]
_MIRROR = np.array(MIRROR)
_MIRROR_ROTATION = np.array([[1, -1, -1], [-1, 1, 1], [-1, 1, 1]], np.float32)


class Photographs:
    """A dataset for torch's DataLoader: people, each with the file of its photograph."""

    def __init__(self, people: dict[str, np.ndarray]):
        """Wrap the people.

        Args:
            people: `files` (n,), `centres` (n, 2) and `sides` (n,) of the network's crops in
                pixels of the photographs, `joints_2d` (n, 24, 2) likewise, and the fields of
                `data_pipelines.example.STORED_FIELDS` without pixels.
        """
        self._people = people

    def __len__(self) -> int:
        """Return the number of people."""
        return len(self._people["files"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read, cut and augment a person."""
        rng = np.random.default_rng()
        person = {name: values[index] for name, values in self._people.items()}
        scale = 1 + np.clip(rng.normal() * _SCALE, -_SCALE, _SCALE)
        angle = np.clip(rng.normal(), -2, 2) * _ROTATION
        mirrored = rng.random() < _FLIP
        noise = rng.uniform(1 - _NOISE, 1 + _NOISE, 3).astype(np.float32)

        image = cv2.imread(str(person["files"]))
        if image is None:
            raise OSError(f"cannot read {person['files']}")
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        centre = person["centres"]
        zoom = IMAGE_SIZE / (person["sides"] * scale)
        affine = cv2.getRotationMatrix2D(centre.tolist(), -angle, zoom)
        affine[:, 2] += IMAGE_SIZE / 2 - centre
        crop = cv2.warpAffine(image, affine, (IMAGE_SIZE, IMAGE_SIZE))
        if mirrored:
            crop = np.fliplr(crop)
        picture = np.clip(crop * noise, 0, 255).transpose(2, 0, 1) / np.float32(255)
        return {
            "image": np.ascontiguousarray((picture - _MEAN) / _STD),
            "betas": person["betas"],
            "weights": person["weights"],
            **_labels(person, affine, np.deg2rad(angle), mirrored),
        }


def _labels(person: dict, affine: np.ndarray, angle: float, mirrored: bool) -> dict[str, Any]:
    joints_2d = person["joints_2d"] @ affine[:, :2].T + affine[:, 2]
    joints_2d = joints_2d / (IMAGE_SIZE / 2) - 1
    turn = cv2.Rodrigues(np.array([0, 0, angle]))[0].astype(np.float32)
    joints_3d, rotations = person["joints_3d"] @ turn.T, person["rotations"].copy()
    rotations[0] = turn @ rotations[0]
    confidence = person["joints_2d_weight"]
    if mirrored:
        joints_2d, joints_3d = joints_2d[_MIRROR] * [-1, 1], joints_3d[_MIRROR]
        joints_3d = joints_3d * np.array([-1, 1, 1], np.float32)
        rotations = rotations[_MIRROR] * _MIRROR_ROTATION
        confidence = confidence[_MIRROR]
    joints_2d = np.concatenate([joints_2d, confidence[:, None]], axis=1)
    return {
        "joints_2d": joints_2d.astype(np.float32),
        "joints_3d": joints_3d,
        "rotations": rotations,
    }


def _start_worker(_number: int) -> None:
    cv2.setNumThreads(0)


def measure(people: dict[str, np.ndarray], seconds: float) -> tuple[float, float]:
    """Return people per second, and per second of processor time.

    Whole passes are measured, because the processor time of workers is known when they have ended.

    Args:
        people: see `Photographs`.
        seconds: measured time.
    """
    import torch.utils.data

    dataset: Any = Photographs(people)

    def one_pass(count: int) -> float:
        sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=count)
        loader = torch.utils.data.DataLoader(
            dataset,
            BATCH_SIZE,
            sampler=sampler,
            num_workers=CORES,
            drop_last=True,
            worker_init_fn=_start_worker,
        )
        start = time.perf_counter()
        for _ in loader:
            pass
        return time.perf_counter() - start

    trial = 2 * CORES * BATCH_SIZE
    # The same number for each worker, so that all end together.
    rounds = int(seconds / one_pass(trial) * 2)
    count = max(2, rounds) * CORES * BATCH_SIZE
    cpu = cpu_seconds()
    elapsed = one_pass(count)
    return count / elapsed, count / (cpu_seconds() - cpu)


def main(path: Path, seconds: float) -> None:
    """Measure with the people in a file; print the two numbers as JSON."""
    with np.load(path) as file:
        people = {name: file[name] for name in file.files}
    print(json.dumps(measure(people, seconds)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
