"""Converts nested state to a flat dict of names ("params.backbone.conv1.kernel") and back.

Checkpoints and converted weights use it: an array that does not fit is reported by its name.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

Flat = dict[str, Any]


def names(prefix: str, tree: Any) -> list[str]:
    """Return the dotted name of each leaf of a state, in the tree's order."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    dotted = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    return [f"{prefix}.{name.removesuffix('.value')}" for name in dotted]


def flatten(prefix: str, tree: Any) -> Flat:
    """Return the leaves of a state by name; names start with `prefix`."""
    return dict(zip(names(prefix, tree), jax.tree.leaves(tree), strict=True))


def of_network(network: nnx.Module) -> Flat:
    """Return a network's parameters, batch statistics and mean parameters by name."""
    _, params, batch_stats = nnx.split(network, nnx.Param, ...)
    return flatten("params", params) | flatten("batch_stats", batch_stats)


def unflatten(prefix: str, template: Any, flat: Mapping[str, Any]) -> Any:
    """Return a tree with the structure of `template` and the leaves of a flat dict.

    Undoes `flatten`; further entries of `flat` are ignored.
    """
    leaves = [flat[name] for name in names(prefix, template)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)
