"""Corrupts projected points as detectors and annotators do: noise, swaps, missing points, edges."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from data_pipelines.bodies.body_settings import BodySettings
from pare_jax.keypoints import sets
from pare_jax.keypoints.sets import NUM_BODY_POINTS, POINT_MIRROR, POINT_NAMES

# The sets that people bring, and how often each is drawn.
_SHARES = {
    sets.BLAZEPOSE33: 0.5,
    sets.COCO17: 0.14,
    sets.HALPE26: 0.06,
    sets.OPENPOSE25: 0.06,
    sets.MPII16: 0.08,
    sets.SPIN24: 0.06,
    sets.AIC14: 0.06,
    sets.H36M17: 0.04,
}
_HAS = np.zeros((len(_SHARES), NUM_BODY_POINTS), np.float32)
for _row, _set in zip(_HAS, _SHARES, strict=True):
    _row[list(_set.indices)] = 1.0
_LOG_SHARES = np.log([*_SHARES.values()])
_BLAZEPOSE = list(_SHARES).index(sets.BLAZEPOSE33)
# Points that move fast or are small are found less exactly; hips and shoulders are under clothes.
_FACTORS = np.array(
    [
        1.7
        if any(part in name for part in ("wrist", "index", "pinky", "thumb", "toe", "foot_index"))
        else 1.4
        if any(part in name for part in ("hip", "pelvis", "ankle", "heel", "elbow", "spine"))
        else 0.7
        if any(part in name for part in ("nose", "eye", "ear", "mouth"))
        else 1.0
        for name in POINT_NAMES
    ],
    np.float32,
)


def _columns(*names: str) -> np.ndarray:
    return np.isin(POINT_NAMES, [f"{side}_{n}" for n in names for side in ("left", "right")])


_LEG = _columns("hip", "knee", "ankle", "heel", "big_toe", "small_toe", "foot_index")
_ARM = _columns("shoulder", "elbow", "wrist", "index", "pinky", "thumb")
_CHAINS = np.stack(
    [
        np.isin(POINT_NAMES, [f"{side}_{n}" for n in names])
        for side in ("left", "right")
        for names in (
            ("elbow", "wrist", "index", "pinky", "thumb"),
            ("wrist", "index", "pinky", "thumb"),
            ("knee", "ankle", "heel", "big_toe", "small_toe", "foot_index"),
            ("ankle", "heel", "big_toe", "small_toe", "foot_index"),
        )
    ]
).astype(np.float32)
_HIPS = _columns("hip").astype(np.float32)[:, None]
_SHOULDERS = _columns("shoulder").astype(np.float32)[:, None]


def corrupt(
    key: jax.Array,
    pixels: Float[Array, "b p 2"],
    depth: Float[Array, "b p"],
    known: Float[Array, " p"],
    settings: BodySettings,
) -> Float[Array, "b p 5"]:
    """Corrupt exact points.

    Args:
        key: of the random numbers.
        pixels: exact points, in any unit of length.
        depth: their depths about the middle of the hips, metres.
        known: 1 for points that the body has.
        settings: how often and how much.

    Returns:
        x, y, confidence (0: unknown), depth, and 1 where the depth is known; zeros where unknown.
    """
    draws = _Draws(key, len(pixels))
    size = (pixels.max(1) - pixels.min(1)).max(-1)[:, None, None]
    which = jax.random.categorical(draws.key(), jnp.asarray(_LOG_SHARES), shape=(len(pixels),))
    has = jnp.asarray(_HAS)[which] * known
    is_annotated = draws.happens(settings.annotated) & (which != _BLAZEPOSE)
    points, z = _with_swaps(draws, pixels, depth, is_annotated, settings)
    chain = jnp.asarray(_CHAINS)[draws.integers(len(_CHAINS))]
    strays = (draws.happens(settings.neighbours) & ~is_annotated)[:, None] * chain
    points = points + 0.2 * size * strays[..., None] * draws.normal(1, 2)
    points, error, doubts = _with_errors(draws, points, size, is_annotated, settings)
    confidence = _confidences(draws, error, doubts, has, is_annotated, settings)
    shown = (confidence > 0).astype(confidence.dtype)
    deep = (draws.happens(settings.depth) & ~is_annotated)[:, None] * shown
    z = _detected_depths(draws, z, points, size, doubts.unsure, chain)
    rows = jnp.concatenate([points, confidence[..., None]], -1)
    rows = jnp.where(shown[..., None] > 0, rows, 0.0)
    return jnp.concatenate([rows, (z * deep)[..., None], deep[..., None]], -1)


class _Draws:
    """Random numbers of a batch. A network's training depends on the order of the calls."""

    def __init__(self, key: jax.Array, count: int):
        self._keys, self._count = iter(jax.random.split(key, 40)), count
        # Other numbers stay the same with and without what is drawn with this one.
        self._own_key = jax.random.fold_in(key, 1)

    def dropped(self, share: float) -> Bool[Array, "b p"]:
        """Return which points are missing for everybody."""
        return jax.random.bernoulli(self._own_key, share, (self._count, NUM_BODY_POINTS))

    def key(self) -> jax.Array:
        return next(self._keys)

    def happens(self, share: float, *shape: int) -> Array:
        return jax.random.bernoulli(self.key(), share, (self._count, *shape))

    def normal(self, *shape: int) -> Array:
        return jax.random.normal(self.key(), (self._count, *shape))

    def uniform(self, low: float, high: float, *shape: int) -> Array:
        return jax.random.uniform(self.key(), (self._count, *shape), minval=low, maxval=high)

    def integers(self, end: int) -> Array:
        return jax.random.randint(self.key(), (self._count,), 0, end)


class _Doubts(NamedTuple):
    """Points (b, p) that a source finds badly or not at all."""

    hidden: Array
    cut: Array
    unsure: Array


def _with_swaps(
    draws: _Draws, points: Array, z: Array, is_annotated: Array, settings: BodySettings
) -> tuple[Array, Array]:
    """Exchange left and right of the legs, of the arms, and of the whole body."""
    mirror = np.array(POINT_MIRROR)
    for part in (_LEG, _ARM, np.ones(NUM_BODY_POINTS, bool)):
        swaps = draws.happens(settings.swaps if not part.all() else 0.5 * settings.swaps)
        swaps = (swaps & ~is_annotated)[:, None] & part[None]
        points = jnp.where(swaps[..., None], points[:, mirror], points)
        z = jnp.where(swaps, z[:, mirror], z)
    return points, z


def _with_errors(
    draws: _Draws, points: Array, size: Array, is_annotated: Array, settings: BodySettings
) -> tuple[Array, Array, _Doubts]:
    """Move points.

    Returns:
        The points; their errors but for the source's hips and shoulders, shares of the size (b, p);
        the points in doubt.
    """
    # What annotators and detectors call a hip or shoulder differs from person to person.
    clicks = settings.clicks * size
    points = points + clicks * (0.015 * _HIPS + 0.008 * _SHOULDERS) * draws.normal(1, 2)
    single = draws.normal(NUM_BODY_POINTS, 2)
    points = points + clicks * (0.012 * _HIPS + 0.008 * _SHOULDERS) * single
    level = (
        settings.noise
        * jnp.exp(0.6 * draws.normal(1, 1))
        * jnp.where(is_annotated, 0.5, 1.0)[:, None, None]
    )
    # Failures and hidden points.
    rate = settings.failures * draws.uniform(0.0, 1.0, 1) * 2.0
    fails = (draws.uniform(0.0, 1.0, NUM_BODY_POINTS) < rate) & ~is_annotated[:, None]
    low, high = points.min(1), points.max(1)
    middle = low + (high - low) * draws.uniform(0.0, 1.0, 2)
    reach = size[:, 0] * draws.uniform(0.05, 0.3, 2)
    hidden = (jnp.abs(points - middle[:, None]) < reach[:, None]).all(-1)
    hidden &= draws.happens(settings.occlusion)[:, None]
    cut = _beyond_edge(draws, points, low, high, settings)
    unsure = fails | hidden | cut
    wild = jnp.where(fails, 0.10, jnp.where(unsure, 0.035, 0.0))[..., None] * size
    error = level * size * _FACTORS[:, None] * draws.normal(NUM_BODY_POINTS, 2)
    error = error + wild * jnp.abs(draws.normal(1, 1)) * draws.normal(NUM_BODY_POINTS, 2)
    share = jnp.linalg.norm(error, axis=-1) / size[..., 0]
    return points + error, share, _Doubts(hidden, cut, unsure)


def _confidences(
    draws: _Draws,
    error: Array,
    doubts: _Doubts,
    has: Array,
    is_annotated: Array,
    settings: BodySettings,
) -> Array:
    """Return confidences (b, p), 0 for missing points.

    Detectors are less sure where they err; annotators skip what they do not see.
    """
    hidden, cut, unsure = doubts
    blind = draws.happens(0.4, NUM_BODY_POINTS)  # errors that a detector does not notice
    surety = jnp.exp(-error / jnp.where(blind, 0.4, 0.08))
    surety = surety * (1.0 - 0.3 * draws.uniform(0.0, 1.0, NUM_BODY_POINTS) ** 2)
    surety = jnp.where(unsure, surety * draws.uniform(0.05, 1.0, NUM_BODY_POINTS), surety)
    drops = draws.uniform(0.0, 1.0, NUM_BODY_POINTS) < draws.uniform(0.0, 1.0, 1)
    confidence = jnp.where(is_annotated[:, None], 1.0, surety)
    missing = draws.uniform(0.0, 1.0, NUM_BODY_POINTS)
    missing = missing < settings.missing * 2 * draws.uniform(0.0, 1.0, 1)
    missing = missing & draws.happens(0.5)[:, None] | draws.dropped(settings.dropped)
    skipped = cut | (hidden & draws.happens(0.5)[:, None])
    gone = jnp.where(is_annotated[:, None], skipped, unsure & drops)
    shown = has * (1.0 - jnp.where(gone | missing, 1.0, 0.0))
    # At least a few points of the limbs stay.
    few = (shown.sum(1) < 6)[:, None]
    return jnp.clip(confidence, 0.02, 1.0) * jnp.where(few, has, shown)


def _detected_depths(
    draws: _Draws, z: Array, points: Array, size: Array, unsure: Array, chain: Array
) -> Array:
    """Return a detector's depths: too flat, tilted, and noisy; a few on the wrong side."""
    tilt = 0.15 * draws.normal(2) / size[:, 0]
    z = z * draws.uniform(0.55, 1.15, 1)
    z = z + jnp.einsum("bpi,bi->bp", points - points.mean(1)[:, None], tilt)
    z = z + 0.05 * jnp.exp(0.4 * draws.normal(1)) * draws.normal(NUM_BODY_POINTS)
    z = z + jnp.where(unsure, 0.12, 0.0) * draws.normal(NUM_BODY_POINTS)
    wrong = draws.happens(0.06)[:, None] * chain
    return jnp.where(wrong > 0, z - 2 * z * draws.uniform(0.3, 1.0, 1), z)


def _beyond_edge(
    draws: _Draws, points: Array, low: Array, high: Array, settings: BodySettings
) -> Array:
    """Return which points lie beyond an edge of the picture, mostly the lower one."""
    cuts = draws.happens(settings.truncation)
    edge = draws.uniform(0.0, 1.0)
    share = draws.uniform(0.05, 0.6)[:, None]
    place = (points - low[:, None]) / jnp.maximum(high - low, 1e-6)[:, None]
    x, y = place[..., 0], place[..., 1]
    edge = edge[:, None]
    beyond = jnp.where(
        edge < 0.55,
        y > 1.0 - share,
        jnp.where(edge < 0.7, y < 0.5 * share, jnp.where(edge < 0.85, x < share, x > 1 - share)),
    )
    return beyond & cuts[:, None]
