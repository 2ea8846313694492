"""Time one photograph with one person from file to overlay, stage by stage, on one core.

    python scripts/benchmark_one_photo.py photo.jpg [--checkpoint=RUN] [--rounds=20]

The models are loaded and compiled before. Times are the process's CPU time, so that other work on
the machine counts little; on an idle core they are the time that passes. The stages are those of
`pare_jax.predict`: reading the file, finding the person with BlazePose, network and body, fitting
(not in the total), drawing the overlay with the view from the side, and encoding it.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--checkpoint", default=None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cores", type=int, default=1)
    arguments = parser.parse_args()
    # Before JAX starts its threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])

    from pare_jax import load_predictor
    from pare_jax.io.images import encode_jpeg, read_photograph
    from pare_jax.prediction.detection import make_detector
    from pare_jax.prediction.drawing import overlay_picture

    detector = make_detector("blazepose")
    predictor = load_predictor(arguments.checkpoint)
    refined = predictor.with_refinement()
    taken: dict[str, list[float]] = {}

    def timed(name: str, do: Callable[[], Any]) -> Any:
        begun = time.process_time()
        result = do()
        taken.setdefault(name, []).append(1e3 * (time.process_time() - begun))
        return result

    for _ in range(arguments.rounds + 2):
        image = timed("read", lambda: read_photograph(arguments.photo)).image
        found = timed("find", lambda image=image: detector(image))
        if not found:
            raise SystemExit(f"nobody was found in {arguments.photo}")
        own = [found[0].box], None, [found[0].keypoints]
        people = timed("network and body", lambda image=image, own=own: predictor(image, *own))
        picture = timed(
            "overlay", lambda image=image, people=people: overlay_picture(image, people)
        )
        timed("encode", lambda picture=picture: encode_jpeg(picture))
        timed("refined", lambda image=image, own=own: refined(image, *own))
    medians = {name: float(np.median(times[2:])) for name, times in taken.items()}
    medians["fitting"] = medians.pop("refined") - medians["network and body"]
    height, width = image.shape[:2]
    print(f"{width} x {height} pixels, {arguments.cores} core(s), medians of {arguments.rounds}\n")
    print("| stage | ms |\n| --- | ---: |")
    for name, milliseconds in medians.items():
        print(f"| {name} | {milliseconds:.0f} |")
    total = sum(milliseconds for name, milliseconds in medians.items() if name != "fitting")
    print(f"| total without fitting | {total:.0f} |")


if __name__ == "__main__":
    main()
