"""Measure the body against smplx and body-models: `python scripts/benchmark_body.py`.

All compute vertices from shape coefficients and rotation matrices, in float32, for one random
model in SMPL's format with SMPL's 6890 vertices. "forward+backward" adds the gradient with respect
to both inputs. Packages that are not installed have no column. Times are medians of wall time. The
libraries take turns with pauses in between, because their idle threads spin. The line at the end is
the largest memory of the whole process.

The floors are this machine's time for the formulas' arithmetic, at the measured speed of a large
matrix product, and for moving each array once, at the measured speed of a large copy.
"""

import argparse
import contextlib
import importlib.util
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from pare_jax.body.io import load_body_data
from pare_jax.body.model import body_from_data
from pare_jax.skeleton import PARENTS

VERTICES, COEFFICIENTS = 6890, 10 + 207
PAUSE_S = 0.3  # seconds; idle threads of OpenMP and XLA spin for less
Timed = dict[str, Callable[[], object]]  # "forward", "forward+backward", "joints"


def random_model(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return arrays of SMPL's sizes, with four joints a vertex and a sparse regressor."""
    weights = rng.random((VERTICES, 24)) ** 4
    weights[weights < np.sort(weights, axis=1)[:, [-4]]] = 0
    regressor = rng.random((24, VERTICES)) * (rng.random((24, VERTICES)) < 0.01)
    return {
        "v_template": rng.normal(0, 0.5, (VERTICES, 3)),
        "shapedirs": rng.normal(0, 0.02, (VERTICES, 3, 10)),
        "posedirs": rng.normal(0, 0.005, (VERTICES, 3, 207)),
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "f": rng.integers(0, VERTICES, (13776, 3)),
        "kintree_table": np.array([[p % 2**32 for p in PARENTS], range(24)], np.uint32),
    }


def random_inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    """Return shape coefficients, rotations and a gradient of the vertices, float32."""
    rotations, _ = np.linalg.qr(rng.normal(size=(batch, 24, 3, 3)))
    rotations *= np.linalg.det(rotations)[..., None, None]
    inputs = rng.normal(size=(batch, 10)), rotations, rng.normal(size=(batch, VERTICES, 3))
    return tuple(x.astype(np.float32) for x in inputs)


def ours(path: Path, inputs) -> Timed:
    """Return the passes of this package."""
    body = body_from_data(load_body_data(path))
    betas, rotations, cotangent = (jnp.asarray(x) for x in inputs)

    def loss(betas, rotations, body):
        return (body(betas, rotations).vertices * cotangent).sum()

    gradient = jax.jit(jax.grad(loss, (0, 1)))
    return {
        "forward": lambda: jax.block_until_ready(body(betas, rotations)),
        "forward+backward": lambda: jax.block_until_ready(gradient(betas, rotations, body)),
        "joints": lambda: jax.block_until_ready(body.joints(betas, rotations)),
    }


def with_smplx(path: Path, inputs) -> Timed:
    """Return the passes of smplx (PyTorch)."""
    import smplx
    import torch

    struct = smplx.utils.Struct(**np.load(path))
    with contextlib.redirect_stdout(None):  # hides a warning about ten shape coefficients
        model = smplx.SMPL(str(path), data_struct=struct, batch_size=len(inputs[0]))
    betas, rotations, cotangent = (torch.tensor(x) for x in inputs)

    def run(betas, rotations):
        return model(
            betas=betas,
            global_orient=rotations[:, :1],
            body_pose=rotations[:, 1:],
            pose2rot=False,
        ).vertices

    return _torch_passes(torch, run, betas, rotations, cotangent)


def body_models_torch(path: Path, inputs) -> Timed:
    """Return the passes of body-models on PyTorch."""
    import torch
    from body_models.smpl.torch import SMPL

    model = SMPL(model_path=path, rotation_type="matrix")
    betas, rotations, cotangent = (torch.tensor(x) for x in inputs)

    def run(betas, rotations):
        return model.forward_vertices(
            rotations[:, 1:], pelvis_rotation=rotations[:, 0], shape=betas
        )

    return _torch_passes(torch, run, betas, rotations, cotangent)


def _torch_passes(torch, run, betas, rotations, cotangent) -> Timed:
    def forward():
        with torch.no_grad():
            return run(betas, rotations)

    def both():
        leaves = betas.detach().requires_grad_(), rotations.detach().requires_grad_()
        return torch.autograd.grad((run(*leaves) * cotangent).sum(), leaves)

    return {"forward": forward, "forward+backward": both}


def body_models_jax(path: Path, inputs) -> Timed:
    """Return the passes of body-models on JAX."""
    from body_models.smpl.jax import SMPL

    model = SMPL(model_path=path, rotation_type="matrix")
    betas, rotations, cotangent = (jnp.asarray(x) for x in inputs)

    def run(betas, rotations):
        return model.forward_vertices(
            rotations[:, 1:], pelvis_rotation=rotations[:, 0], shape=betas
        )

    forward = jax.jit(run)
    gradient = jax.jit(jax.grad(lambda b, r: (run(b, r) * cotangent).sum(), (0, 1)))
    return {
        "forward": lambda: jax.block_until_ready(forward(betas, rotations)),
        "forward+backward": lambda: jax.block_until_ready(gradient(betas, rotations)),
    }


LIBRARIES = {
    "pare_jax": ours,
    "smplx": with_smplx,
    "body-models (JAX)": body_models_jax,
    "body-models (torch)": body_models_torch,
}


def measure(passes: dict[tuple[str, str], Callable], seconds: float, rounds: int = 3):
    """Return each pass' median wall time, ms; each gets `seconds`, split into rounds."""
    times = {key: [] for key in passes}
    for _ in range(rounds):
        for key, call in passes.items():
            time.sleep(PAUSE_S)
            call()
            end = time.perf_counter() + seconds / rounds
            while time.perf_counter() < end or len(times[key]) < 2:
                start = time.perf_counter()
                call()
                times[key].append((time.perf_counter() - start) * 1e3)
    return {key: float(np.median(values)) for key, values in times.items()}


def machine_speed() -> tuple[float, float]:
    """Measure FLOP/s of a large float32 product and bytes/s of a large copy."""
    a = jnp.ones((2048, 2048))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    source, target = np.ones((2, 64 * 2**20), np.float32)  # new memory would cause page faults
    calls = {
        ("product", ""): lambda: product(a).block_until_ready(),
        ("copy", ""): lambda: np.copyto(target, source),
    }
    took = measure(calls, 1.0)
    flops = 2 * 2048**3 / took["product", ""] * 1e3
    return flops, 2 * source.nbytes / took["copy", ""] * 1e3


def floors(batch: int, backward: bool, speed: tuple[float, float]) -> tuple[float, float]:
    """Return the arithmetic and the memory floor, ms."""
    blend, skin = 2 * COEFFICIENTS * 3 * VERTICES, 2 * 12 * 24 * VERTICES
    apply = 2 * 9 * VERTICES
    constants = 4 * (COEFFICIENTS * 3 + 24) * VERTICES
    result = 4 * 3 * VERTICES * batch
    if not backward:
        flops, moved = blend + skin + apply, constants + result
    else:  # each product once more, transposed, and both sides of `apply`
        flops, moved = 2 * (blend + skin) + 3 * apply, 2 * (constants + result)
    return batch * flops / speed[0] * 1e3, moved / speed[1] * 1e3


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each number")
    parser.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the other packages; at batch 16384 they need more than 24 GB",
    )
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    speed = machine_speed()
    print(
        f"{jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} cores: "
        f"{speed[0] / 1e9:.0f} GFLOP/s, {speed[1] / 1e9:.1f} GB/s\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "body.npz"
        np.savez(path, **random_model(rng))
        chosen = LIBRARIES if arguments.peers else {"pare_jax": ours}
        libraries = {n: prepare for n, prepare in chosen.items() if is_installed(n)}
        print_head(list(libraries))
        joint_lines = []
        for batch in arguments.batches:
            inputs, passes = random_inputs(rng, batch), {}
            for name, prepare in libraries.items():
                passes |= {(name, what): call for what, call in prepare(path, inputs).items()}
            took = measure(passes, arguments.seconds)
            print_rows(batch, list(libraries), took, speed)
            joints, mesh = (took["pare_jax", what] for what in ("joints", "forward"))
            joint_lines.append(f"| {batch} | {joints:.3f} | {mesh / joints:.0f}x |")
    print("\n| batch | joints alone, ms | mesh / joints |\n| ---: | ---: | ---: |")
    print("\n".join(joint_lines))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\nlargest memory: {peak:.1f} GB")


def is_installed(library: str) -> bool:
    """Return whether the package behind a name of LIBRARIES is installed."""
    module = library.split()[0].replace("-", "_")
    return importlib.util.find_spec(module) is not None


def print_head(names: list[str]) -> None:
    """Print the table's head in Markdown."""
    ratios = [f"{name} / ours" for name in names[1:]]
    heads = [*names, *ratios, "arithmetic floor", "memory floor"]
    print("| batch | median ms | " + " | ".join(heads) + " |")
    print("| ---: | --- |" + " ---: |" * len(heads), flush=True)


def print_rows(batch: int, names: list[str], took: dict, speed: tuple[float, float]) -> None:
    """Print one batch size's rows."""
    for what in ("forward", "forward+backward"):
        times = [took[name, what] for name in names]
        ratios = [f"{t / times[0]:.1f}x" for t in times[1:]]
        limits = [f"{t:.2f}" for t in floors(batch, what != "forward", speed)]
        cells = [f"{t:.2f}" for t in times] + ratios + limits
        print(f"| {batch} | {what} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
