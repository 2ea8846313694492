"""Train the report's three stages at quickstart size, with equally many examples, and compare.

    python scripts/compare_stages.py [--seeds=0,1,2] [--workdir=runs/stages] [--config.KEY=VALUE]

Each stage trains on the quickstart's people. It is tested on held-out people, and on others with an
occluder in front of everybody. Each core trains one run at a time, which is faster than all cores
on one run. The table has mean and range over the seeds and a run's processor time. The command can
be stopped and repeated: finished runs are kept.
"""

import argparse
import concurrent.futures
import importlib
import json
import os
import queue
import subprocess
import sys
from pathlib import Path

import numpy as np

from data_pipelines.synthetic import builder, settings
from pare_jax.io.threads import ThreadPool

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
    # Shows the effect of part labels on attention.
    "final without part labels": ["--config.loss.parts=0.0"],
}


def run_stage(
    stage: str, seed: int, workdir: Path, extra: list[str], cores: "queue.Queue[int]"
) -> dict:
    """Train one stage with one seed on a free core, unless it is finished.

    Returns:
        The contents of metrics.json, with the processor seconds since the run's last start.
    """
    folder = workdir / f"{stage.replace(' ', '_')}_{seed}"
    flags = [f"--config.seed={seed}", *STAGES[stage], *extra]
    finished = folder / "finished.json"
    if not finished.exists():
        core = cores.get()
        try:
            seconds = _train(folder, flags, core)
        finally:
            cores.put(core)
        finished.write_text(json.dumps({"flags": flags, "seconds": seconds}))
    done = json.loads(finished.read_text())
    if done["flags"] != flags:
        raise SystemExit(
            f"{folder} holds a run with {' '.join(done['flags'])}; give another --workdir"
        )
    metrics = json.loads((folder / "eval" / "metrics.json").read_text())
    return metrics | {"seconds": done["seconds"]}


def _train(folder: Path, flags: list[str], core: int) -> float:
    print(f"training in {folder}", flush=True)
    command = [sys.executable, "-m", "pare_jax.main", "--config=configs/quickstart.py"]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--workdir={folder}", *flags],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"training in {folder} failed; see {folder / 'log.txt'}")
    return usage.ru_utime + usage.ru_stime


def spread(values: list[float], digits: int = 1) -> str:
    """Return a mean with the range over seeds, as text."""
    low, high = min(values), max(values)
    return f"{np.mean(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> None:
    """Run the missing runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "stages")
    arguments, extra = parser.parse_known_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    # Prepared once, before the runs, which would each start to.
    data = importlib.import_module("configs.quickstart").get_config().data
    builder.prepare(settings.from_mapping(data.synthetic), ROOT / data.root)
    cores: queue.Queue[int] = queue.Queue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)
    jobs = [(stage, seed) for seed in seeds for stage in STAGES]
    with ThreadPool(cores.qsize()) as pool:
        waiting = {
            pool.submit(run_stage, *job, arguments.workdir.resolve(), extra, cores): job
            for job in jobs
        }
        try:
            done = {waiting[one]: one.result() for one in concurrent.futures.as_completed(waiting)}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    results = {stage: [done[stage, seed] for seed in seeds] for stage in STAGES}
    print("| stage | people | MPJPE mm | of mean pose | PA-MPJPE mm | hidden joints mm | CPU s |")
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
