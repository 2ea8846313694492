"""Move a person's picture and labels from the stored crop to the network's, in plain numpy.

One affine per sample does everything: crop, scale, rotation and mirror. It maps stored-crop
coordinates to network-crop coordinates, both continuous with the origin at the top-left corner
(`data_pipelines.example`), and every label is moved by that matrix or by the rotation and mirror
it was built from. All functions take a batch at once.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.example import BATCH_PARTS_STRIDE, CROP_MARGIN, STORED_PARTS_STRIDE
from data_pipelines.reading import jpeg
from pare_jax.skeleton import MIRROR, NUM_JOINTS, PART_UNKNOWN

# Mirroring a picture is x -> -x in the camera frame.
_MIRROR_AXES = np.array([-1.0, 1.0, 1.0])
_MIRROR_ROTATION = _MIRROR_AXES[:, None] * _MIRROR_AXES[None, :]
_MIRROR_JOINTS = np.array(MIRROR)
# Part label k becomes _MIRROR_PARTS[k]; background and unknown stay.
_MIRROR_PARTS = np.arange(256, dtype=np.uint8)
_MIRROR_PARTS[1 : NUM_JOINTS + 1] = _MIRROR_JOINTS + 1


class BadExampleError(ValueError):
    """A stored example that cannot be used; whoever knows which one it is names it."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """How each sample of a batch lies in its network crop.

    Attributes:
        crop_scale: side of the cut region over the nominal crop's; above 1 the person gets smaller.
        rotation: radians about the crop's centre, clockwise as seen (x right, y down), which is a
            positive turn about the camera's z axis.
        mirror: whether the picture is mirrored (before it is rotated).
    """

    crop_scale: Float[np.ndarray, "b"]
    rotation: Float[np.ndarray, "b"]
    mirror: np.ndarray


def identity_placement(count: int) -> Placement:
    """Return the placement evaluation uses: the nominal crop, upright, not mirrored."""
    return Placement(np.ones(count), np.zeros(count), np.zeros(count, bool))


def random_placement(uniforms: Float[np.ndarray, "b 4"], settings) -> Placement:
    """Turn uniform numbers into a training placement.

    Args:
        uniforms: four independent numbers in [0, 1) per sample.
        settings: `scale` (crop_scale is uniform in 1 -+ scale), `rotation` (standard deviation of a
            normal distribution cut at twice that, degrees) and `flip` (probability of a mirrored
            picture).

    Returns:
        The placement of each sample.
    """
    # Box and Muller's way from two uniform numbers to a normal one.
    normal = np.sqrt(-2.0 * np.log1p(-uniforms[:, 2])) * np.cos(2.0 * np.pi * uniforms[:, 3])
    return Placement(
        crop_scale=1.0 + settings.scale * (2.0 * uniforms[:, 0] - 1.0),
        rotation=np.deg2rad(settings.rotation) * np.clip(normal, -2.0, 2.0),
        mirror=uniforms[:, 1] < settings.flip,
    )


def _rotation_2d(angles: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


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


def compose_affine(
    outer: Float[np.ndarray, "*b 2 3"], inner: Float[np.ndarray, "*b 2 3"]
) -> Float[np.ndarray, "*b 2 3"]:
    """Return the affine that applies `inner`, then `outer`."""
    linear = outer[..., :2] @ inner[..., :2]
    return np.concatenate([linear, outer[..., :2] @ inner[..., 2:] + outer[..., 2:]], axis=-1)


def apply_affine(
    affine: Float[np.ndarray, "*b 2 3"], points: Float[np.ndarray, "*b n 2"]
) -> Float[np.ndarray, "*b n 2"]:
    """Move points by affines."""
    return points @ np.swapaxes(affine[..., :2], -1, -2) + affine[..., None, :, 2]


def stored_side(image: bytes | UInt8[np.ndarray, "s s 3"]) -> int:
    """Return the side of a stored crop; that of a JPEG stands in its header.

    Raises:
        BadExampleError: the bytes are no JPEG or the picture is not square.
    """
    if isinstance(image, np.ndarray):
        return len(image)
    size, _ = jpeg.read_header(image)
    if size is None:
        raise BadExampleError("stored crop is not a JPEG picture")
    width, height = size
    if height != width or not height:
        raise BadExampleError(f"stored crop of {width}x{height} pixels is not square")
    return height


def decode_pictures(example: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example with its picture and part labels decoded, as the warps below take them too.

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
        raise BadExampleError("stored crop cannot be decoded")
    return image


def _decode_parts(encoded: bytes) -> UInt8[np.ndarray, "p p"]:
    labels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2:
        raise BadExampleError("stored part labels cannot be decoded")
    return labels


def warp_image(
    image: bytes | UInt8[np.ndarray, "S S 3"],
    to_stored: Float[np.ndarray, "2 3"],
    out: UInt8[np.ndarray, "s s 3"],
) -> None:
    """Warp a stored crop into `out`, decoding it first where it is not.

    Where the affine shrinks by two or more, the picture is decoded at 1/2, 1/4 or 1/8 of its size,
    which averages over the pixels that bilinear interpolation would skip, and is faster.

    Args:
        image: the stored JPEG, or the same decoded, for affines that shrink by less than two.
        to_stored: network-crop to stored-crop coordinates.
        out: the network crop, written in place; what lies outside the stored crop becomes black.

    Raises:
        BadExampleError: the picture cannot be decoded.
    """
    reduction = 1
    if not isinstance(image, np.ndarray):
        determinant = to_stored[0, 0] * to_stored[1, 1] - to_stored[0, 1] * to_stored[1, 0]
        shrink = math.sqrt(abs(determinant))
        reduction = jpeg.reduction_for(shrink * (1 + 1e-9))
        image = _decode_image(image, reduction)
    # OpenCV warps four channels in less than half the time it takes for three, to the same bytes.
    image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    warped = _warp(image, to_stored, 1.0 / reduction, 1.0, len(out), cv2.INTER_LINEAR)
    cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)


def warp_parts(
    labels: bytes | UInt8[np.ndarray, "P P"],
    to_stored: Float[np.ndarray, "2 3"],
    mirror: bool,
    out: UInt8[np.ndarray, "p p"],
) -> None:
    """Warp stored part labels into `out` by nearest neighbour, decoding them where they are not.

    Args:
        labels: the stored PNG, or the same decoded; b"" where the dataset has none, which gives all
            unknown.
        to_stored: network-crop to stored-crop coordinates of the picture.
        mirror: whether the affine mirrors, so that left and right labels trade places.
        out: part labels at 1 / BATCH_PARTS_STRIDE of the network crop, written in place; what lies
            outside the stored crop is background, for the picture is black there.

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
    out[:] = _MIRROR_PARTS[warped] if mirror else warped


def _warp(
    source: np.ndarray,
    to_stored: np.ndarray,
    source_scale: float,
    out_scale: float,
    out_side: int,
    interpolation: int,
) -> np.ndarray:
    """Warp `source`, the stored crop scaled, into the network crop scaled; outside becomes 0."""
    matrix = to_stored * source_scale
    matrix[:, :2] /= out_scale
    # OpenCV's integers are pixel centres, ours are pixel corners.
    matrix[:, 2] += 0.5 * (matrix[:, 0] + matrix[:, 1]) - 0.5
    return cv2.warpAffine(
        source,
        matrix,
        (out_side, out_side),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0, 0),
    )


def mirror_labels(labels: dict[str, np.ndarray], mirror: np.ndarray) -> dict[str, np.ndarray]:
    """Mirror 3D and per-joint labels where `mirror` says so; 2D positions belong to the affine.

    The mirrored person's left is the person's right: joint j takes the values of MIRROR[j]. With
    M = diag(-1, 1, 1) a joint's position p becomes M p and its rotation R, relative to its parent
    in a body frame that is symmetric in x, becomes M R M.

    Args:
        labels: fields of `example.STORED_FIELDS` with a leading batch axis.
        mirror: (b,) bool.

    Returns:
        The fields joints_2d, joints_3d, rotations, visible and the joints' own weights, mirrored.
    """
    swapped = {
        name: labels[name][:, _MIRROR_JOINTS]
        for name in (
            "joints_2d",
            "joints_2d_weight",
            "joints_3d",
            "rotations",
            "visible",
            "visible_weight",
        )
    }
    swapped["joints_3d"] = swapped["joints_3d"] * _MIRROR_AXES
    swapped["rotations"] = swapped["rotations"] * _MIRROR_ROTATION
    return {
        name: np.where(mirror.reshape((-1,) + (1,) * (value.ndim - 1)), value, labels[name])
        for name, value in swapped.items()
    }


def move_labels(
    labels: dict[str, np.ndarray],
    placement: Placement,
    affine: Float[np.ndarray, "b 2 3"],
    image_size: int,
) -> dict[str, np.ndarray]:
    """Move every label but the part labels along with the picture.

    A joint that leaves the crop becomes invisible but keeps its 2D position and weight: where a cut
    off limb would be is known and worth learning.

    Args:
        labels: fields of `example.STORED_FIELDS` with a leading batch axis.
        placement: what `affine` was built from.
        affine: stored-crop to network-crop coordinates.
        image_size: side of the network crop, pixels.

    Returns:
        The moved fields as `example.BATCH_FIELDS` names and measures them, float32.
    """
    moved = mirror_labels(labels, placement.mirror)
    in_plane = np.broadcast_to(np.eye(3), (len(affine), 3, 3)).copy()
    in_plane[:, :2, :2] = _rotation_2d(placement.rotation)

    known = moved["joints_2d_weight"] > 0
    joints_2d = apply_affine(affine, moved["joints_2d"]) / (image_size / 2.0) - 1.0
    # The stored positions are mirrored by the affine itself, names by mirror_labels.
    moved["joints_2d"] = np.where(known[..., None], joints_2d, 0.0)
    head_top = apply_affine(affine, labels["head_top"][:, None])[:, 0] / (image_size / 2.0) - 1.0
    moved["head_top"] = np.where(labels["head_top_weight"][:, None] > 0, head_top, 0.0)
    # Turning and mirroring change no length; the zoom is the same along both axes.
    zoom = np.sqrt(np.abs(np.linalg.det(affine[:, :, :2])))
    moved["head_size"] = labels["head_size"] * zoom / (image_size / 2.0)
    outside = known & np.any(np.abs(joints_2d) > 1.0, axis=-1)
    moved["visible"] = np.where(outside, 0.0, moved["visible"])

    moved["joints_3d"] = moved["joints_3d"] @ np.swapaxes(in_plane, -1, -2)
    has_pose = labels["pose_weight"] > 0
    root = np.where(
        has_pose[:, None, None], in_plane @ moved["rotations"][:, 0], moved["rotations"][:, 0]
    )
    moved["rotations"] = np.concatenate([root[:, None], moved["rotations"][:, 1:]], axis=1)
    moved["crop_to_photo"] = compose_affine(labels["crop_to_photo"], invert_affine(affine))
    return {name: np.asarray(value, np.float32) for name, value in moved.items()}
