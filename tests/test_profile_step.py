"""The profile of a step: which operations are found, of which kind and part."""

import itertools

import jax
import jax.numpy as jnp

from scripts.profile_step import measured, table
from scripts.program_operations import FORWARD, GRADIENT, MOVE, PRODUCT, REST, Program


class Steps:
    """A compiled step in place of a network's."""

    def __init__(self, step, *arguments):
        compiled = jax.jit(step).lower(*arguments).compile()
        self.text = compiled.as_text() or ""
        self.call = lambda: jax.block_until_ready(compiled(*arguments))


def gradient_step(weights, x):
    """Two products, each with two products in its gradient, but for that of `x`."""

    def loss(weights):
        first, second = weights
        return jnp.sum(jnp.tanh(jnp.tanh(x @ first) @ second))

    return jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights))


def test_products_of_a_step_and_of_its_gradient_are_told_apart():
    sizes = 300, 200, 100
    x, weights = jnp.ones((400, 300)), [jnp.ones((300, 200)), jnp.ones((200, 100))]
    steps = Steps(gradient_step, weights, x)
    program = Program(steps.text)
    seconds, whole = measured(steps.call, program)
    assert 0 < min(seconds.values()) < whole
    flops = {FORWARD: 0.0, GRADIENT: 0.0, REST: 0.0}
    for name in seconds:
        flops[program.part(name)] += program.flops(name)
    first, second = (2.0 * 400 * a * b for a, b in itertools.pairwise(sizes))
    assert flops == {FORWARD: first + second, GRADIENT: first + 2 * second, REST: 0.0}
    rows = [line.split(" | ")[:2] for line in table(program, seconds, with_parts=True)[2:]]
    assert [f"| {FORWARD}", PRODUCT] in rows
    assert [f"| {GRADIENT}", PRODUCT] in rows


def test_convolutions_are_products_and_transposes_are_moves():
    def step(x, kernel):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y, jnp.transpose(x, (3, 2, 1, 0))

    steps = Steps(step, jnp.ones((2, 32, 32, 16)), jnp.ones((3, 3, 16, 8)))
    program = Program(steps.text)
    seconds, _ = measured(steps.call, program)
    kinds = {program.kind(name) for name in seconds}
    assert kinds >= {PRODUCT, MOVE}
    assert sum(map(program.flops, seconds)) == 2.0 * (2 * 30 * 30 * 8) * (3 * 3 * 16)
