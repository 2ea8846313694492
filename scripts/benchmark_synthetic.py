"""Measure how many synthetic people one core draws per second.

    python scripts/benchmark_synthetic.py [--count=300] [--repeats=5]

It prints a Markdown table of examples per second on one core for several sizes and meshes. An
example takes drawing, labels and encoding, as in `generate_example`. Rates are the fastest of the
repeats, as other work on the machine slows some down. The last line is the rate of all cores.
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
    """Return examples per second of processor time, the best of `repeats` passes over `count`."""
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


if __name__ == "__main__":
    main()
