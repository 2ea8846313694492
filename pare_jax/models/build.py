"""Builds the network of a config's `model` section, and checks that section."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.models.backbone import Backbone
from pare_jax.models.baseline import Baseline
from pare_jax.models.hrnet import WIDTHS, HRNet, finest_features
from pare_jax.models.keypoint_maps import MAP_CHANNELS, MappedKeypoints
from pare_jax.models.keypoint_network import KeypointNetwork
from pare_jax.models.pare import Pare, map_stride
from pare_jax.models.resnet import DEPTHS, ResNet

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
NAMES = ("baseline", "keypoints", "pare")
INPUTS = ("image", "keypoints")
BACKBONES = (*DEPTHS, *WIDTHS)

Network = Pare | Baseline | KeypointNetwork | MappedKeypoints


def build_model(config: ConfigDict, *, rngs: nnx.Rngs) -> Network:
    """Build the network of a config, with random weights.

    Args:
        config: the `model` section, documented in `pare_jax/training/base_config.py`.
        rngs: for the initial weights.

    Returns:
        The network, in train mode. Parameters, running statistics and predictions are float32;
        activations are `config.dtype`.

    Raises:
        UserError: a name is unknown or a size is not positive.
    """
    check_model(config)
    if config.name == "keypoints":
        return KeypointNetwork(
            width=config.points_width, num_blocks=tuple(config.points_blocks), rngs=rngs
        )
    network = _build_on_maps(config, rngs)
    return network if config.input == "image" else MappedKeypoints(network, config.map_side)


def _build_on_maps(config: ConfigDict, rngs: nnx.Rngs) -> Pare | Baseline:
    dtype = DTYPES[config.dtype]
    backbone = _build_backbone(config, dtype, rngs)
    hidden = {key: tuple(config[key]) for key in ("pose_hidden", "shape_hidden", "camera_hidden")}
    if config.name == "baseline":
        return Baseline(backbone, **hidden, rngs=rngs)
    return Pare(
        backbone,
        num_blocks=config.num_blocks,
        branch_features=config.branch_features,
        shape_features=config.shape_features,
        align_corners=config.align_corners,
        **hidden,
        dtype=dtype,
        rngs=rngs,
    )


def _build_backbone(config: ConfigDict, dtype, rngs: nnx.Rngs) -> Backbone:
    name, width = config.backbone, config.backbone_width
    if name in DEPTHS:
        maps = 0 if config.input == "image" else MAP_CHANNELS
        return ResNet(name, width, maps=maps, dtype=dtype, rngs=rngs)
    return HRNet(name, width, align_corners=config.align_corners, dtype=dtype, rngs=rngs)


def part_map_stride(config: ConfigDict) -> float:
    """Return the crop's side over that of the part maps, for a `pare` config."""
    backbone = ResNet if config.backbone in DEPTHS else HRNet
    return map_stride(backbone.stride, config.num_blocks)


def check_model(config: ConfigDict) -> None:
    """Raise UserError if a config's `model` section has an unknown name or a size below 1."""
    known_values = {"name": NAMES, "input": INPUTS, "backbone": BACKBONES, "dtype": DTYPES}
    for key, known in known_values.items():
        if config[key] not in known:
            raise UserError(
                f"config.model.{key}: unknown value {config[key]!r}; use one of {', '.join(known)}"
            )
    if config.name == "keypoints":
        _check_keypoint_network(config)
        return
    sizes = {"backbone_width": config.backbone_width}
    if config.name == "pare":
        sizes |= {key: config[key] for key in ("num_blocks", "branch_features", "shape_features")}
    for key in ("pose_hidden", "shape_hidden", "camera_hidden"):
        sizes |= {f"{key}[{index}]": width for index, width in enumerate(config[key])}
    if config.input == "keypoints":
        sizes["map_side"] = config.map_side
        if config.backbone in WIDTHS:
            raise UserError(
                f"config.model.backbone: {config.backbone} does not take keypoints; use one of "
                f"{', '.join(DEPTHS)}"
            )
    _check_sizes(sizes)
    if config.backbone in WIDTHS and not finest_features(config.backbone, config.backbone_width):
        raise UserError(
            f"config.model.backbone_width: {config.backbone_width} gives {config.backbone} a "
            "fractional number of channels; use 64, or another multiple of 4"
        )


def _check_keypoint_network(config: ConfigDict) -> None:
    stages = {f"points_blocks[{i}]": blocks for i, blocks in enumerate(config.points_blocks)}
    _check_sizes({"points_width": config.points_width, **stages})
    if not stages:
        raise UserError("config.model.points_blocks is empty: give the blocks of each stage")
    if config.input != "keypoints":
        raise UserError(
            "config.model.name keypoints reads no image: set config.model.input to 'keypoints'"
        )
    if config.dtype != "float32":
        raise UserError("config.precision: the network on keypoints computes in float32 only")


def _check_sizes(sizes: Mapping[str, int]) -> None:
    for key, size in sizes.items():
        if size < 1:
            raise UserError(f"config.model.{key}: must be at least 1, but is {size}")
