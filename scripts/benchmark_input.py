"""Measure the input pipeline: `python scripts/benchmark_input.py`.

Prints examples a second for the quickstart's size and for 224 px, beside the loaders people
usually write: OpenCV reads, numpy moves the labels, torch's DataLoader collects (rows appear when
torch is installed). All rows use the same synthetic people, which are drawn first where they are
not there yet. "per CPU s" counts the processor time of all threads and processes, so it holds on a
machine that is busy with other things too; "ratio" is of that column, to the crops loader.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.synthetic.generate import generate_examples
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.augment import IMAGENET_MEAN, IMAGENET_STD, AugmentSettings
from pare_jax.skeleton import MIRROR

CORES = len(os.sched_getaffinity(0))
PHOTO_SIZE = (1920, 1080)


class Geometry(AugmentSettings):
    """The geometric augmentation of configs/common.py."""

    scale, rotation, flip = 0.25, 30.0, 0.5


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data-root", default="data", help="where prepared datasets lie")
    parser.add_argument("--examples", type=int, default=256, help="people in each dataset")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of each row")
    arguments = parser.parse_args()
    if arguments.examples < 64:
        parser.error("--examples: at least 64, one batch")
    few = {"train": arguments.examples, "validation": 8, "test": 8, "test_occluded": 8}
    sizes = (
        (64, 32, SyntheticSettings(**few, image_size=96, mesh="coarse")),
        (224, 64, SyntheticSettings(**few, image_size=384, mesh="full")),
    )
    # The other loaders fork their workers, which must happen before TensorFlow starts threads.
    peers = [_measure_peers(*size, arguments.seconds) for size in sizes]
    for size, rows in zip(sizes, peers, strict=True):
        rows = _measure_ours(*size, arguments.data_root, arguments.seconds) | rows
        image_size, batch_size, settings = size
        print(f"\n{image_size} px from crops of {settings.image_size} px, batch {batch_size}")
        print(f"{'':44}{'per s':>9}{'per s/core':>12}{'per CPU s':>11}{'ratio':>7}")
        reference = rows.get("torch DataLoader, crops", (0.0, 0.0))[1]
        for name, (per_second, per_cpu_second) in rows.items():
            ratio = f"{per_cpu_second / reference:7.1f}" if reference else f"{'-':>7}"
            per_core = per_second / (1 if "1 thread" in name else CORES)
            print(f"{name:44}{per_second:9.0f}{per_core:12.0f}{per_cpu_second:11.0f}{ratio}")


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _measure(batches: Iterator, batch_size: int, seconds: float) -> tuple[float, float]:
    """Return examples per second and per second of processor time."""
    for _ in range(2 * CORES):
        next(batches)
    start, cpu, count = time.perf_counter(), _cpu_seconds(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += batch_size
    return count / (time.perf_counter() - start), count / (_cpu_seconds() - cpu)


def _measure_ours(
    image_size: int,
    batch_size: int,
    settings: SyntheticSettings,
    data_root: str,
    seconds: float,
) -> dict[str, tuple[float, float]]:
    from data_pipelines import input_pipeline, storage
    from data_pipelines.synthetic import builder

    source = storage.open_split(builder.prepare(settings, data_root), "train")

    def read() -> Iterator:
        while True:
            for start in range(0, len(source) - batch_size + 1, batch_size):
                yield [source[index] for index in range(start, start + batch_size)]

    def stream(data, threads: int) -> Iterator:
        return input_pipeline.train_batches(
            [(data, 1.0)],
            batch_size=batch_size,
            image_size=image_size,
            seed=0,
            augment=Geometry(),
            threads=threads,
        )

    in_memory = [source[index] for index in range(len(source))]
    return {
        "reading records alone, 1 thread": _measure(read(), batch_size, seconds),
        "ours, records in memory, 1 thread": _measure(stream(in_memory, 1), batch_size, seconds),
        "ours, from shards, 1 thread": _measure(stream(source, 1), batch_size, seconds),
        "ours, from shards": _measure(stream(source, CORES), batch_size, seconds),
    }


def _measure_peers(
    image_size: int, batch_size: int, settings: SyntheticSettings, seconds: float
) -> dict[str, tuple[float, float]]:
    """Measure loaders over files of the crops, and of photographs that contain them."""
    try:
        import torch.utils.data
    except ImportError:
        return {}
    records = list(generate_examples(settings, "train"))
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, offset in (("crops", (0, 0)), ("whole photographs", (700, 300))):
            files = [
                _write(Path(folder) / f"{name}{index}.jpg", record, offset)
                for index, record in enumerate(records)
            ]
            dataset = _FileLoader(files, records, offset, settings.image_size, image_size)
            rows[f"torch DataLoader, {name}"] = _measure_torch(
                torch.utils.data, dataset, batch_size, seconds
            )
    return rows


def _write(path: Path, record: dict, offset: tuple[int, int]) -> str:
    picture = cv2.imdecode(np.frombuffer(record["image"], np.uint8), cv2.IMREAD_COLOR)
    side, (x, y) = len(picture), offset
    if offset != (0, 0):
        photo = cv2.resize(picture, PHOTO_SIZE)
        photo[y : y + side, x : x + side] = picture
        picture = photo
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return str(path)


def _measure_torch(torch_data, dataset, batch_size: int, seconds: float) -> tuple[float, float]:
    """Measure whole passes, since workers' processor time is known only once they have ended."""

    def one_pass(count: int) -> float:
        sampler = torch_data.RandomSampler(dataset, replacement=True, num_samples=count)
        loader = torch_data.DataLoader(
            dataset, batch_size, sampler=sampler, num_workers=CORES, drop_last=True
        )
        start = time.perf_counter()
        for _ in loader:
            pass
        return time.perf_counter() - start

    trial = 8 * batch_size
    count = max(trial, int(seconds / one_pass(trial) * trial) // batch_size * batch_size)
    cpu = _cpu_seconds()
    elapsed = one_pass(count)
    return count / elapsed, count / (_cpu_seconds() - cpu)


class _FileLoader:
    """A dataset as projects in this field usually write it: one picture file per sample."""

    def __init__(self, files, records, offset, side, image_size):
        self.files, self.records, self.offset = files, records, np.asarray(offset)
        self.side, self.image_size = side, image_size

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        cv2.setNumThreads(0)
        rng, record, size = np.random.default_rng(), self.records[index], self.image_size
        image = cv2.cvtColor(cv2.imread(self.files[index]), cv2.COLOR_BGR2RGB)
        zoom = 1.5 * size / self.side / rng.uniform(1 - Geometry.scale, 1 + Geometry.scale)
        angle = np.clip(rng.normal(), -2, 2) * Geometry.rotation
        centre = self.offset + self.side / 2
        affine = cv2.getRotationMatrix2D(centre, angle, zoom)
        affine[:, 2] += size / 2 - centre
        crop = cv2.warpAffine(image, affine, (size, size))
        joints_2d = record["joints_2d"] + self.offset
        joints_2d = joints_2d @ affine[:, :2].T + affine[:, 2]
        joints_3d, rotations = record["joints_3d"].copy(), record["rotations"].copy()
        turn = cv2.Rodrigues(np.array([0, 0, -np.deg2rad(angle)]))[0]
        joints_3d, rotations[0] = joints_3d @ turn.T, turn @ rotations[0]
        parts = cv2.imdecode(np.frombuffer(record["part_labels"], np.uint8), cv2.IMREAD_UNCHANGED)
        if rng.random() < Geometry.flip:
            crop = crop[:, ::-1]
            joints_2d[:, 0] = size - joints_2d[:, 0]
            joints_2d, joints_3d = joints_2d[list(MIRROR)], joints_3d[list(MIRROR)] * [-1, 1, 1]
            flip = np.diag([-1.0, 1.0, 1.0])
            rotations = flip @ rotations[list(MIRROR)] @ flip
        picture = np.transpose(crop.astype(np.float32) / 255, (2, 0, 1))
        mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
        return {
            "image": ((picture - mean[:, None, None]) / std[:, None, None]).astype(np.float32),
            "joints_2d": (joints_2d / size * 2 - 1).astype(np.float32),
            "joints_3d": joints_3d.astype(np.float32),
            "rotations": rotations.astype(np.float32),
            "part_labels": cv2.resize(parts, (size // 4, size // 4), interpolation=0),
            "betas": record["betas"],
        }


if __name__ == "__main__":
    main()
