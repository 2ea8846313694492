"""Time the operations that are written another way than usual, beside the usual way.

    python scripts/benchmark_layers.py [--batch=32] [--seconds=1.0]

Prints milliseconds of forward and backward (gradients in the input and the weights), medians, both
ways measured in turn in one run, and their ratio.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pare_jax.models.branches import upsample, upsample_and_convolve
from pare_jax.models.layers import convolve, max_pool


def usual_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve as XLA does by itself."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def usual_max_pool(x: jax.Array) -> jax.Array:
    """Pool 3x3 windows two pixels apart as XLA does by itself."""
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)


# Name, the usual way, ours, and the shapes of the arguments after the batch's axis; the second one,
# a kernel's, has no batch.
OPERATIONS: tuple[tuple[str, Callable, Callable, tuple[tuple[int, ...], ...]], ...] = (
    (
        "upsampling and 3x3 convolution, 8x8x64 to 16x16x64",
        lambda x, kernel: usual_convolution(upsample(x), kernel),
        upsample_and_convolve,
        ((8, 8, 64), (3, 3, 64, 64)),
    ),
    ("3x3 max pool of 32x32x16, step 2", usual_max_pool, max_pool, ((32, 32, 16),)),
    (
        "3x3 convolution at 2x2x256",
        usual_convolution,
        lambda x, kernel: convolve(x, kernel, 1),
        ((2, 2, 256), (3, 3, 256, 256)),
    ),
    (
        "1x1 convolution, 16x16x16 to 64",
        usual_convolution,
        lambda x, kernel: convolve(x, kernel, 1),
        ((16, 16, 16), (1, 1, 16, 64)),
    ),
)


def medians(ways: Sequence[Callable], arguments: Sequence[jax.Array], seconds: float):
    """Return the median milliseconds of each way, called in turn for so many seconds."""
    programs = [
        jax.jit(jax.grad(lambda *a, way=way: jnp.sum(jnp.sin(way(*a))), range(len(arguments))))
        for way in ways
    ]
    for one, other in itertools.pairwise([program(*arguments) for program in programs]):
        for ours, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    times = [[] for _ in ways]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for program, taken in zip(programs, times, strict=True):
            started = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            taken.append(1e3 * (time.perf_counter() - started))
    return [float(np.median(taken)) for taken in times]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=1.0, help="spent on each operation")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    print("| operation | usual, ms | here, ms | ratio |")
    print("| --- | ---: | ---: | ---: |")
    for name, usual, ours, (first, *rest) in OPERATIONS:
        shapes = ((arguments.batch, *first), *rest)
        # Small, so that rounding in sums of any order stays small too.
        inputs = [jnp.asarray(rng.normal(0, 0.1, shape), jnp.float32) for shape in shapes]
        before, here = medians((usual, ours), inputs, arguments.seconds)
        print(f"| {name} | {before:.2f} | {here:.2f} | {before / here:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
