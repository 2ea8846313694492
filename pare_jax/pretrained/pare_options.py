"""Options of PARE's config: which values our network follows, and what the tensors show of them.

PARE's checkpoints keep the config as hyperparameters, in sections. A plain state dict has none.
Then names and shapes of its tensors show some options, and the others are taken as published.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH
from pare_jax.errors import UserError
from pare_jax.io.files import parse_json
from pare_jax.skeleton import NUM_JOINTS, NUM_PART_LABELS

# Levels of nested sections that are searched; Lightning and PARE need three.
_DEPTH = 4
# The network's strides need a multiple of this side.
_IMAGE_STRIDE = 32


@dataclasses.dataclass(frozen=True)
class Switch:
    """An option that changes what PARE's network computes.

    Attributes:
        name: in PARE's config.
        values: those that our network follows; the published one comes first.
        heads: beginnings of names in the head that a file has only with another value. Empty: the
            names do not show the option.
        backbone: "hrnet" or "resnet" if the option has no effect with other backbones.
        is_unknowable: whether no tensor's name or shape shows the option.
    """

    name: str
    values: tuple[Any, ...]
    heads: tuple[str, ...] = ()
    backbone: str = ""
    is_unknowable: bool = False


# Soft attention comes first, because it switches HMR's regression on.
SWITCHES = (
    Switch("METHOD", ("pare",)),
    Switch("NUM_JOINTS", (NUM_JOINTS,)),
    Switch("USE_SOFT_ATTENTION", (False,), ("keypoint_final_layer.0.",)),
    Switch("USE_HMR_REGRESSION", (False,), ("fc1.",)),
    Switch("USE_COATTENTION", (False,), ("coattention.",)),
    Switch("USE_POSTCONV_KEYPOINT_ATTENTION", (False,), ("keypoint_attention.",)),
    Switch("USE_BRANCH_NONLOCAL", (None, False, ""), ("branch_2d_nonlocal.",)),
    Switch("USE_FINAL_NONLOCAL", (None, False, ""), ("final_pose_nonlocal.",)),
    Switch("NUM_BRANCH_ITERATION", (0,), ("branch_iter_2d_nonlocal.",)),
    Switch("USE_POS_ENC", (False, None), ("pos_enc",)),
    Switch("USE_RESNET_CONV_HRNET", (False,), ("keypoint_deconv_layers.0.0.",), "hrnet"),
    Switch("POSE_MLP_NUM_LAYERS", (1,), ("pose_mlp.0.",)),
    Switch("SHAPE_MLP_NUM_LAYERS", (1,), ("shape_mlp.0.", "cam_mlp.0.")),
    Switch("USE_UPSAMPLING", (True,), ("keypoint_deconv_layers.0.weight",), "resnet"),
    Switch("DECONV_CONV_KERNEL_SIZE", (3,), (), "resnet"),
    Switch("USE_HEATMAPS", ("part_segm", "part_segm_pool"), is_unknowable=True),
    Switch("KEYPOINT_ATTENTION_ACT", ("softmax",), is_unknowable=True),
    Switch("USE_SCALE_KEYPOINT_ATTENTION", (False,), is_unknowable=True),
    Switch("USE_KEYPOINT_FEATURES_FOR_SMPL_REGRESSION", (False,), is_unknowable=True),
    Switch("ITERATIVE_REGRESSION", (False,), is_unknowable=True),
)
# Options that the converter follows, whatever their value.
FOLLOWED = ("USE_MEAN_POSE", "USE_MEAN_CAMSHAPE", "USE_KEYPOINT_ATTENTION", "IMG_RES")
# Options of section PARE whose values the tensors' shapes give.
FROM_SHAPES = ("BACKBONE", "NUM_FEATURES_SMPL", "NUM_DECONV_LAYERS", "NUM_DECONV_FILTERS")
# Options of section PARE without effect on the network's outputs, at least while the switches have
# the values above.
WITHOUT_EFFECT = (
    *("SOFTMAX_TEMP", "USE_ATTENTION", "USE_SELF_ATTENTION", "NUM_COATTENTION_ITER"),
    *("COATTENTION_CONV", "BRANCH_DEEPER", "ITER_RESIDUAL", "NUM_ITERATIONS", "SHAPE_INPUT_TYPE"),
    *("POSE_INPUT_TYPE", "POSE_MLP_HIDDEN_SIZE", "SHAPE_MLP_HIDDEN_SIZE", "SHAPE_LOSS_WEIGHT"),
    *("KEYPOINT_LOSS_WEIGHT", "KEYPOINT_NATIVE_LOSS_WEIGHT", "HEATMAPS_LOSS_WEIGHT"),
    *("SMPL_PART_LOSS_WEIGHT", "PART_SEGM_LOSS_WEIGHT", "POSE_LOSS_WEIGHT", "BETA_LOSS_WEIGHT"),
    *("OPENPOSE_TRAIN_WEIGHT", "GT_TRAIN_WEIGHT", "LOSS_WEIGHT", "USE_SHAPE_REG", "INIT_XAVIER"),
)


def options_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in a checkpoint's hyperparameters by name, whatever their section.

    Args:
        metadata: of a `read.WeightFile`.
    """
    found: dict[str, Any] = {}
    for name, value in _entries(metadata, _DEPTH):
        found.setdefault(name, value)
    return found


def _entries(section: Mapping[str, Any], depth: int) -> list[tuple[str, Any]]:
    """List names and values depth first; the first of several values counts."""
    entries: list[tuple[str, Any]] = []
    for key, value in section.items():
        if key == "hyper_parameters" and isinstance(value, str):  # from .safetensors
            try:
                value = parse_json(value.encode(), key)
            except UserError:
                continue
        if not isinstance(value, Mapping):
            entries.append((str(key).upper(), value))
        elif depth:
            entries += _entries(value, depth - 1)
    return entries


def check(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], file: str) -> None:
    """Raise UserError if a checkpoint's options make another network than ours.

    Args:
        tensors: by PARE's names.
        metadata: of the `read.WeightFile`.
        file: path of the file, for the error.
    """
    options = options_of(metadata)
    backbone = "hrnet" if "backbone.transition1.0.0.weight" in tensors else "resnet"
    for switch in SWITCHES:
        if switch.backbone not in ("", backbone):
            continue
        if switch.name in options and not _is_one_of(options[switch.name], switch.values):
            raise _refusal(file, f"{switch.name}={_short(options[switch.name])}", switch)
        heads = tuple(f"head.{beginning}" for beginning in switch.heads)
        shown = next((name for name in tensors if name.startswith(heads)), None)
        if shown is not None:
            raise _refusal(file, f"another {switch.name}, as {shown} shows", switch)
    if str(options.get("BACKBONE", "")).endswith("-interp"):
        raise _backbone_refusal(file, f"was trained with BACKBONE={_short(options['BACKBONE'])}")
    if backbone == "hrnet" and not any(n.startswith("backbone.upsample_stage_") for n in tensors):
        raise _backbone_refusal(file, "lacks backbone.upsample_stage_2, as BACKBONE=*-interp does")
    attention = options.get("USE_KEYPOINT_ATTENTION")
    if options.get("USE_HEATMAPS") == "part_segm_pool" and attention is not True:
        raise UserError(
            f"{file} was trained with USE_HEATMAPS=part_segm_pool without USE_KEYPOINT_ATTENTION, "
            "which this network cannot compute: give one with USE_KEYPOINT_ATTENTION=True"
        )
    _check_image_size(options, file)
    _check_shapes(tensors, backbone, file)


def _check_image_size(options: Mapping[str, Any], file: str) -> None:
    size = options.get("IMG_RES", CROP_RESOLUTION)
    if not isinstance(size, int) or not 0 < size <= 4096 or size % _IMAGE_STRIDE:
        raise UserError(
            f"{file} was trained with IMG_RES={_short(size)}, but this network needs a multiple of "
            f"{_IMAGE_STRIDE} pixels: give one trained with IMG_RES={CROP_RESOLUTION}"
        )


def _check_shapes(tensors: Mapping[str, np.ndarray], backbone: str, file: str) -> None:
    """Raise UserError where a tensor's shape shows the value of an option."""

    def size(layer: str, axis: int) -> int:
        weight = tensors.get(f"head.{layer}.weight")
        return 0 if weight is None or weight.ndim <= axis else weight.shape[axis]

    features, reduced = size("keypoint_final_layer", 1), size("smpl_final_layer", 0)
    kernel = size("keypoint_deconv_layers.1", 3) if backbone == "resnet" else 0
    shown = {
        "USE_HEATMAPS": size("keypoint_final_layer", 0) == NUM_PART_LABELS - 1,
        "DECONV_CONV_KERNEL_SIZE": kernel not in (0, 3),
        "ITERATIVE_REGRESSION": (features and size("pose_mlp", 2) > features)
        or (reduced and size("shape_mlp", 1) > NUM_JOINTS * reduced),
    }
    for switch in SWITCHES:
        if shown.get(switch.name):
            raise _refusal(file, f"another {switch.name}, as its shapes show", switch)


def notes_of(metadata: Mapping[str, Any]) -> list[str]:
    """Return notes for the user on options that are unknown, one line each.

    Args:
        metadata: of a `read.WeightFile`.
    """
    options = options_of(metadata)
    notes = []
    unsaid = [s.name for s in SWITCHES if s.is_unknowable]
    unsaid = [name for name in (*unsaid, "IMG_RES") if name not in options]
    if unsaid:
        notes.append(
            f"the file does not say {', '.join(unsaid)}, nor do its tensors: taken as in the "
            "published PARE; with other values predictions are wrong"
        )
    known = {*(s.name for s in SWITCHES), *FOLLOWED, *FROM_SHAPES, *WITHOUT_EFFECT}
    unknown = [
        f"{name}={_short(value)}"
        for name, value in _section(metadata, "PARE", _DEPTH).items()
        if str(name).upper() not in known and value
    ]
    if unknown:
        notes.append(f"options that PARE's code lacks are not followed: {', '.join(unknown[:3])}")
    size, focal = options.get("IMG_RES", CROP_RESOLUTION), options.get("FOCAL_LENGTH", FOCAL_LENGTH)
    if isinstance(focal, int | float) and abs(focal / size - FOCAL_LENGTH / CROP_RESOLUTION) > 1e-3:
        notes.append(
            f"PARE's camera has FOCAL_LENGTH={_short(focal)} at IMG_RES={size}, this one "
            f"{FOCAL_LENGTH:.0f} at {CROP_RESOLUTION}: distances from the camera differ"
        )
    return notes


def _section(metadata: Mapping[str, Any], name: str, depth: int) -> Mapping[str, Any]:
    """Return the first section of this name; empty if there is none."""
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            found = value if key == name else depth and _section(value, name, depth - 1)
            if found:
                return found
    return {}


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    plain = value is None or isinstance(value, str | int | float)
    return plain and any(value == other for other in values)


def _refusal(file: str, found: str, switch: Switch) -> UserError:
    return UserError(
        f"{file} was trained with {found}, which this network cannot compute: give one trained "
        f"with {switch.name}={switch.values[0]}"
    )


def _backbone_refusal(file: str, found: str) -> UserError:
    return UserError(
        f"{file} {found}, which this network cannot compute: give one with "
        "BACKBONE=hrnet_w32-conv, hrnet_w48-conv or a ResNet"
    )


def _short(value: Any) -> str:
    text = value if value and isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:37] + "..."
