"""The fields of one example, a person in one image: names, shapes, units and conventions.

An example has two forms. A *stored example* (`STORED_FIELDS`) is a record of a shard: a square crop
with a margin around the network's crop, and labels in that crop's pixels. A *batch*
(`BATCH_FIELDS`) is the output of the input pipeline: the network's crop, augmented, with its labels
moved alike. Training gets the fields that its losses read (`fields_to_read` in
`pare_jax/training/losses.py`), evaluation `EVALUATION_FIELDS`. This module imports no TensorFlow.

Conventions in the whole project:

* Image coordinates are continuous: (0, 0) is the top-left *corner* of an image, and pixel i covers
  [i, i + 1). An image of side S has its centre at S / 2. OpenCV's warps and drawing functions put
  integers at pixel centres: shift by half a pixel when calling them.
* Crop units: the network's crop spans [-1, 1] in x (right) and y (down): u = x / (S / 2) - 1.
* Camera frame: x right, y down, z forward, metres. Body frame: y up, +z out of the chest, the
  person's left hand at +x (SMPL's). An upright person facing the camera therefore has a root
  rotation of pi about x.
* A missing label is zeros (identity for rotations) and has weight 0.
"""

import dataclasses
from typing import Any

import numpy as np

from pare_jax.keypoints.sets import NUM_BODY_POINTS
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# Side of the stored crop over the network's crop: room for rotation and scale.
CROP_MARGIN = 1.5
# Pixels of the crop, a side, per part label: in a shard, and in a batch (as the part maps of
# configs/final.py have).
STORED_PARTS_STRIDE = 2
BATCH_PARTS_STRIDE = 4


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of an example or a batch.

    Attributes:
        shape: names in it are sizes that vary.
        dtype: of its numbers, or "bytes" or "str".
        doc: its meaning and unit.
        default: for a field that is newer than some prepared datasets, its value in their examples.
    """

    shape: tuple[int | str, ...]
    dtype: str
    doc: str
    default: float | None = None


STORED_FIELDS: dict[str, Field] = {
    "image": Field((), "bytes", "JPEG, quality 95, RGB, (S, S, 3): the crop with its margin"),
    "crop_to_photo": Field(
        (2, 3), "float32", "affine from stored-crop coordinates to the photograph's"
    ),
    "joints_2d": Field((NUM_JOINTS, 2), "float32", "joints in stored-crop pixels (x, y)"),
    "joints_2d_weight": Field((NUM_JOINTS,), "float32", "confidence in [0, 1]; 0: missing"),
    "head_top": Field((2,), "float32", "top of the head in stored-crop pixels (x, y)"),
    "head_top_weight": Field((), "float32", "confidence in [0, 1]; 0: missing"),
    "head_size": Field(
        (), "float32", "length of the head in stored-crop pixels, as PCKh defines it; 0: missing"
    ),
    "joints_3d": Field((NUM_JOINTS, 3), "float32", "metres, camera frame, pelvis at the origin"),
    "joints_3d_weight": Field((), "float32", "above 0: joints_3d is known; how much it weighs"),
    "joints_3d_known": Field(
        (NUM_JOINTS,), "float32", "1: this joint of joints_3d is known, if any is", default=1.0
    ),
    "points_2d": Field(
        (NUM_BODY_POINTS, 2),
        "float32",
        "body points (pare_jax.keypoints.sets) in stored-crop pixels (x, y), as annotated",
        default=0.0,
    ),
    "points_2d_weight": Field(
        (NUM_BODY_POINTS,), "float32", "confidence in [0, 1]; 0: missing", default=0.0
    ),
    "rotations": Field(
        (NUM_JOINTS, 3, 3), "float32", "relative to the parent; the root's into the camera frame"
    ),
    "pose_weight": Field((), "float32", "above 0: rotations is known; how much it weighs"),
    "rotations_known": Field(
        (NUM_JOINTS,), "float32", "1: this joint's rotation is known, if any is", default=1.0
    ),
    "betas": Field((NUM_BETAS,), "float32", "shape coefficients of the dataset's body model"),
    "betas_weight": Field((), "float32", "1: betas is known"),
    "visible": Field((NUM_JOINTS,), "float32", "1: visible, 0: hidden, self-occluded or cut off"),
    "visible_weight": Field((NUM_JOINTS,), "float32", "1: visible is known for this joint"),
    "part_labels": Field(
        (), "bytes", "PNG, uint8, side S // 2: 0 background, joint + 1, 255 unknown; b'' if missing"
    ),
    "parts_weight": Field((), "float32", "1: part_labels is known"),
    "gender": Field((), "str", "'male', 'female' or 'neutral': the body model of the labels"),
    "sequence": Field((), "str", "name of the sequence or photograph"),
    "person": Field((), "int32", "number of the person within the sequence or photograph"),
    "frame": Field((), "int32", "number of the frame within the sequence; 0 for a photograph"),
}

BATCH_FIELDS: dict[str, Field] = {
    "image": Field(("B", "S", "S", 3), "uint8", "the network's crop, RGB"),
    "joints_2d": Field(("B", NUM_JOINTS, 2), "float32", "crop units"),
    "joints_2d_weight": Field(("B", NUM_JOINTS), "float32", "as stored"),
    "head_top": Field(("B", 2), "float32", "crop units"),
    "head_top_weight": Field(("B",), "float32", "as stored"),
    "head_size": Field(("B",), "float32", "crop units; 0: missing"),
    "joints_3d": Field(("B", NUM_JOINTS, 3), "float32", "metres, camera frame, pelvis at 0"),
    "joints_3d_weight": Field(("B",), "float32", "as stored"),
    "joints_3d_known": Field(("B", NUM_JOINTS), "float32", "as stored"),
    "points_2d": Field(("B", NUM_BODY_POINTS, 2), "float32", "body points, crop units"),
    "points_2d_weight": Field(("B", NUM_BODY_POINTS), "float32", "as stored"),
    "rotations": Field(("B", NUM_JOINTS, 3, 3), "float32", "as stored, moved with the crop"),
    "pose_weight": Field(("B",), "float32", "as stored"),
    "rotations_known": Field(("B", NUM_JOINTS), "float32", "as stored"),
    "betas": Field(("B", NUM_BETAS), "float32", "as stored"),
    "betas_weight": Field(("B",), "float32", "as stored"),
    "visible": Field(("B", NUM_JOINTS), "float32", "as stored; 0 also outside the crop"),
    "visible_weight": Field(("B", NUM_JOINTS), "float32", "as stored"),
    "part_labels": Field(("B", "S // 4", "S // 4"), "uint8", "0, joint + 1, or 255 = unknown"),
    "parts_weight": Field(("B",), "float32", "as stored"),
    "gender": Field(("B",), "int32", "0 neutral, 1 male, 2 female: pare_jax.body.io.GENDERS"),
    "sample_weight": Field(("B",), "float32", "1; 0 for the padding of a split's last batch"),
}

# A batch of drawn bodies has these in place of `image` and `part_labels`: data_pipelines/bodies.
BODY_FIELDS: dict[str, Field] = {
    "keypoints": Field(
        ("B", NUM_BODY_POINTS, 5),
        "float32",
        "what the network sees: x and y in crop units of the person's square, confidence, depth "
        "about the middle of the hips (metres), 1 if the depth is known; zeros for unknown points",
    ),
    "points_3d": Field(
        ("B", NUM_BODY_POINTS, 3), "float32", "true body points, metres, camera frame, pelvis at 0"
    ),
}

# The fields that pare_jax.evaluation and pare_jax.sensitivity read.
EVALUATION_FIELDS = (
    "image",
    *("joints_2d", "joints_2d_weight", "head_top", "head_top_weight", "head_size"),
    *("joints_3d", "joints_3d_weight", "joints_3d_known"),
    *("rotations", "pose_weight", "rotations_known", "betas", "betas_weight"),
    *("visible", "visible_weight", "gender", "sample_weight"),
)


def unknown_labels() -> dict[str, Any]:
    """Return a stored example without labels: every label empty, every weight 0.

    A dataset replaces the labels it has, and need not know the other fields.
    """
    record: dict[str, Any] = {}
    for name, field in STORED_FIELDS.items():
        if field.dtype == "bytes":
            record[name] = b""
        elif field.dtype == "str":
            record[name] = ""
        else:
            shape = [size for size in field.shape if isinstance(size, int)]
            record[name] = np.full(shape, field.default or 0, field.dtype)[()]
    identity = np.tile(np.eye(3, dtype=np.float32), (NUM_JOINTS, 1, 1))
    return record | {"rotations": identity, "gender": "neutral"}
