"""Measure time and memory of converting a weight file for a network.

    python scripts/benchmark_convert.py
    python scripts/benchmark_convert.py --backbone=resnet152 --repeats=5
    python scripts/benchmark_convert.py --format=pare --backbone=hrnet_w32

Without --file it makes a file of random numbers in torchvision's, HRNet's or PARE's format. Each
measurement runs in its own process. It gives the time from the path to converted arrays, and the
process' growth in memory after its imports.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def make_file(path: Path, backbone: str, format: str) -> None:
    """Write a file of random numbers with a network's names and shapes."""
    from flax import nnx

    from pare_jax.models import build_model
    from pare_jax.models.flat_state import of_network
    from pare_jax.pretrained.load import FORMATS
    from pare_jax.pretrained.table import shape_of_theirs
    from pare_jax.pretrained.write import save_tensors

    model = _model(backbone)
    template = of_network(nnx.eval_shape(lambda: build_model(model, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    table = FORMATS[format].table(model)
    shapes = {e.theirs: shape_of_theirs(e, template[e.ours].shape) for e in table}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_tensors(tensors, path)


def measure(path: Path, backbone: str) -> dict[str, float]:
    """Convert once; return seconds and mebibytes."""
    from pare_jax.pretrained.load import convert
    from pare_jax.pretrained.read import read_weights

    if path.suffix != ".safetensors":
        import torch  # noqa: F401  # imported before the measurement
    else:
        import safetensors  # noqa: F401
    model = _model(backbone)
    before = _memory("VmRSS")
    started = time.perf_counter()
    flat, _ = convert(read_weights(path), model)
    seconds = time.perf_counter() - started
    grown = _memory("VmHWM") - before
    size = sum(value.nbytes for value in flat.values())
    return {"seconds": seconds, "grown_mib": grown, "arrays_mib": size / 2**20}


def _memory(field: str) -> float:
    """Return this process' memory in mebibytes: VmRSS, used now, or VmHWM, the peak."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def _model(backbone: str):
    from configs import common, pare

    # PARE's config has the branches for HRNet.
    model = (pare.get_config() if backbone.startswith("hrnet") else common.get_base()).model
    model.align_corners = True
    model.backbone = backbone
    return model


def main() -> None:
    """Measure in separate processes and print a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--format", default="resnet", choices=["resnet", "hrnet", "pare"])
    parser.add_argument("--file", type=Path, help="weight file (default: a random one)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(measure(arguments.file, arguments.backbone)))
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [arguments.file]
        if arguments.file is None:
            files = [Path(folder) / f"weights{suffix}" for suffix in (".pth", ".safetensors")]
            for path in files:
                make_file(path, arguments.backbone, arguments.format)
        for path in files:
            command = [sys.executable, __file__, "--once", f"--file={path}"]
            command += [f"--backbone={arguments.backbone}"]
            rows = [
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                for _ in range(arguments.repeats)
            ]
            best = min(rows, key=lambda row: row["seconds"])
            print(
                f"{arguments.format} {arguments.backbone} {path.suffix}: {best['seconds']:.2f} s, "
                f"{best['grown_mib']:.0f} MiB more than after the imports, "
                f"{best['arrays_mib']:.0f} MiB of them arrays "
                f"(file {path.stat().st_size / 2**20:.0f} MiB)"
            )


if __name__ == "__main__":
    main()
