"""Draws batches of bodies on the device: poses, shapes, cameras, and their keypoints.

No picture is drawn. A network that sees keypoints alone does not need one (STRAPS, Sengupta et
al., BMVC 2020; HierProb3D, ICCV 2021, train on projected bodies in the same way).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipelines.bodies.body_settings import BodySettings
from data_pipelines.bodies.corruption import corrupt
from pare_jax.geometry import axis_angle_to_matrix
from pare_jax.keypoints.body_points import PointBody
from pare_jax.keypoints.keypoints import SQUARE_SCALE, SURE
from pare_jax.keypoints.sets import point_index
from pare_jax.skeleton import MIRROR, NUM_BETAS, NUM_JOINTS, joint_index

Batch = dict[str, Array]

_LOWER = tuple(
    joint_index(f"{side}_{name}")
    for side in ("left", "right")
    for name in ("hip", "knee", "ankle", "foot")
)
_LEFT_ARM = tuple(
    joint_index(f"left_{name}") for name in ("collar", "shoulder", "elbow", "wrist", "hand")
)


@functools.partial(jax.jit, static_argnames=("count", "settings"))
def draw_batch(
    key: jax.Array,
    pool: Float[Array, "poses 24 3 3"],
    body: PointBody,
    *,
    count: int,
    settings: BodySettings,
) -> Batch:
    """Draw people with their keypoints as a detector would find them.

    Args:
        key: of the random numbers; the batch is a function of it.
        pool: poses to combine, relative to the parents, roots in a frame with y up, facing +z.
        body: the points of the body model.
        count: number of people.
        settings: how often and how much everything varies.

    Returns:
        Fields of `data_pipelines/example.py`, and `keypoints` (count, P, 5): x and y in units of
        the person's square, confidence, depth about the hips (metres), 1 if the depth is known.
    """
    keys = jax.random.split(key, 6)
    rotations = _draw_poses(keys[0], pool, count, settings)
    betas = settings.shape * jax.random.normal(keys[1], (count, NUM_BETAS))
    root, position, focal_length = _draw_views(keys[2], count, settings)
    rotations = rotations.at[:, 0].set(_matmul(root, rotations[:, 0]))
    points, joints = body.place(rotations, betas)
    # The camera looks at the middle of the hips.
    joints, points = joints - joints[:, :1], points - joints[:, :1]
    middle = points[:, [point_index("pelvis")]]
    pixels = _project(points - middle, position, focal_length)
    depth = (points - middle)[..., 2]
    observed = corrupt(keys[3], pixels, depth, body.known, settings)
    centre, half = _square(observed)
    known = observed[..., 2:3] > 0
    place = jnp.where(known, (observed[..., :2] - centre[:, None]) / half[:, None, None], 0.0)
    joints_2d = _project(joints - middle, position, focal_length)
    head_top = pixels[:, point_index("head_top")]
    ones = jnp.ones(count)
    return {
        "keypoints": jnp.concatenate([place, observed[..., 2:]], -1),
        "joints_2d": (joints_2d - centre[:, None]) / half[:, None, None],
        "joints_2d_weight": jnp.ones((count, NUM_JOINTS)),
        "head_top": (head_top - centre) / half[:, None],
        "head_top_weight": ones,
        "points_2d": (pixels - centre[:, None]) / half[:, None, None],
        "joints_3d": joints,
        "joints_3d_weight": ones,
        "joints_3d_known": jnp.ones((count, NUM_JOINTS)),
        "points_3d": points,
        "rotations": rotations,
        "pose_weight": ones,
        "rotations_known": jnp.ones((count, NUM_JOINTS)),
        "betas": betas,
        "betas_weight": ones,
    }


def _draw_poses(
    key: jax.Array, pool: Array, count: int, settings: BodySettings
) -> Float[Array, "count 24 3 3"]:
    """Combine legs, trunk and arms of poses of the pool, mirror half, and jitter every joint."""
    keys = jax.random.split(key, 8)
    chosen = jax.random.randint(keys[0], (3, count), 0, len(pool))
    rotations = pool[chosen[0]]
    joints = np.arange(NUM_JOINTS)
    for row, part in ((1, _LOWER), (2, _LEFT_ARM)):
        other = pool[chosen[row]]
        swaps = jax.random.bernoulli(keys[row], settings.exchange, (count,))
        takes = swaps[:, None] & np.isin(joints, part)[None]
        rotations = jnp.where(takes[..., None, None], other, rotations)
        if part == _LOWER:  # the trunk's lean keeps the balance of the legs
            rotations = rotations.at[:, 0].set(
                jnp.where(swaps[:, None, None], other[:, 0], rotations[:, 0])
            )
    flip = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
    mirrored = flip @ rotations[:, np.array(MIRROR)] @ flip
    mirrors = jax.random.bernoulli(keys[3], 0.5, (count, 1, 1, 1))
    rotations = jnp.where(mirrors, mirrored, rotations)
    # Most poses move a little, some much.
    strength = jnp.abs(jax.random.normal(keys[4], (count, 1, 1))) * settings.jitter
    turns = jnp.deg2rad(strength) * jax.random.normal(keys[5], (count, NUM_JOINTS, 3))
    turns = turns.at[:, 0].set(0.0)
    return _matmul(rotations, axis_angle_to_matrix(turns))


def _draw_views(
    key: jax.Array, count: int, settings: BodySettings
) -> tuple[Float[Array, "count 3 3"], Float[Array, "count 3"], Float[Array, " count"]]:
    """Draw cameras.

    Returns:
        Rotations from the upright world into the camera frame; the place of the hips' middle in the
        camera frame, metres; focal lengths in arbitrary pixels.
    """
    keys = jax.random.split(key, 8)
    yaw = jax.random.uniform(keys[0], (count,), maxval=2 * np.pi)
    pitch = jnp.deg2rad(settings.pitch) * jax.random.normal(keys[1], (count,))
    high = jnp.deg2rad(jax.random.uniform(keys[2], (count,), minval=-30.0, maxval=75.0))
    pitch = jnp.where(jax.random.bernoulli(keys[3], settings.high, (count,)), high, pitch)
    roll = jnp.deg2rad(settings.roll) * jax.random.normal(keys[4], (count,))
    # People who lie, dive or hang are turned in any direction.
    tilts = jax.random.bernoulli(keys[5], settings.tilted, (count,))
    tilt = jax.random.uniform(keys[6], (2, count), minval=-np.pi, maxval=np.pi)
    world = _matmul(_about(2, jnp.where(tilts, tilt[0], 0.0)), _about(1, yaw))
    world = _matmul(_about(0, jnp.where(tilts, 0.5 * tilt[1], 0.0)), world)
    camera = _matmul(_about(2, roll), _about(0, np.pi + pitch))
    log_distance = jax.random.uniform(
        keys[7], (count,), minval=np.log(settings.nearest), maxval=np.log(settings.farthest)
    )
    distance = jnp.exp(log_distance)
    position = jnp.stack([jnp.zeros(count), jnp.zeros(count), distance], -1)
    return _matmul(camera, world), position, distance


def _project(
    points: Float[Array, "b n 3"], position: Float[Array, "b 3"], focal_length: Float[Array, " b"]
) -> Float[Array, "b n 2"]:
    moved = points + position[:, None]
    return moved[..., :2] / jnp.maximum(moved[..., 2:], 0.3) * focal_length[:, None, None]


def _square(observed: Float[Array, "b p 5"]) -> tuple[Float[Array, "b 2"], Float[Array, " b"]]:
    """Return centre and half side of the square around the confident points.

    `pare_jax.keypoints.keypoints.extent` is the same for one person.
    """
    confidence = observed[..., 2]
    threshold = jnp.minimum(SURE, 0.5 * confidence.max(1, keepdims=True))
    sure = confidence > threshold
    sure = jnp.where(sure.sum(1, keepdims=True) < 2, confidence > 0, sure)[..., None]
    low = jnp.where(sure, observed[..., :2], jnp.inf).min(1)
    high = jnp.where(sure, observed[..., :2], -jnp.inf).max(1)
    side = SQUARE_SCALE * jnp.maximum((high - low).max(-1), 1e-3)
    return 0.5 * (low + high), 0.5 * side


def _about(axis: int, angle: Float[Array, " b"]) -> Float[Array, "b 3 3"]:
    return axis_angle_to_matrix(angle[:, None] * jnp.eye(3)[axis])


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
