"""Measure how many synthetic people, and how many poses alone, one core draws per second.

    python scripts/benchmark_synthetic.py [--count=300] [--repeats=5]

It prints a Markdown table of examples per second on one core for several sizes and meshes. An
example takes drawing, labels and encoding, as in `generate_example`. Rates are the fastest of the
repeats, as other work on the machine slows some down. The next line is the rate of all cores. The
second table is poses per second on one core, one at a time and in batches.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np

from data_pipelines.synthetic.generate import generate_example, generate_examples
from data_pipelines.synthetic.meshes import load_mesh
from data_pipelines.synthetic.pose_pool import draw_pose_pool
from data_pipelines.synthetic.poses import sample_pose, sample_poses
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.skeleton import NUM_BETAS

_CASES = ((64, "coarse"), (96, "coarse"), (256, "coarse"), (256, "full"), (384, "full"))


def rate_of_one_core(settings: SyntheticSettings, count: int, repeats: int) -> float:
    """Return examples per second of processor time, the best of `repeats` passes over `count`."""
    generate_example(settings, "train", 0)  # loads the meshes

    def draw() -> None:
        for index in range(count):
            generate_example(settings, "train", index)

    return count / _fastest(draw, repeats)


def rates_of_poses(everyday: float, count: int, repeats: int) -> dict[str, float]:
    """Return poses per second of processor time, by how they are drawn."""
    rest_joints = load_mesh("coarse").rest_joints(np.zeros(NUM_BETAS))

    def one_at_a_time() -> None:
        rng = np.random.default_rng(0)
        for _ in range(count):
            sample_pose(rng, everyday, rest_joints, 1.0)

    def in_batches() -> None:
        sample_poses(np.random.default_rng(0), 10 * count, everyday, rest_joints, 1.0)

    return {
        "one at a time": count / _fastest(one_at_a_time, repeats),
        "in batches": 10 * count / _fastest(in_batches, repeats),
        "pool of poses": 10 * count / _fastest(lambda: draw_pose_pool(0, 10 * count), repeats),
    }


def _fastest(work: Callable[[], object], repeats: int) -> float:
    """Return the least processor time of several repeats, seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="examples in each pass")
    parser.add_argument("--repeats", type=int, default=5, help="passes of each size")
    flags = parser.parse_args()
    cv2.setNumThreads(1)
    default = SyntheticSettings(train=100_000)
    print("| stored side | mesh | examples per second and core | milliseconds each |")
    print("| --- | --- | --- | --- |")
    for size, mesh in _CASES:
        settings = dataclasses.replace(default, image_size=size, mesh=mesh)
        rate = rate_of_one_core(settings, flags.count, flags.repeats)
        print(f"| {size} | {mesh} | {rate:.0f} | {1000 / rate:.1f} |", flush=True)
    cores = len(os.sched_getaffinity(0))
    count = 10 * flags.count * cores
    start = time.perf_counter()
    for _ in generate_examples(default, "train", 0, count, cores):
        pass
    rate = count / (time.perf_counter() - start)
    print(f"\n{default.image_size} px, {cores} cores, their start included: {rate:.0f} per second")
    print("\n| poses | per second and core | times as fast |")
    print("| --- | --- | --- |")
    rates = rates_of_poses(default.everyday, flags.count, flags.repeats)
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} | {rate / rates['one at a time']:.1f} |")


if __name__ == "__main__":
    main()
