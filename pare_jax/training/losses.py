"""The training losses: 3D and 2D joints, pose, shape, camera and part labels.

The terms are those of PARE and SPIN (Kocabas et al. 2021, section 3.4; Kolotouros et al. 2019,
section 3.2). Each is averaged over the elements of a sample, then over the samples that have the
label. So a term does not depend on the number of samples without it, and is 0 if no sample has it.
Their code averages and weighs some terms otherwise: docs/weights.md has the weights that agree.

To add a term, write its function and its line in `TERMS`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pare_jax import geometry
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import NUM_JOINTS, PART_UNKNOWN

# Part labels come at this fraction of the crop's side.
LABEL_STRIDE = 4


class Posed(NamedTuple):
    """A batch of predictions, and points of the body in the predicted pose.

    Attributes:
        prediction: the network's prediction.
        joints: the body's joints, metres, camera axes.
        head_top: the top of the body's head, likewise.
        points: the body points of keypoints, likewise; None if no term reads them.
    """

    prediction: Prediction
    joints: Float[Array, "batch 24 3"]
    head_top: Float[Array, "batch 3"]
    points: Float[Array, "batch points 3"] | None = None


def everybody(batch: Mapping[str, Array]) -> Float[Array, "batch"]:
    """Return the same weight for each sample."""
    return jnp.ones(len(next(iter(batch.values()))))


def by_weight(name: str) -> Callable[[Mapping[str, Array]], Float[Array, "batch"]]:
    """Return a function of a batch that returns the field `name`, a weight of each sample."""
    return lambda batch: batch[name]


def _joints_2d_known(batch: Mapping[str, Array]) -> Float[Array, "batch"]:
    known = jnp.any(batch["joints_2d_weight"] > 0, axis=1) | (batch["head_top_weight"] > 0)
    return known.astype(jnp.float32)


def _points_2d_known(batch: Mapping[str, Array]) -> Float[Array, "batch"]:
    return (jnp.sum(batch["points_2d_weight"], 1) > 0).astype(jnp.float32)


def _parts_known(batch: Mapping[str, Array]) -> Float[Array, "batch"]:
    return batch["parts_weight"] * jnp.any(batch["part_labels"] != PART_UNKNOWN, axis=(1, 2))


class Term(NamedTuple):
    """A term of the loss.

    Attributes:
        compute: maps the predictions and the batch's labels to the term, before its weight.
        weight: default of `config.loss.NAME`. Give a new term 0: then experiments and runs of
            before stay as they are.
        labels: fields of `data_pipelines/example.py`'s BATCH_FIELDS that it reads. Fields that only
            drawn bodies have are not among them: these are always drawn.
        counted: maps the batch's labels to the weight of each sample in the term's average. Parts
            of a batch are weighted by it, if gradients are accumulated.
    """

    compute: Callable[[Posed, Mapping[str, Array]], Float[Array, ""]]
    weight: float
    labels: tuple[str, ...] = ()
    counted: Callable[[Mapping[str, Array]], Float[Array, "batch"]] = everybody


def fields_to_read() -> tuple[str, ...]:
    """Return the fields of a batch that training reads: the image and the labels of all terms."""
    labels = (name for term in TERMS.values() for name in term.labels)
    return tuple(dict.fromkeys(("image", *labels)))


def total_loss(
    prediction: Prediction,
    joints: Float[Array, "batch 24 3"],
    head_top: Float[Array, "batch 3"],
    batch: Mapping[str, Array],
    weights: Mapping[str, float | Array],
    points: Float[Array, "batch points 3"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Return the weighted sum of the terms.

    Args:
        prediction: the network's prediction.
        joints: the body's joints for the predicted rotations and betas, metres, camera axes.
        head_top: the top of the body's head, likewise.
        batch: the labels and their weights, see `data_pipelines/example.py`.
        weights: the weight of each term by name; a term with weight 0, or without a weight, is not
            computed.
        points: the body points of keypoints, metres, camera axes; None if no term reads them.

    Returns:
        The total, and the weighted terms by name (they add up to the total).
    """
    posed = Posed(prediction, joints, head_top, points)
    used = {name: term for name, term in TERMS.items() if _is_used(weights.get(name, 0.0))}
    terms = {name: weights[name] * term.compute(posed, batch) for name, term in used.items()}
    return sum(terms.values(), start=jnp.zeros(())), terms


def _is_used(weight: Any) -> bool:
    """Return whether a term is computed: a weight of a part of a batch is known later."""
    return isinstance(weight, jax.Array) or bool(weight)


def shares(
    parts: Mapping[str, Array], weights: Mapping[str, float]
) -> dict[str, Float[Array, "parts"]]:
    """Return how much each part of a batch counts in the terms of the whole batch.

    Args:
        parts: the batch's labels, split along a new leading axis.
        weights: the weight of each term by name.

    Returns:
        By term, factors of the parts' averages, whose sum is then the average over the batch.
    """
    counted = {
        name: jnp.sum(jax.vmap(term.counted)(parts), axis=1)
        for name, term in TERMS.items()
        if weights.get(name)
    }
    return {name: sums / jnp.maximum(jnp.sum(sums), 1e-6) for name, sums in counted.items()}


def squared_error(
    predicted: Float[Array, "batch ..."],
    true: Float[Array, "batch ..."],
    weight: Float[Array, "batch"],
    known: Float[Array, "batch joints"] | None = None,
) -> Float[Array, ""]:
    """Average the squared error over elements, then over samples by `weight`.

    Args:
        predicted: values; with `known`, of joints along the second axis.
        true: likewise.
        weight: of each sample.
        known: 0 for joints whose error counts as 0; None: all are known.
    """
    squares = (predicted - true) ** 2
    if known is not None:
        squares *= known.reshape(known.shape + (1,) * (squares.ndim - 2))
    return _average(jnp.mean(squares, axis=tuple(range(1, squares.ndim))), weight)


def joints_3d_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return the squared error of joints in metres, with both pelvises at the origin.

    The pelvis of motion capture is not SMPL's. Where it is unknown, the mean of the known joints is
    at the origin instead.
    """
    known = batch.get("joints_3d_known")
    return squared_error(
        _about_root(posed.joints, known),
        _about_root(batch["joints_3d"], known),
        batch["joints_3d_weight"],
        known,
    )


def _about_root(
    joints: Float[Array, "batch 24 3"], known: Float[Array, "batch 24"] | None
) -> Float[Array, "batch 24 3"]:
    """Return joints about the pelvis, or about the mean of the known ones if it is unknown."""
    root = joints[:, :1]
    if known is None:
        return joints - root
    number = jnp.maximum(known.sum(1), 1.0)[:, None, None]
    mean = (known[..., None] * joints).sum(1, keepdims=True) / number
    return joints - jnp.where(known[:, :1, None] > 0, root, mean)


def joints_2d_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return the squared error of projected joints and head top, weighted by confidence.

    Units are crop units. A sample counts if any of its points has a confidence. The sum over points
    is divided by 24 with or without a head top, so that a batch without any head top gives the bits
    that the joints alone give.
    """
    weight, top_weight = batch["joints_2d_weight"], batch["head_top_weight"]
    translation = geometry.camera_translation(posed.prediction.camera)
    projected = geometry.project(posed.joints, translation)
    per_sample = jnp.mean(weight[..., None] * (projected - batch["joints_2d"]) ** 2, axis=(1, 2))
    top = geometry.project(posed.head_top[:, None], translation)[:, 0]
    top_squares = top_weight[:, None] * (top - batch["head_top"]) ** 2
    per_sample += jnp.sum(top_squares, axis=1) / (2 * NUM_JOINTS)
    known = jnp.any(weight > 0, axis=1) | (top_weight > 0)
    return _average(per_sample, known.astype(per_sample.dtype))


def pose_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return the squared error of rotation matrices."""
    return squared_error(
        posed.prediction.rotations,
        batch["rotations"],
        batch["pose_weight"],
        batch.get("rotations_known"),
    )


def shape_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return the squared error of betas."""
    return squared_error(posed.prediction.betas, batch["betas"], batch["betas_weight"])


def joints_l1_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return the mean distance along x, y and z of joints, pelvises at the origin, metres.

    Body points, where the batch has any in 3D, count as joints do.
    """
    root = posed.joints[:, :1]
    error = jnp.mean(jnp.abs(posed.joints - root - batch["joints_3d"]), axis=(1, 2))
    if posed.points is not None and "points_3d" in batch:
        error += jnp.mean(jnp.abs(posed.points - root - batch["points_3d"]), axis=(1, 2))
    return _average(error, batch["joints_3d_weight"])


def keypoints_2d_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return the squared error of projected body points, weighted by confidence, crop units.

    Unlike `joints_2d_loss`, which takes a dataset's hips and shoulders for SMPL's joints, it
    compares points of the skin with points of the skin, and has face and feet. Errors of more than
    one crop unit count as one: a wrong keypoint then has no gradient.
    """
    if posed.points is None:
        raise ValueError("loss.keypoints_2d needs the body's points")
    weight = batch["points_2d_weight"]
    translation = geometry.camera_translation(posed.prediction.camera)
    missed = geometry.project(posed.points, translation) - batch["points_2d"]
    squares = jnp.minimum(jnp.sum(missed**2, axis=-1), 1.0) / 2.0
    per_sample = jnp.sum(weight * squares, 1) / jnp.maximum(jnp.sum(weight, 1), 1e-6)
    return _average(per_sample, (jnp.sum(weight, 1) > 0).astype(per_sample.dtype))


def points_2d_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return the mean distance of projected body points, at most 1, crop units.

    Points that the network sees count three times, and points far outside the square less.
    """
    if posed.points is None:
        raise ValueError("loss.points_2d needs a network on keypoints: set loss.points_2d to 0")
    translation = geometry.camera_translation(posed.prediction.camera)
    true = batch["points_2d"]
    # The small number keeps the gradient finite at 0.
    missed = geometry.project(posed.points, translation) - true + 1e-6
    distance = jnp.minimum(jnp.linalg.norm(missed, axis=-1), 1.0)
    seen = 0.5 + (batch["keypoints"][..., 2] > 0)
    return jnp.mean(distance * seen / (1.0 + jnp.max(jnp.abs(true), -1) ** 2))


def pose_l1_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return the mean absolute error of rotation matrices."""
    error = jnp.abs(posed.prediction.rotations - batch["rotations"])
    return _average(jnp.mean(error, axis=(1, 2, 3)), batch["pose_weight"])


def camera_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return `camera_prior` of the predicted cameras; it needs no label."""
    return camera_prior(posed.prediction.camera)


def parts_loss(posed: Posed, batch: Mapping[str, Array]) -> Float[Array, ""]:
    """Return `part_cross_entropy` of the predicted part maps."""
    return part_cross_entropy(
        posed.prediction.part_logits,
        batch["part_labels"],
        batch["parts_weight"],
        align_corners=posed.prediction.align_corners,
    )


def camera_prior(camera: Float[Array, "batch 3"]) -> Float[Array, ""]:
    """Return a penalty that keeps the camera's scale s positive: exp(-10 s)^2."""
    # Clipped before it overflows float32.
    return jnp.mean(jnp.exp(jnp.minimum(-20.0 * camera[:, 0], 40.0)))


def part_cross_entropy(
    logits: Float[Array, "batch h w 25"] | None,
    labels: Int[Array, "batch H W"],
    weight: Float[Array, "batch"],
    *,
    align_corners: bool = False,
) -> Float[Array, ""]:
    """Return the cross-entropy of part logits and rendered part labels (PARE, section 3.2).

    Args:
        logits: background first, then the 24 joints.
        labels: 0 for background, joint + 1, or 255 if unknown, at the centres of the cells of
            `LABEL_STRIDE` pixels that tile the crop. Labels finer than the logits are read at the
            centres of the logits' cells.
        weight: 1 for samples with labels.
        align_corners: see `Prediction`. If True, the logits are interpolated at the labels instead,
            as PARE interpolates them at every pixel.

    Raises:
        ValueError: the network has no part maps, or the labels do not divide into their grid.
    """
    if logits is None:
        raise ValueError("loss.parts needs a network with part maps: set loss.parts to 0")
    stride, rest = divmod(labels.shape[1], logits.shape[1])
    if stride < 1 or rest:
        raise ValueError(f"part labels {labels.shape} do not divide into maps {logits.shape}")
    if align_corners:
        rows, columns = (
            label_weights(*sides) for sides in zip(logits.shape[1:3], labels.shape[1:], strict=True)
        )
        logits = jnp.einsum("Ww,bhwc->bhWc", columns, logits, precision="highest")
        logits = jnp.einsum("Hh,bhWc->bHWc", rows, logits, precision="highest")
    else:
        labels = labels[:, stride // 2 :: stride, stride // 2 :: stride]
    labels = labels.astype(jnp.int32)
    known = (labels != PART_UNKNOWN).astype(logits.dtype)
    log_probability = jax.nn.log_softmax(logits, axis=-1)
    picked = jnp.take_along_axis(
        log_probability, jnp.where(labels == PART_UNKNOWN, 0, labels)[..., None], axis=-1
    )[..., 0]
    pixels = jnp.sum(known, axis=(1, 2))
    per_sample = -jnp.sum(known * picked, axis=(1, 2)) / jnp.maximum(pixels, 1.0)
    return _average(per_sample, weight * (pixels > 0))


@functools.cache
def label_weights(cells: int, labels: int) -> np.ndarray:
    """Return the matrix that interpolates a row of maps with aligned corners at the labels.

    Args:
        cells: number of the row's cells.
        labels: number of labels along the crop's side.

    Returns:
        Weights, (labels, cells) float32; rows sum to one.
    """
    pixels = labels * LABEL_STRIDE
    # The place of each label in pixels from the centre of the crop's first pixel.
    place = (np.arange(labels) + 0.5) * LABEL_STRIDE - 0.5
    position = place * (cells - 1) / (pixels - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells))).astype(np.float32)


def _average(per_sample: Float[Array, "batch"], weight: Float[Array, "batch"]) -> Array:
    """Return the weighted average; 0 if no sample has a weight."""
    return jnp.sum(weight * per_sample) / jnp.maximum(jnp.sum(weight), 1e-6)


# By the keys of `config.loss`.
TERMS: dict[str, Term] = {
    "joints_3d": Term(
        joints_3d_loss,
        300.0,
        ("joints_3d", "joints_3d_weight", "joints_3d_known"),
        by_weight("joints_3d_weight"),
    ),
    "joints_2d": Term(
        joints_2d_loss,
        150.0,
        ("joints_2d", "joints_2d_weight", "head_top", "head_top_weight"),
        _joints_2d_known,
    ),
    "pose": Term(
        pose_loss,
        60.0,
        ("rotations", "pose_weight", "rotations_known"),
        by_weight("pose_weight"),
    ),
    "shape": Term(shape_loss, 0.06, ("betas", "betas_weight"), by_weight("betas_weight")),
    "camera": Term(camera_loss, 1.0),
    "parts": Term(parts_loss, 0.0, ("part_labels", "parts_weight"), _parts_known),
    "joints_l1": Term(
        joints_l1_loss, 0.0, ("joints_3d", "joints_3d_weight"), by_weight("joints_3d_weight")
    ),
    "pose_l1": Term(pose_l1_loss, 0.0, ("rotations", "pose_weight"), by_weight("pose_weight")),
    "points_2d": Term(points_2d_loss, 0.0),
    "keypoints_2d": Term(
        keypoints_2d_loss, 0.0, ("points_2d", "points_2d_weight"), _points_2d_known
    ),
}
