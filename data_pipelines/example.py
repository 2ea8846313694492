"""THE record: what one person in one picture is called, shaped and measured in, once.

Two forms exist. A *stored example* (`STORED_FIELDS`) is what a dataset builder writes into shards:
one person, a square crop with a margin around the nominal crop, labels in that crop's pixels. A
*batch* (`BATCH_FIELDS`) is what the input pipeline hands to the train step: the crop at network
size, augmented geometrically, labels moved by the same affine. Nothing here imports TensorFlow.

Conventions, everywhere in this project:

* Picture coordinates are continuous: (0, 0) is the top-left *corner* of a picture, pixel i covers
  [i, i + 1), so a picture of side S has its centre at S / 2. OpenCV's warps and drawing functions
  put integers at pixel centres instead; whoever calls them shifts by half a pixel there.
* Crop units: the network crop spans [-1, 1] in x and y, x right, y down: u = x / (S / 2) - 1.
* Camera frame: x right, y down, z forward, metres. Body frame: y up, +z out of the chest, the
  subject's left hand at +x (SMPL's). An upright person who faces the camera therefore has a root
  rotation of pi about x.
* A label that a dataset lacks is filled with zeros (identity for rotations) and carries weight 0.
"""

import dataclasses
from typing import Any

import numpy as np

from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# The stored crop is this much larger than the nominal network crop, for rotation and scale.
CROP_MARGIN = 1.5
# Part labels are stored at 1 / STORED_PARTS_STRIDE of the stored crop's side and batched at
# 1 / BATCH_PARTS_STRIDE of the network crop's side (the part maps' own resolution in `final`).
STORED_PARTS_STRIDE = 2
BATCH_PARTS_STRIDE = 4


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: shape (names stand for sizes a dataset or a config chooses), dtype, meaning."""

    shape: tuple[int | str, ...]
    dtype: str
    doc: str


STORED_FIELDS: dict[str, Field] = {
    "image": Field((), "bytes", "JPEG, quality 95, RGB, (S, S, 3): the crop with its margin"),
    "crop_to_photo": Field(
        (2, 3), "float32", "affine from stored-crop coordinates to the photograph's"
    ),
    "joints_2d": Field((NUM_JOINTS, 2), "float32", "joints in stored-crop pixels (x, y)"),
    "joints_2d_weight": Field((NUM_JOINTS,), "float32", "confidence in [0, 1]; 0: not known"),
    "head_top": Field((2,), "float32", "top of the head in stored-crop pixels (x, y)"),
    "head_top_weight": Field((), "float32", "confidence in [0, 1]; 0: not known"),
    "head_size": Field(
        (), "float32", "length of the head in stored-crop pixels, as PCKh defines it; 0: not known"
    ),
    "joints_3d": Field((NUM_JOINTS, 3), "float32", "metres, camera frame, pelvis at the origin"),
    "joints_3d_weight": Field((), "float32", "1 when joints_3d is known"),
    "rotations": Field(
        (NUM_JOINTS, 3, 3), "float32", "relative to the parent; the root's into the camera frame"
    ),
    "pose_weight": Field((), "float32", "1 when rotations is known"),
    "betas": Field((NUM_BETAS,), "float32", "shape coefficients of the dataset's body model"),
    "betas_weight": Field((), "float32", "1 when betas is known"),
    "visible": Field((NUM_JOINTS,), "float32", "1: seen, 0: hidden, cut off or self-occluded"),
    "visible_weight": Field((NUM_JOINTS,), "float32", "1 for joints whose visible is known"),
    "part_labels": Field(
        (), "bytes", "PNG, uint8, side S // 2: 0 background, joint + 1, 255 unknown; b'' if absent"
    ),
    "parts_weight": Field((), "float32", "1 when part_labels is known"),
    "gender": Field((), "str", "'male', 'female' or 'neutral': the body the truth was made with"),
    "sequence": Field((), "str", "name of the sequence or photograph"),
    "person": Field((), "int32", "number of the person within the sequence or photograph"),
    "frame": Field((), "int32", "number of the frame within the sequence; 0 for a photograph"),
}

BATCH_FIELDS: dict[str, Field] = {
    "image": Field(("B", "S", "S", 3), "uint8", "the network crop, RGB"),
    "joints_2d": Field(("B", NUM_JOINTS, 2), "float32", "crop units"),
    "joints_2d_weight": Field(("B", NUM_JOINTS), "float32", "as stored"),
    "head_top": Field(("B", 2), "float32", "crop units"),
    "head_top_weight": Field(("B",), "float32", "as stored"),
    "head_size": Field(("B",), "float32", "crop units; 0: not known"),
    "joints_3d": Field(("B", NUM_JOINTS, 3), "float32", "metres, camera frame, pelvis at 0"),
    "joints_3d_weight": Field(("B",), "float32", "as stored"),
    "rotations": Field(("B", NUM_JOINTS, 3, 3), "float32", "as stored, moved by the augmentation"),
    "pose_weight": Field(("B",), "float32", "as stored"),
    "betas": Field(("B", NUM_BETAS), "float32", "as stored"),
    "betas_weight": Field(("B",), "float32", "as stored"),
    "visible": Field(("B", NUM_JOINTS), "float32", "as stored; 0 too when moved out of the crop"),
    "visible_weight": Field(("B", NUM_JOINTS), "float32", "as stored"),
    "part_labels": Field(("B", "S // 4", "S // 4"), "uint8", "0, joint + 1, or 255 = unknown"),
    "parts_weight": Field(("B",), "float32", "as stored"),
    "gender": Field(("B",), "int32", "0 neutral, 1 male, 2 female: pare_jax.body.io.GENDERS"),
    "crop_to_photo": Field(("B", 2, 3), "float32", "affine from network-crop coordinates to photo"),
    "sample_weight": Field(("B",), "float32", "1; 0 for the padding of an evaluation's last batch"),
    "index": Field(("B",), "int32", "position of the example within its dataset's split"),
}


def unknown_labels() -> dict[str, Any]:
    """Return a stored example of which nothing is known: every label empty, every weight 0.

    A dataset replaces what it knows, so that a field it has never heard of is right all the same.
    """
    record: dict[str, Any] = {}
    for name, field in STORED_FIELDS.items():
        if field.dtype == "bytes":
            record[name] = b""
        elif field.dtype == "str":
            record[name] = ""
        else:
            shape = [size for size in field.shape if isinstance(size, int)]
            record[name] = np.zeros(shape, field.dtype)[()]
    identity = np.tile(np.eye(3, dtype=np.float32), (NUM_JOINTS, 1, 1))
    return record | {"rotations": identity, "gender": "neutral"}
