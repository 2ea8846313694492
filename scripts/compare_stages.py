"""Train the report's three stages at quickstart size, equally many examples each, and compare.

    python scripts/compare_stages.py [--seeds=0,1,2] [--workdir=runs/stages] [--config.KEY=VALUE]

Every stage trains on the quickstart's people and is tested on its held-out people and on others
with a thing in front of every one. Prints a table of mean and range over the seeds, with the time a
run took. Runs that are finished are not repeated, so the command can be stopped and given again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("synthetic/test", "synthetic/test_occluded")
STAGES = {
    "baseline": [
        "--config.model.name=baseline",
        "--config.loss.parts=0.0",
        "--config.model.pose_hidden=(256,)",
        "--config.model.shape_hidden=(256,)",
        "--config.model.camera_hidden=(256,)",
    ],
    "shallow": ["--config.model.num_blocks=2"],
    "final": [],
    # Tells how much of what attention does here is owed to the part labels.
    "final without part labels": ["--config.loss.parts=0.0"],
}


def run_stage(stage: str, seed: int, workdir: Path, extra: list[str]) -> dict:
    """Train one stage with one seed, unless that was done; returns metrics.json and the seconds."""
    folder = workdir / f"{stage.replace(' ', '_')}_{seed}"
    finished = folder / "seconds.json"
    if not finished.exists():
        print(f"{stage}, seed {seed}: training in {folder}", flush=True)
        command = [sys.executable, "-m", "pare_jax.main", "--config=configs/quickstart.py"]
        command += [f"--workdir={folder}", f"--config.seed={seed}", *STAGES[stage], *extra]
        started = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True)
        finished.write_text(json.dumps(time.perf_counter() - started))
    metrics = json.loads((folder / "eval" / "metrics.json").read_text())
    return metrics | {"seconds": json.loads(finished.read_text())}


def spread(values: list[float], digits: int = 1) -> str:
    """Write a mean with the range over seeds."""
    low, high = min(values), max(values)
    return f"{np.mean(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "stages")
    arguments, extra = parser.parse_known_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    results = {stage: [] for stage in STAGES}
    for seed in seeds:
        for stage, runs in results.items():
            runs.append(run_stage(stage, seed, arguments.workdir.resolve(), extra))
    print("| stage | people | MPJPE mm | of constant | PA-MPJPE mm | hidden joints mm | time s |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for stage, runs in results.items():
        seconds = spread([run["seconds"] for run in runs], 0)
        for split in SPLITS:
            rows = [run["splits"][split] for run in runs]
            cells = [
                stage,
                split.split("/")[1],
                spread([row["mpjpe"] for row in rows]),
                spread([row["mpjpe"] / row["mean_pose_mpjpe"] for row in rows], 3),
                spread([row["pa_mpjpe"] for row in rows]),
                spread([row["occluded"]["mpjpe"] for row in rows]),
                seconds,
            ]
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
