"""Measure how many synthetic people a core draws in a second.

    python scripts/benchmark_synthetic.py [--count=300] [--repeats=5]

Prints a Markdown table: examples a second on one core for several sizes and meshes (drawing,
labels and encoding, everything `generate_example` does), the fastest of several repeats, for other
work on the machine only ever slows it down. The last line is the rate of all cores together.
"""

import argparse
import dataclasses
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2

from data_pipelines.synthetic.generate import generate_example, generate_examples
from data_pipelines.synthetic.settings import SyntheticSettings

_CASES = ((64, "coarse"), (96, "coarse"), (256, "coarse"), (256, "full"), (384, "full"))


def rate_of_one_core(settings: SyntheticSettings, count: int, repeats: int) -> float:
    """Return examples a second of processor time, the best of `repeats` passes over `count`."""
    generate_example(settings, "train", 0)  # loads the meshes
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        for index in range(count):
            generate_example(settings, "train", index)
        best = min(best, time.process_time() - start)
    return count / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    flags = parser.parse_args()
    cv2.setNumThreads(1)
    default = SyntheticSettings(train=100_000)
    print("| stored side | mesh | examples a second a core | milliseconds each |")
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
    print(
        f"\n{default.image_size} px on {cores} cores, starting them included: {rate:.0f} a second"
    )


if __name__ == "__main__":
    main()
