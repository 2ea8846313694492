"""Moves images and labels from the stored crop to the network's crop, in plain NumPy.

Labels are moved by the same code on the devices, with jax.numpy (`reading/device_cache.py`).

One affine per sample crops, scales, rotates and mirrors. It maps stored-crop coordinates to
network-crop coordinates (conventions: `data_pipelines.example`). Labels are moved by that affine,
or by the rotation and mirror it was built from. The functions take a batch at once.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_pipelines.example import BATCH_PARTS_STRIDE, CROP_MARGIN, STORED_PARTS_STRIDE
from data_pipelines.reading import jpeg
from pare_jax.keypoints.sets import POINT_MIRROR
from pare_jax.skeleton import MIRROR, NUM_JOINTS, PART_UNKNOWN

# Mirroring an image is x -> -x in the camera frame.
_MIRROR_AXES = np.array([-1.0, 1.0, 1.0])
_MIRROR_ROTATION = _MIRROR_AXES[:, None] * _MIRROR_AXES[None, :]
_MIRROR_JOINTS = np.array(MIRROR)
# Part label k becomes MIRROR_PARTS[k]; background and unknown do not change.
MIRROR_PARTS = np.arange(256, dtype=np.uint8)
MIRROR_PARTS[1 : NUM_JOINTS + 1] = _MIRROR_JOINTS + 1
# Labels of the joints, which trade sides in a mirrored image.
_JOINT_LABELS = (
    *("joints_2d", "joints_2d_weight", "joints_3d", "joints_3d_known"),
    *("rotations", "rotations_known", "visible", "visible_weight"),
)
_MIRROR_POINTS = np.array(POINT_MIRROR)
# Labels of body points, likewise.
_POINT_LABELS = ("points_2d", "points_2d_weight")


class BadExampleError(ValueError):
    """A stored example that cannot be decoded; the caller adds its name to the message."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """Scale, rotation and mirror of each sample of a batch.

    Attributes:
        crop_scale: side of the cut square over the side of the unscaled crop; above 1 the person
            gets smaller.
        rotation: radians about the crop's centre, clockwise in the image, which is a positive
            rotation about the camera's z axis.
        mirror: whether the image is mirrored, which happens before the rotation.
    """

    crop_scale: Float[np.ndarray, "b"]
    rotation: Float[np.ndarray, "b"]
    mirror: Bool[np.ndarray, "b"]


def identity_placement(count: int) -> Placement:
    """Return the placement for evaluation: not scaled, not rotated, not mirrored."""
    return Placement(np.ones(count), np.zeros(count), np.zeros(count, bool))


def random_placement(uniforms: Float[np.ndarray, "b 4"], settings) -> Placement:
    """Turn uniform numbers into placements for training.

    Args:
        uniforms: four independent numbers in [0, 1) per sample.
        settings: `scale` (crop_scale is uniform in 1 -+ scale), `rotation` (degrees; standard
            deviation of a normal distribution, clipped at twice that) and `flip` (probability of a
            mirrored image).

    Returns:
        The placement of each sample.
    """
    # The Box-Muller transform: two uniform numbers give a normal one.
    normal = np.sqrt(-2.0 * np.log1p(-uniforms[:, 2])) * np.cos(2.0 * np.pi * uniforms[:, 3])
    return Placement(
        crop_scale=1.0 + settings.scale * (2.0 * uniforms[:, 0] - 1.0),
        rotation=np.deg2rad(settings.rotation) * np.clip(normal, -2.0, 2.0),
        mirror=uniforms[:, 1] < settings.flip,
    )


def _rotation_2d(angles: Any, xp: Any = np) -> Any:
    cos, sin = xp.cos(angles), xp.sin(angles)
    return xp.stack([xp.stack([cos, -sin], -1), xp.stack([sin, cos], -1)], -2)


def _in_plane_rotation(angles: Any, xp: Any) -> Any:
    """Return rotations about the optical axis, (b, 3, 3)."""
    rotation = xp.pad(_rotation_2d(angles, xp), ((0, 0), (0, 1), (0, 1)))
    return rotation + xp.diag(xp.array([0.0, 0.0, 1.0]))


def crop_affine(
    placement: Placement, stored_sides: Float[np.ndarray, "b"], image_size: int
) -> Float[np.ndarray, "b 2 3"]:
    """Build the affine from stored-crop pixels to network-crop pixels.

    Args:
        placement: scale, rotation and mirror of each sample.
        stored_sides: sides of the stored crops, pixels.
        image_size: side of the network crop, pixels.

    Returns:
        Matrices in float64.
    """
    sides = np.asarray(stored_sides, np.float64)
    zoom = image_size * CROP_MARGIN / (sides * placement.crop_scale)
    linear = zoom[:, None, None] * _rotation_2d(placement.rotation)
    linear[:, :, 0] *= np.where(placement.mirror, -1.0, 1.0)[:, None]
    centre = np.broadcast_to((sides / 2.0)[:, None, None], (len(sides), 2, 1))
    return np.concatenate([linear, image_size / 2.0 - linear @ centre], axis=-1)


def invert_affine(affine: Float[np.ndarray, "*b 2 3"]) -> Float[np.ndarray, "*b 2 3"]:
    """Invert affines given as (2, 3) matrices."""
    linear = np.linalg.inv(affine[..., :2])
    return np.concatenate([linear, -linear @ affine[..., 2:]], axis=-1)


def apply_affine(
    affine: Float[np.ndarray, "*b 2 3"], points: Float[np.ndarray, "*b n 2"]
) -> Float[np.ndarray, "*b n 2"]:
    """Apply affines to points."""
    return points @ affine[..., :2].swapaxes(-1, -2) + affine[..., None, :, 2]


def stored_side(image: bytes | UInt8[np.ndarray, "s s 3"]) -> int:
    """Return the side of a stored crop; a JPEG's is read from its header.

    Raises:
        BadExampleError: the bytes are not a JPEG, or the image is not square.
    """
    if isinstance(image, np.ndarray):
        return len(image)
    size, _ = jpeg.read_header(image)
    if size is None:
        raise BadExampleError("the stored crop is not a JPEG")
    width, height = size
    if height != width or not height:
        raise BadExampleError(f"the stored crop of {width}x{height} pixels is not square")
    return height


def decode_images(example: Mapping[str, Any]) -> dict[str, Any]:
    """Decode the image and the part labels of a stored example.

    Returns:
        The example with arrays in their places; `warp_image` and `warp_parts` take both forms.

    Raises:
        BadExampleError: one of them cannot be decoded.
    """
    decoded = {"image": _decode_image(example["image"], 1)}
    if example["part_labels"]:
        decoded["part_labels"] = _decode_parts(example["part_labels"])
    return {**example, **decoded}


def _decode_image(encoded: bytes, reduction: int) -> UInt8[np.ndarray, "s s 3"]:
    image = jpeg.decode(encoded, reduction)
    if image is None:
        raise BadExampleError("the stored crop cannot be decoded")
    return image


def _decode_parts(encoded: bytes) -> UInt8[np.ndarray, "p p"]:
    labels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2:
        raise BadExampleError("the stored part labels cannot be decoded")
    return labels


def warp_image(
    image: bytes | UInt8[np.ndarray, "S S 3"],
    to_stored: Float[np.ndarray, "2 3"],
    out: UInt8[np.ndarray, "s s 3"],
) -> None:
    """Warp a stored crop into the network's crop.

    An affine that shrinks by two or more decodes the JPEG at 1/2, 1/4 or 1/8 of its size. That is
    faster, and averages over the pixels that bilinear interpolation would skip.

    Args:
        image: the stored JPEG, or its pixels for an affine that shrinks by less than two.
        to_stored: network-crop to stored-crop coordinates.
        out: the network's crop, written in place; black outside the stored crop.

    Raises:
        BadExampleError: the JPEG cannot be decoded.
    """
    reduction = 1
    if not isinstance(image, np.ndarray):
        determinant = to_stored[0, 0] * to_stored[1, 1] - to_stored[0, 1] * to_stored[1, 0]
        shrink = math.sqrt(abs(determinant))
        reduction = jpeg.reduction_for(shrink * (1 + 1e-9))
        image = _decode_image(image, reduction)
    # OpenCV warps four channels in less than half the time of three, with the same result.
    image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    warped = _warp(image, to_stored, 1.0 / reduction, 1.0, len(out), cv2.INTER_LINEAR)
    cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)


def warp_parts(
    labels: bytes | UInt8[np.ndarray, "P P"],
    to_stored: Float[np.ndarray, "2 3"],
    mirror: bool,
    out: UInt8[np.ndarray, "p p"],
) -> None:
    """Warp stored part labels into the network's crop by nearest neighbour.

    Args:
        labels: the stored PNG, or its pixels; b"" gives "unknown" everywhere.
        to_stored: network-crop to stored-crop coordinates of the image.
        mirror: whether the affine mirrors, which swaps left and right labels.
        out: part labels at 1 / BATCH_PARTS_STRIDE of the network's crop, written in place;
            background outside the stored crop, where the image is black.

    Raises:
        BadExampleError: the labels cannot be decoded.
    """
    if not isinstance(labels, np.ndarray):
        if not labels:
            out[:] = PART_UNKNOWN
            return
        labels = _decode_parts(labels)
    warped = _warp(
        labels,
        to_stored,
        1.0 / STORED_PARTS_STRIDE,
        1.0 / BATCH_PARTS_STRIDE,
        len(out),
        cv2.INTER_NEAREST,
    )
    out[:] = MIRROR_PARTS[warped] if mirror else warped


def _warp(
    source: np.ndarray,
    to_stored: np.ndarray,
    source_scale: float,
    out_scale: float,
    out_side: int,
    interpolation: int,
) -> np.ndarray:
    """Warp the stored crop, scaled by `source_scale`, into the network's, scaled by `out_scale`.

    Pixels outside the source become 0.
    """
    matrix = to_stored * source_scale
    matrix[:, :2] /= out_scale
    # Integers are pixel centres in OpenCV, pixel corners here.
    matrix[:, 2] += 0.5 * (matrix[:, 0] + matrix[:, 1]) - 0.5
    return cv2.warpAffine(
        source,
        matrix,
        (out_side, out_side),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0, 0),
    )


def may_skip_pixels(side: int, image_size: int, scale: float) -> bool:
    """Return whether some crop shrinks by two or more, which `warp_image` does in two steps.

    Args:
        side: of the stored crop, pixels.
        image_size: side of the network's crop, pixels.
        scale: the largest crop_scale is 1 + scale.
    """
    return side * (1 + scale) >= 2 * CROP_MARGIN * image_size


def mirror_labels(
    labels: Mapping[str, Any], mirror: Bool[np.ndarray, "b"], xp: Any = np
) -> dict[str, Any]:
    """Mirror 3D labels and swap left and right; 2D positions are mirrored by the affine.

    A mirrored person's left is the person's right: joint j takes the values of MIRROR[j]. With
    M = diag(-1, 1, 1), a joint's position p becomes M p. Its rotation R, relative to its parent in
    a body frame that is symmetric in x, becomes M R M.

    Args:
        labels: fields of `example.STORED_FIELDS` with a leading batch axis.
        mirror: the samples to mirror.
        xp: numpy, or jax.numpy for arrays on devices.

    Returns:
        The labels of joints and body points among `labels`.
    """
    swapped = {name: labels[name][:, _MIRROR_JOINTS] for name in _JOINT_LABELS if name in labels}
    swapped |= {name: labels[name][:, _MIRROR_POINTS] for name in _POINT_LABELS if name in labels}
    swapped["joints_3d"] = swapped["joints_3d"] * _MIRROR_AXES
    swapped["rotations"] = swapped["rotations"] * _MIRROR_ROTATION
    return {
        name: xp.where(mirror.reshape((-1,) + (1,) * (value.ndim - 1)), value, labels[name])
        for name, value in swapped.items()
    }


def move_labels(
    labels: Mapping[str, Any],
    placement: Placement,
    affine: Float[np.ndarray, "b 2 3"],
    image_size: int,
    xp: Any = np,
) -> dict[str, Any]:
    """Move labels from the stored crop to the network's; part labels are moved by `warp_parts`.

    A joint outside the crop becomes invisible but keeps its 2D position and weight: the position
    of a cut-off limb is known, and the network should learn it.

    Args:
        labels: fields of `example.STORED_FIELDS` with a leading batch axis. They may lack
            head_size, points_2d, visible and visible_weight.
        placement: the placement `affine` was built from.
        affine: stored-crop to network-crop coordinates.
        image_size: side of the network's crop, pixels.
        xp: numpy, or jax.numpy for arrays on devices.

    Returns:
        The labels that change, as `example.BATCH_FIELDS` defines them, float32.
    """
    moved = mirror_labels(labels, placement.mirror, xp)
    in_plane = _in_plane_rotation(placement.rotation, xp)

    known = moved["joints_2d_weight"] > 0
    # The affine mirrors the positions, mirror_labels the joints' order.
    joints_2d = apply_affine(affine, moved["joints_2d"]) / (image_size / 2.0) - 1.0
    moved["joints_2d"] = xp.where(known[..., None], joints_2d, 0.0)
    if "points_2d" in moved:
        points_2d = apply_affine(affine, moved["points_2d"]) / (image_size / 2.0) - 1.0
        weighs = moved["points_2d_weight"][..., None] > 0
        moved["points_2d"] = xp.where(weighs, points_2d, 0.0)
    head_top = apply_affine(affine, labels["head_top"][:, None])[:, 0] / (image_size / 2.0) - 1.0
    moved["head_top"] = xp.where(labels["head_top_weight"][:, None] > 0, head_top, 0.0)
    if "head_size" in labels:
        # Rotation and mirror keep lengths, and the scale is the same along both axes.
        scale = xp.sqrt(xp.abs(xp.linalg.det(affine[:, :, :2])))
        moved["head_size"] = labels["head_size"] * scale / (image_size / 2.0)
    if "visible" in labels:
        outside = known & xp.any(xp.abs(joints_2d) > 1.0, axis=-1)
        moved["visible"] = xp.where(outside, 0.0, moved["visible"])

    moved["joints_3d"] = moved["joints_3d"] @ in_plane.swapaxes(-1, -2)
    # A missing pose stays the identity.
    posed = labels["pose_weight"][:, None, None] > 0
    root, others = moved["rotations"][:, :1], moved["rotations"][:, 1:]
    root = xp.where(posed[:, None], in_plane[:, None] @ root, root)
    moved["rotations"] = xp.concatenate([root, others], axis=1)
    return {name: xp.asarray(value, np.float32) for name, value in moved.items()}
