"""Measures how fast releases are prepared and read: `python scripts/benchmark_input.py`.

    python scripts/benchmark_input.py
    python scripts/benchmark_input.py --raw-pw3d=/raw/3DPW --raw-mpii=/raw/MPII --photographs=1000

Prints the speed of preparing photographs, and of making batches of 224 px with augmentation from
3DPW, from MPII and from the mixture of the experiments. Compares it with the usual loader of the
field, which reads whole photographs (needs torch), for the same people. Without releases, small
ones in the same layouts are drawn.

"per CPU s" divides by the processor time of all threads and processes, so it also holds on a busy
machine. "ratio" divides by the other loader's row for the same people: first people a second and
core, then people a second of processor time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import benchmark_releases as releases
import numpy as np
from benchmark_input_peers import BATCH_SIZE, IMAGE_SIZE
from benchmark_releases import CORES, Prepared, cpu_seconds

from configs import common
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.errors import UserError

# The quickstart's images, which are so small that decoding does not dominate.
_SMALL_SIZE, _SMALL_BATCH = 64, 32
_SMALL = SyntheticSettings(train=256, validation=8, test=8, test_occluded=8)


class Speed(NamedTuple):
    """People a second a core by the clock, and people a second of processor time."""

    per_core: float
    per_cpu_second: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    # Silences TensorFlow.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--raw-pw3d", type=Path, help="folder of the unpacked 3DPW")
    parser.add_argument("--raw-mpii", type=Path, help="folder of the unpacked MPII")
    parser.add_argument(
        "--body", action="append", default=[], help="gendered bodies, for part labels"
    )
    parser.add_argument(
        "--photographs", type=int, default=96, help="number per release; default: 96"
    )
    parser.add_argument(
        "--quality", type=int, default=95, help="JPEG quality of drawn releases; default: 95"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="measured time per row; default: 10"
    )
    flags = parser.parse_args(arguments)
    if flags.photographs < 64:
        parser.error("--photographs: give 64 or more, for a batch of different people")
    given = {"pw3d": flags.raw_pw3d, "mpii": flags.raw_mpii}
    with tempfile.TemporaryDirectory() as folder:
        try:
            sources = {name: path for name, path in given.items() if path} or (
                releases.make_releases(Path(folder), flags.photographs, flags.quality)
            )
            root = Path(folder) / "data"
            prepared = [
                releases.prepare_part(name, path, flags.body, flags.photographs, root)
                for name, path in sources.items()
            ]
        except UserError as error:
            print(f"benchmark_input: {error}", file=sys.stderr)
            return 2
        _print_preparing(prepared)
        _print_input(prepared, root, flags.seconds)
    return 0


def _print_preparing(parts: Sequence[Prepared]) -> None:
    print("\nPreparing, one core, per second of processor time")
    print(
        f"{'':28}{'photographs':>12}{'people':>8}{'kB each':>9}{'kB a crop':>11}"
        f"{'photos read':>13}{'people written':>16}"
    )
    for part in parts:
        print(
            f"{part.name:28}{part.photographs:12}{part.people:8}{part.photograph_bytes / 1e3:9.0f}"
            f"{part.crop_bytes / 1e3:11.0f}{part.photographs / part.read_seconds:13.0f}"
            f"{part.people / part.write_seconds:16.0f}"
        )
        if part.name == "pw3d":
            reading = releases.PW3D_PHOTOGRAPHS * part.read_seconds / part.photographs
            writing = releases.PW3D_PEOPLE * part.write_seconds / part.people
            print(
                f"  all of 3DPW, {releases.PW3D_PHOTOGRAPHS:,} photographs and "
                f"{releases.PW3D_PEOPLE:,} people, at this rate: {reading / 60:.1f} min of one core"
                f" to read, {writing / 60:.1f} min to write"
            )


def _print_input(parts: Sequence[Prepared], root: Path, seconds: float) -> None:
    from data_pipelines.reading import storage

    splits = {part.name: storage.open_split(part.path, "train") for part in parts}
    mixtures = {part.name: [(splits[part.name], 1.0)] for part in parts}
    shares = _mixture()
    if set(shares) == set(splits):
        mixture = " + ".join(f"{share:g} {name}" for name, share in shares.items())
        mixtures[mixture] = [(splits[name], share) for name, share in shares.items()]
    small = [(_small_people(root), 1.0)]
    print(f"\nInput, {IMAGE_SIZE} px, batches of {BATCH_SIZE}, {CORES} cores")
    print(f"{'':52}{'per s/core':>12}{'per CPU s':>11}{'ratio':>14}")
    for name, sources in mixtures.items():
        people = _people(parts, sources)
        peer = _measure_peer(people, root, seconds)
        for row, speed in _measure_ours(sources, seconds).items():
            _print_row(f"{name}: {row}", speed, peer)
        if peer:
            _print_row(f"{name}: torch DataLoader, whole photographs", peer, peer)
    stream = _stream(small, CORES, _SMALL_SIZE, _SMALL_BATCH)
    speed = _measure(stream, _SMALL_BATCH, seconds, CORES)
    _print_row(f"synthetic, {_SMALL_SIZE} px, from shards", speed, None)


def _print_row(name: str, speed: Speed, peer: Speed | None) -> None:
    ratios = [own / other for own, other in zip(speed, peer, strict=True)] if peer else []
    factors = "".join(f"{ratio:6.1f}x" for ratio in ratios)
    print(f"{name:52}{speed.per_core:12.0f}{speed.per_cpu_second:11.0f}{factors:>14}", flush=True)


def _mixture() -> dict[str, float]:
    config = common.get_base().unlock()
    common.use_photographs(config)
    return dict(config.data.train)


def _measure_ours(sources: list, seconds: float) -> dict[str, Speed]:
    from data_pipelines.reading.remembering import remember

    augment = common.get_base().augment
    kept = [
        (remember(source, 2**30, IMAGE_SIZE, augment.scale), share) for source, share in sources
    ]
    rows = {
        "from shards, 1 thread": (sources, 1),
        "from shards": (sources, CORES),
        "decoded once, kept in memory": (kept, CORES),
    }
    return {
        name: _measure(_stream(read, threads), BATCH_SIZE, seconds, threads)
        for name, (read, threads) in rows.items()
    }


def _stream(
    sources: list, threads: int, image_size: int = IMAGE_SIZE, batch_size: int = BATCH_SIZE
) -> Iterator:
    from data_pipelines.reading import input_pipeline

    return input_pipeline.train_batches(
        sources,
        batch_size=batch_size,
        image_size=image_size,
        seed=0,
        augment=common.get_base().augment,
        threads=threads,
    )


def _measure(batches: Iterator, batch_size: int, seconds: float, cores: int) -> Speed:
    """Measure a stream after ten batches of warm-up."""
    for _ in range(10):
        next(batches)
    start, cpu, count = time.perf_counter(), cpu_seconds(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += batch_size
    elapsed, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    batches.close()  # pyright: ignore[reportAttributeAccessIssue] - the pipeline's streams have it
    return Speed(count / elapsed / cores, count / cpu)


def _people(parts: Sequence[Prepared], sources: list) -> dict[str, np.ndarray]:
    """Return the arrays that the other loader needs; people are repeated to keep the shares."""
    from data_pipelines.example import CROP_MARGIN
    from data_pipelines.releases.release import STORED_SIDE
    from data_pipelines.transforms import apply_affine

    by_path = {part.path: part for part in parts}
    total = sum(len(split) for split, _ in sources)
    rows = []
    for split, share in sources:
        part = by_path[split.path]
        for number in range(round(share * total)):
            example = split[number % len(split)]
            to_photo = example["crop_to_photo"].astype(float)
            middle = np.full((1, 2), STORED_SIDE / 2)
            rows.append(
                {
                    "files": str(releases.photograph_of(part.name, part.source, example)),
                    "centres": apply_affine(to_photo, middle)[0],
                    "sides": to_photo[0, 0] * STORED_SIDE / CROP_MARGIN,
                    "joints_2d": apply_affine(to_photo, example["joints_2d"]),
                    "weights": np.array([example["joints_3d_weight"], example["pose_weight"]]),
                    **{
                        name: example[name]
                        for name in ("joints_2d_weight", "joints_3d", "rotations", "betas")
                    },
                }
            )
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _measure_peer(people: dict[str, np.ndarray], root: Path, seconds: float) -> Speed | None:
    """Measure the other loader in a separate process; None without torch."""
    path = root / "people.npz"
    np.savez(path, **people)  # pyright: ignore[reportArgumentType]
    script = Path(__file__).with_name("benchmark_input_peers.py")
    command = [sys.executable, str(script), str(path), str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        print(f"the other loader failed: {ended.stderr.strip().splitlines()[-1:]}")
        return None
    per_second, per_cpu_second = json.loads(ended.stdout)
    return Speed(per_second / CORES, per_cpu_second)


def _small_people(root: Path):
    from data_pipelines.reading import storage
    from data_pipelines.synthetic import builder

    return storage.open_split(builder.prepare(_SMALL, root), "train")


if __name__ == "__main__":
    sys.exit(main())
