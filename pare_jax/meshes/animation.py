"""Encodes people as rigged GLB: a rest mesh and a skin of 24 joints, still or animated.

Animations are the body model's linear blend skinning without pose correctives. They are exact for
the free body, which has none. A glTF skin cannot hold SMPL's correctives, so with SMPL the surface
at bent joints differs from the prediction. A still pose is exact with every body: its rest mesh
has the pose's correctives.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from pare_jax.body.io import BodyData
from pare_jax.errors import UserError
from pare_jax.meshes.glb import GlbWriter
from pare_jax.meshes.mesh import to_viewer
from pare_jax.rendering.overlay import BODY_COLOURS
from pare_jax.rendering.text import Colour
from pare_jax.skeleton import JOINT_NAMES, NUM_JOINTS


@dataclasses.dataclass(frozen=True)
class BodyMotion:
    """One person's shape, and the pose in several frames.

    Attributes:
        betas: shape coefficients, the same in all frames.
        rotations: of each joint relative to its parent; the root's into the camera frame.
        translations: of the body in the camera frame, metres.
        frames: frame numbers of the poses, strictly increasing; poses between them are
            interpolated.
        times: of the frames, seconds from the clip's first frame, strictly increasing; None: the
            frames are evenly spaced.
        colour: RGB, 0 to 255.
        name: the person's name in the file.
    """

    betas: Float[np.ndarray, "10"]
    rotations: Float[np.ndarray, "times 24 3 3"]
    translations: Float[np.ndarray, "times 3"]
    frames: Int[np.ndarray, " times"]
    colour: Colour = BODY_COLOURS[0]
    name: str = "person"
    times: Float[np.ndarray, " times"] | None = None

    def __post_init__(self):
        count = len(self.frames)
        if np.shape(self.rotations) != (count, NUM_JOINTS, 3, 3):
            raise ValueError(f"{count} frames, but rotations of shape {np.shape(self.rotations)}")
        if np.shape(self.translations) != (count, 3):
            shape = np.shape(self.translations)
            raise ValueError(f"{count} frames, but translations of shape {shape}")
        if count == 0 or (np.diff(self.frames) <= 0).any():
            raise ValueError(f"{self.name!r} has no frames, or frames that do not increase")
        if self.times is not None and (
            np.shape(self.times) != (count,) or (np.diff(self.times) <= 0).any()
        ):
            raise ValueError(f"{self.name!r} needs {count} times that increase")


def rest_body(
    body: BodyData, betas: Float[np.ndarray, "10"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "24 3"]]:
    """Return vertices and joints of the shaped body in the rest pose, body frame, metres."""
    betas = np.asarray(betas, np.float64)
    return body.template + body.shape_basis @ betas, body.joint_template + body.joint_basis @ betas


def four_weights(
    weights: Float[np.ndarray, "V 24"],
) -> tuple[UInt8[np.ndarray, "V 4"], Float[np.ndarray, "V 4"]]:
    """Return each vertex's four strongest joints and their skinning weights, scaled to sum to 1.

    Joints without weight get the number 0. SMPL and the free body have at most four per vertex.
    """
    order = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    strongest = np.take_along_axis(np.asarray(weights, np.float64), order, 1)
    strongest = np.maximum(strongest, 0.0)
    strongest /= strongest.sum(1, keepdims=True)
    joints = np.where(strongest > 0, order, 0).astype(np.uint8)
    return joints, strongest.astype(np.float32)


def animated_glb(
    body: BodyData, motions: Sequence[BodyMotion], frame_rate: float | None = None
) -> bytes:
    """Encode people's motions as one GLB with one animation.

    Each person is a skinned mesh. Its joints are nodes named as in `JOINT_NAMES`; channels animate
    their rotations and the pelvis's translation. Time 0 is the earliest frame of all people. Before
    the first frame and after the last, a person stands still.

    Args:
        body: the predictions' body model.
        motions: at least one.
        frame_rate: frames a second; used only if not every motion has times.

    Returns:
        The file, in the viewer's frame.

    Raises:
        UserError: the frame rate is needed and is not a positive number.
        ValueError: there are no motions.
    """
    if not motions:
        raise ValueError("no motions to write")
    clocks = _clocks(motions, frame_rate)
    writer = GlbWriter()
    skinning = four_weights(body.weights)
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []
    roots: list[int] = []
    for motion, times in zip(motions, clocks, strict=True):
        vertices, rest = rest_body(body, motion.betas)
        quaternions = _quaternions(motion.rotations)
        pelvis = to_viewer(rest[0] + np.asarray(motion.translations, np.float64))
        first_pose = quaternions[0], pelvis[0]
        nodes, skinned = _rigged(writer, body, motion, vertices, skinning, rest, first_pose)
        roots += [nodes[0], skinned]
        stored_times = writer.numbers(times.astype(np.float32), bounds=True)
        outputs = [(nodes[0], "translation", pelvis)]
        outputs += [(node, "rotation", quaternions[:, j]) for j, node in enumerate(nodes)]
        for node, path, values in outputs:
            sampler = {"input": stored_times, "output": writer.numbers(values.astype(np.float32))}
            samplers.append(sampler | {"interpolation": "LINEAR"})
            channels.append(
                {"sampler": len(samplers) - 1, "target": {"node": node, "path": path}},
            )
    writer.add("animations", {"name": "motion", "samplers": samplers, "channels": channels})
    return writer.encode(roots)


def _clocks(motions: Sequence[BodyMotion], frame_rate: float | None) -> list[np.ndarray]:
    """Return each motion's seconds from the earliest frame of all."""
    clocks = [np.asarray(motion.times) for motion in motions if motion.times is not None]
    if len(clocks) < len(motions):
        if frame_rate is None or not (np.isfinite(frame_rate) and frame_rate > 0):
            raise UserError(
                f"a clip of {frame_rate} frames per second cannot be animated; give its frame rate"
            )
        clocks = [np.asarray(motion.frames) / frame_rate for motion in motions]
    start = min(float(clock[0]) for clock in clocks)
    return [clock - start for clock in clocks]


def rigged_glb(body: BodyData, poses: Sequence[BodyMotion]) -> bytes:
    """Encode people in still poses as one GLB: skinned meshes without an animation.

    Nodes are those of `animated_glb`. The rest mesh has the pose correctives of the person's pose,
    so that the posed surface is the body model's own.

    Args:
        body: the predictions' body model.
        poses: at least one; the first frame of each is used.

    Returns:
        The file, in the viewer's frame.

    Raises:
        ValueError: there are no poses.
    """
    if not poses:
        raise ValueError("no poses to write")
    writer = GlbWriter()
    skinning = four_weights(body.weights)
    roots: list[int] = []
    for pose in poses:
        vertices, rest = rest_body(body, pose.betas)
        rotations = np.asarray(pose.rotations[0], np.float64)
        if body.has_pose_basis:
            vertices = vertices + body.pose_basis @ (rotations[1:] - np.eye(3)).reshape(-1)
        pelvis = to_viewer(rest[0] + np.asarray(pose.translations[0], np.float64))
        placed = _quaternions(rotations[None])[0], pelvis
        nodes, skinned = _rigged(writer, body, pose, vertices, skinning, rest, placed)
        roots += [nodes[0], skinned]
    return writer.encode(roots)


def _rigged(
    writer: GlbWriter,
    body: BodyData,
    person: BodyMotion,
    vertices: np.ndarray,
    skinning: tuple[np.ndarray, np.ndarray],
    rest: np.ndarray,
    pose: tuple[np.ndarray, np.ndarray],
) -> tuple[list[int], int]:
    """Add a skinned mesh in a pose (quaternions, pelvis); return joints' nodes and the mesh's."""
    attributes = {"JOINTS_0": skinning[0], "WEIGHTS_0": skinning[1]}
    mesh = writer.mesh(person.name, person.colour, vertices, body.faces, attributes)
    nodes = _skeleton(writer, body.parents, rest, *pose)
    skin = writer.add("skins", _skin(writer, person.name, nodes, rest))
    return nodes, writer.add("nodes", {"name": person.name, "mesh": mesh, "skin": skin})


def _skeleton(
    writer: GlbWriter,
    parents: Sequence[int],
    rest: np.ndarray,
    quaternions: np.ndarray,
    pelvis: np.ndarray,
) -> list[int]:
    """Add the joints' nodes in their first pose; return the nodes' indices, the root's first."""
    first = len(writer.scene["nodes"])
    for joint, parent in enumerate(parents):
        bone = pelvis if parent < 0 else rest[joint] - rest[parent]
        node = {
            "name": JOINT_NAMES[joint],
            "translation": np.asarray(bone, np.float32).tolist(),
            "rotation": quaternions[joint].astype(np.float32).tolist(),
        }
        writer.add("nodes", node)
        if parent >= 0:
            writer.scene["nodes"][first + parent].setdefault("children", []).append(first + joint)
    return list(range(first, first + len(parents)))


def _skin(writer: GlbWriter, name: str, nodes: list[int], rest: np.ndarray) -> dict[str, Any]:
    """Describe the skin of one person."""
    # The rest pose has no rotations: its inverse only moves each joint to the origin.
    inverse = np.tile(np.eye(4, dtype=np.float32), (NUM_JOINTS, 1, 1))
    inverse[:, :3, 3] = -rest
    columns_first = inverse.transpose(0, 2, 1).reshape(NUM_JOINTS, 16)
    return {
        "name": name,
        "inverseBindMatrices": writer.numbers(columns_first),
        "joints": nodes,
        "skeleton": nodes[0],
    }


def _quaternions(rotations: np.ndarray) -> Float[np.ndarray, "times 24 4"]:
    """Return unit quaternions (x, y, z, w) in the viewer's frame, without jumps in sign."""
    from scipy.spatial.transform import Rotation  # slow to import

    times, joints = rotations.shape[:2]
    result = np.empty((times, joints, 4))
    for joint in range(joints):  # one at a time, to save memory with long clips
        matrices = np.asarray(rotations[:, joint], np.float64)
        if joint == 0:
            matrices = to_viewer(matrices.swapaxes(-1, -2)).swapaxes(-1, -2)
        quaternions = Rotation.from_matrix(matrices).as_quat()
        # q and -q are the same rotation, but between them interpolation takes the longer way.
        flips = np.where((quaternions[1:] * quaternions[:-1]).sum(-1) < 0, -1.0, 1.0)
        quaternions[1:] *= np.cumprod(flips)[:, None]
        result[:, joint] = quaternions
    return result
