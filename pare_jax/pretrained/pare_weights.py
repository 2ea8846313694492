"""Weight format of PARE's checkpoints: their table, and the options kept beside the tensors.

PARE has two layouts: with an HRNet the branches only convolve, with a ResNet each block upsamples
first. Two options that the converter follows change the outputs but not the tensors: whether
predictions are added to mean parameters, the pose (USE_MEAN_POSE) and shape and camera
(USE_MEAN_CAMSHAPE). In the published model both are off. `pare_options.py` has all options.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH
from pare_jax.errors import UserError
from pare_jax.models.heads import SIXD
from pare_jax.models.hrnet import WIDTHS
from pare_jax.pretrained import hrnet_weights as hrnet
from pare_jax.pretrained import resnet_weights as resnet
from pare_jax.pretrained.hrnet_weights import sequence
from pare_jax.pretrained.pare_options import SWITCHES, check, notes_of, options_of
from pare_jax.pretrained.table import PER_JOINT, Entry, Layout, Report, Table, conv
from pare_jax.pretrained.weight_format import WeightFormat, refuse_unknown_layers, within
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# Layers of a block and index of its convolution. With an HRNet a block is convolution,
# normalisation, ReLU; with a ResNet an upsampling comes first.
_CONVOLVING = (3, 0)
_UPSAMPLING = (4, 1)

# Shape and camera heads read flattened features: (channels, joints) there, (joints, channels) here.
ATTENDED = Layout(
    lambda a: a.reshape(len(a), -1, NUM_JOINTS).transpose(2, 1, 0).reshape(-1, len(a)),
    lambda a: a.reshape(NUM_JOINTS, -1, a.shape[1]).transpose(2, 1, 0).reshape(a.shape[1], -1),
)
# PARE reads the 144 numbers of its mean pose as (6, joints) when it adds them to predictions.
MEAN_POSE = Layout(
    lambda a: a.reshape(SIXD, NUM_JOINTS).T, lambda a: np.ascontiguousarray(a.T).reshape(1, -1)
)
ROW = Layout(lambda a: a.reshape(-1), lambda a: a[None])

_POSE_BIAS = "params.heads.pose.layers.0.bias"
# By our mean parameters: PARE's buffer, its layout, the option that adds it, and our shape.
_MEANS = {
    "batch_stats.heads.mean_pose": (
        "head.init_pose",
        MEAN_POSE,
        "USE_MEAN_POSE",
        (NUM_JOINTS, SIXD),
    ),
    "batch_stats.heads.mean_betas": ("head.init_shape", ROW, "USE_MEAN_CAMSHAPE", (NUM_BETAS,)),
    "batch_stats.heads.mean_camera": ("head.init_cam", ROW, "USE_MEAN_CAMSHAPE", (3,)),
}
# Channels of the stem of every backbone in PARE's code.
PUBLISHED_WIDTH = 64


def table(model: ConfigDict) -> Table:
    """Return the table of a `pare` network.

    Args:
        model: the `model` section of its config.
    """
    if model.backbone in WIDTHS:
        entries = [*hrnet.table(prefix="backbone.", complete=True)]
        stride, first = _CONVOLVING
    else:
        entries = [
            dataclasses.replace(entry, theirs=f"backbone.{entry.theirs}")
            for entry in resnet.table(model.backbone)
        ]
        stride, first = _UPSAMPLING
    for ours, theirs in (("part_branch", "keypoint"), ("feature_branch", "smpl")):
        layers = f"head.{theirs}_deconv_layers"
        entries += sequence(ours, layers, model.num_blocks, stride, first)
    entries += conv("part_conv", "head.keypoint_final_layer", bias=True)
    entries += conv("shape_conv", "head.smpl_final_layer", bias=True)
    entries.append(Entry("params.heads.pose.layers.0.kernel", "head.pose_mlp.weight", PER_JOINT))
    for ours, theirs in (("shape", "head.shape_mlp"), ("camera", "head.cam_mlp")):
        here = f"params.heads.{ours}.layers.0"
        entries.append(Entry(f"{here}.kernel", f"{theirs}.weight", ATTENDED))
        entries.append(Entry(f"{here}.bias", f"{theirs}.bias"))
    entries += [
        Entry(ours, theirs, layout, required=False)
        for ours, (theirs, layout, _, _) in _MEANS.items()
    ]
    return entries


def describe(tensors: Mapping[str, np.ndarray], file: str) -> dict[str, Any]:
    """Detect the network of a checkpoint.

    Args:
        tensors: by the table's names.
        file: path of the file, for errors.

    Returns:
        Keys of a config's `model` section that follow from the tensors.

    Raises:
        UserError: our networks cannot compute it.
    """
    backbone = within(tensors, "backbone.")
    if all(mark in backbone for mark in hrnet.MARKS):
        name, width = hrnet.describe(backbone, file)
    elif resnet.RESNET.prefix(backbone) == "":
        name, width = resnet.describe(backbone), backbone["conv1.weight"].shape[0]
    else:
        raise UserError(
            f"{file} has a PARE with an unknown backbone: give one with a ResNet or an HRNet"
        )
    layers = within(tensors, "head.keypoint_deconv_layers.")
    if "head.smpl_final_layer.weight" not in tensors:
        raise UserError(
            f"{file} lacks head.smpl_final_layer.weight: it is not a whole PARE checkpoint"
        )
    return {
        "name": "pare",
        "backbone": name,
        "backbone_width": int(width),
        "num_blocks": sum(value.ndim == 4 for value in layers.values()),
        "branch_features": int(tensors["head.keypoint_final_layer.weight"].shape[1]),
        "shape_features": int(tensors["head.smpl_final_layer.weight"].shape[0]),
        "pose_hidden": (),
        "shape_hidden": (),
        "camera_hidden": (),
        "align_corners": True,
    }


def _check(tensors: Mapping[str, np.ndarray], model: ConfigDict, file: str) -> None:
    found = describe(tensors, file)
    wrong = {key: value for key, value in found.items() if model[key] != value}
    if wrong:
        flags = " ".join(f"--config.model.{key}={value}" for key, value in wrong.items())
        raise UserError(f"{file} has a PARE with other settings than this network: give {flags}")
    heads = within(tensors, "head.")
    known = {entry.theirs.removeprefix("head.") for entry in table(model)} | {"temperature"}
    unknown = [name for name in heads if name not in known]
    if unknown:
        raise UserError(
            f"{file} has head.{unknown[0]}, which the published PARE lacks: it is a variant that "
            "this network cannot compute; give the published one"
        )
    backbone = hrnet.table() if model.backbone in WIDTHS else resnet.table(model.backbone)
    refuse_unknown_layers(within(tensors, "backbone."), backbone, file, model.backbone)


def _after_reading(
    flat: dict[str, np.ndarray], report: Report, metadata: Mapping[str, Any]
) -> Report:
    """Set mean parameters by the checkpoint's options, and the pose bias, which it lacks, to 0."""
    options = options_of(metadata)
    flat[_POSE_BIAS] = np.zeros((NUM_JOINTS, SIXD), np.float32)
    notes, used, ignored = [], dict(report.used), dict(report.ignored)
    for ours, (theirs, _, name, shape) in _MEANS.items():
        adds = options.get(name)
        name_in_file = next((n for n in used if n.endswith(theirs)), None)
        if adds and name_in_file is None:
            raise UserError(
                f"{report.file} is damaged, it has {name}=True but lacks {theirs}: download it "
                "again"
            )
        if not adds:
            if name_in_file is not None:
                ignored[name_in_file] = used.pop(name_in_file)
            flat[ours] = np.zeros(shape, np.float32)
        text = f"{name} is {'on' if adds else 'off'}"
        text += "" if adds is not None else ": the file does not say, so as in the published PARE"
        notes.append(text)
    fresh = {name: size for name, size in report.fresh.items() if name not in flat}
    notes = [*dict.fromkeys(notes), *notes_of(metadata)]
    return dataclasses.replace(
        report, used=used, ignored=ignored, fresh=fresh, notes=(*report.notes, *notes)
    )


def _before_writing(
    flat: dict[str, np.ndarray], model: ConfigDict, image_size: int
) -> tuple[dict[str, Any], list[str]]:
    """Merge our pose bias into the mean pose; returns PARE's hyperparameters and notes.

    PARE's pose layers have no bias. With USE_MEAN_POSE it adds its mean pose to every prediction,
    so the sum of our bias and our mean pose is written as PARE's mean pose.
    """
    if model.name != "pare":
        raise UserError(
            f"PARE's format cannot hold this {model.name} network: give --format="
            f"{'hrnet' if model.backbone in WIDTHS else 'resnet'} to write its backbone alone"
        )
    for key in ("pose_hidden", "shape_hidden", "camera_hidden"):
        if model[key]:
            raise UserError(
                f"PARE's format cannot hold hidden layers (model.{key}={model[key]}): give "
                "--format to write the backbone alone, or train a network without them"
            )
    mean_pose = "batch_stats.heads.mean_pose"
    flat[mean_pose] = np.asarray(flat[mean_pose]) + np.asarray(flat[_POSE_BIAS])
    options: dict[str, Any] = {}
    for ours, (_, _, name, _) in _MEANS.items():
        options[name] = options.get(name, False) or bool(np.any(flat[ours]))
    notes = [f"load it with PARE.{name}=True" for name, on in options.items() if on]
    if model.backbone_width != PUBLISHED_WIDTH:
        notes.insert(
            0,
            f"PARE's code cannot hold this network: its {model.backbone} has {PUBLISHED_WIDTH} "
            f"channels in the stem, this one has {model.backbone_width}; pare_jax.pretrained."
            "convert --from reads the file",
        )
    if not model.align_corners:
        notes.append(
            "predictions in PARE's code will differ: it upsamples with aligned corners, this "
            "network does not (model.align_corners=False)"
        )
    if model.backbone in WIDTHS:
        options["BACKBONE"] = f"{model.backbone}-conv"
    else:
        options |= {
            "BACKBONE": model.backbone,
            "USE_UPSAMPLING": True,
            "DECONV_CONV_KERNEL_SIZE": 3,
        }
    options |= {
        "NUM_DECONV_LAYERS": model.num_blocks,
        "NUM_DECONV_FILTERS": model.branch_features,
        "NUM_FEATURES_SMPL": model.shape_features,
        "USE_KEYPOINT_ATTENTION": True,
        **{s.name: s.values[0] for s in SWITCHES if s.is_unknowable and s.name != "USE_HEATMAPS"},
    }
    crops = {
        "IMG_RES": image_size,
        # The same camera as ours, for crops of any size.
        "FOCAL_LENGTH": FOCAL_LENGTH * image_size / CROP_RESOLUTION,
        "USE_HEATMAPS": "part_segm",
    }
    return {"METHOD": "pare", "DATASET": crops, "PARE": options}, notes


PARE = WeightFormat(
    title="PARE",
    # Only one: a PARE file that lacks any other tensor gets an error that names it.
    marks=("head.keypoint_final_layer.weight",),
    table=table,
    check=_check,
    after_reading=_after_reading,
    before_writing=_before_writing,
    # Temperature of a softmax that the published network does not use.
    constants={"head.temperature": np.array(1.0, np.float32)},
    variants=("head.keypoint_final_layer.0.weight",),
    check_options=check,
)
