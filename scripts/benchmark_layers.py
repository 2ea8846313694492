"""Time this project's rewritten operations against the usual ones.

    python scripts/benchmark_layers.py [--batch=32] [--seconds=1.0]

It prints median milliseconds of forward and backward passes (gradients of input and weights) and
their ratio. Both versions take turns in one run.
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
    """Convolve with XLA's own operation."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def usual_max_pool(x: jax.Array) -> jax.Array:
    """Pool 3x3 windows with stride 2, with XLA's own operation."""
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)


# Name, the usual function, ours, and the arguments' shapes without the batch axis; the second
# argument is a kernel, which has none.
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


def medians(functions: Sequence[Callable], arguments: Sequence[jax.Array], seconds: float):
    """Return each function's median milliseconds; they take turns for `seconds`."""
    programs = [
        jax.jit(
            jax.grad(
                lambda *a, function=function: jnp.sum(jnp.sin(function(*a))), range(len(arguments))
            )
        )
        for function in functions
    ]
    for one, other in itertools.pairwise([program(*arguments) for program in programs]):
        for ours, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    times = [[] for _ in functions]
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
    parser.add_argument("--seconds", type=float, default=1.0, help="for each operation")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    print("| operation | usual, ms | here, ms | ratio |")
    print("| --- | ---: | ---: | ---: |")
    for name, usual, ours, (first, *rest) in OPERATIONS:
        shapes = ((arguments.batch, *first), *rest)
        # Small values keep rounding small for any order of summation.
        inputs = [jnp.asarray(rng.normal(0, 0.1, shape), jnp.float32) for shape in shapes]
        before, here = medians((usual, ours), inputs, arguments.seconds)
        print(f"| {name} | {before:.2f} | {here:.2f} | {before / here:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
