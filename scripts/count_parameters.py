"""Count parameters and arithmetic of the networks: `python scripts/count_parameters.py`.

It prints a table for the report's three models, at full size and at the quickstart's, and for PARE
as published. GFLOPs (two for a multiply-add) are XLA's count of one picture's program before
optimisation; nothing is compiled or run. This project's branch blocks convolve before they
upsample. "as written" counts a forward pass of branch blocks that upsample first, as in the papers.
HRNet's own upsampling is counted as implemented here.
"""

import argparse
import importlib

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.models import branches, build_model
from pare_jax.models.layers import convolve
from pare_jax.models.pare import Pare, needs_upsampling

STAGES = ("baseline", "shallow", "final")
# Networks without a smaller version.
PUBLISHED = ("pare",)


def main() -> None:
    """Print the table as Markdown."""
    argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
    print("| network | picture | parameters | backbone's | GFLOPs | as written | training |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in ("full", "quickstart"):
        for stage in STAGES:
            print_row(stage, load_config(stage, size))
        for name in PUBLISHED if size == "full" else ():
            print_row(name, load_config(name, size))


def load_config(stage: str, size: str) -> ConfigDict:
    """Return the config of a stage, at full size or shrunk to the quickstart's."""
    config = importlib.import_module(f"configs.{stage}").get_config()
    if size == "quickstart":
        small = importlib.import_module("configs.quickstart").get_config()
        config.image_size = small.image_size
        for key in ("backbone", "backbone_width", "branch_features", "shape_features"):
            config.model[key] = small.model[key]
        for key in ("pose_hidden", "shape_hidden", "camera_hidden"):
            config.model[key] = tuple(width // 4 for width in config.model[key])
    return config


def print_row(stage: str, config: ConfigDict) -> None:
    """Print one network's row."""
    model = nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    images = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)

    def forward(params, images):
        return nnx.merge(graphdef, params, rest_zeros(rest), copy=True)(images)

    def gradient(params, images):
        return jax.grad(
            lambda params: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(forward(params, images)))
        )(params)

    forward_flops = flops(forward, params, images)
    cells = [
        f"{stage}, {config.model.backbone}, width {config.model.backbone_width}",
        f"{config.image_size} px",
        f"{count(params) / 1e6:.2f} M",
        f"{count(params['backbone']) / 1e6:.2f} M",
        f"{forward_flops / 1e9:.3g}",
        f"{(forward_flops + saved_flops(config.image_size, model)) / 1e9:.3g}",
        f"{flops(gradient, params, images) / 1e9:.3g}",
    ]
    print("|", " | ".join(cells), "|")


def rest_zeros(rest: nnx.State) -> nnx.State:
    """Return zeros in place of an abstract state, for a program that is only counted."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), rest)


def count(tree: nnx.State) -> int:
    """Return the number of parameters in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def flops(function, *arguments) -> float:
    """Return XLA's count of a function's floating-point operations."""
    costs = jax.jit(function).lower(*arguments).cost_analysis()
    return costs["flops"] if costs else float("nan")


def saved_flops(image_size: int, model: nnx.Module) -> float:
    """Return the operations saved by convolving before upsampling."""
    if not isinstance(model, Pare) or not needs_upsampling(model.backbone.stride):
        return 0.0
    saved = 0.0
    for branch in (model.part_branch, model.feature_branch):
        side = image_size // model.backbone.stride
        for block in branch.blocks:
            kernel = jax.ShapeDtypeStruct(block.conv.kernel.shape, jnp.float32)
            maps = jax.ShapeDtypeStruct((1, side, side, kernel.shape[2]), jnp.float32)
            saved += flops(lambda x, k: convolve(branches.upsample(x), k, 1), maps, kernel)
            saved -= flops(branches.upsample_and_convolve, maps, kernel)
            side *= 2
    return saved


if __name__ == "__main__":
    main()
