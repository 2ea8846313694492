"""Streams of drawn bodies: endless training batches, and fixed splits that evaluate networks.

Batch k of the training is a function of (seed, k), drawn on the devices by one jitted function.
Evaluation has poses of its own, which the training never draws.
"""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from data_pipelines.bodies.body_settings import BodySettings
from data_pipelines.bodies.draw_bodies import draw_batch
from data_pipelines.synthetic.pose_pool import draw_pose_pool
from pare_jax import sharding
from pare_jax.body.io import load_body_data
from pare_jax.errors import UserError
from pare_jax.evaluation.sample_errors import HostBatch
from pare_jax.evaluation.sequences import SampleName, SplitNames
from pare_jax.io.files import write_atomically
from pare_jax.io.progress import say
from pare_jax.keypoints.body_points import PointBody, body_points
from pare_jax.keypoints.sets import LIMB_POINTS, POINT_NAMES
from pare_jax.skeleton import JOINT_NAMES, NUM_JOINTS

SPLITS = ("test", "test_noisy")
# Numbers of random streams. They keep training and each split apart from each other.
_STREAMS = {"train": 1, "test": 2, "test_noisy": 3, "mean": 4}
# Settings that are 0 where points are exact.
_ERRORS = (
    *("clicks", "noise", "failures", "missing", "truncation", "occlusion", "swaps"),
    "neighbours",
)
# Bodies of one random key in evaluations, so that no split depends on the batch's size.
_CHUNK = 500
_MEAN_CHUNKS = 10
# Poses that are drawn again to compare kept ones with.
_COMPARED = 1_000
# Bodies of one random key in training, at most.
_GROUP = 16


@dataclasses.dataclass(frozen=True)
class BodySplits:
    """Sizes and seeds of the splits of drawn bodies.

    Attributes:
        seed: start of the poses and of the evaluation's random numbers.
        poses: number of poses that the bodies are combined from.
        held_out: number of these that only evaluations use.
        everyday: share of everyday actions among them; the others are drawn from the whole range
            of motion.
        epoch: number of bodies that count as an epoch.
        test: number of bodies in each evaluation split.
    """

    seed: int = 0
    poses: int = 100_000
    held_out: int = 4_000
    everyday: float = 0.8
    epoch: int = 500_000
    test: int = 2_000

    def __post_init__(self):
        for name in ("poses", "held_out", "epoch", "test"):
            self._check(name, getattr(self, name) > 0, "greater than 0")
        self._check("seed", 0 <= self.seed < 2**31, "0 or more")
        self._check("everyday", 0 <= self.everyday <= 1, "between 0 and 1")
        self._check("held_out", self.held_out < self.poses, f"below poses, {self.poses}")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise UserError(
                f"config.data.bodies.{name} is {getattr(self, name)!r}: it must be {wanted}"
            )


def default_values() -> dict[str, Any]:
    """Return the keys of `config.data.bodies` with their defaults."""
    return dataclasses.asdict(BodySplits()) | dataclasses.asdict(BodySettings())


def from_mapping(values: Mapping[str, Any]) -> tuple[BodySplits, BodySettings]:
    """Read a config's `data.bodies`.

    Args:
        values: names of fields to values; missing ones have their defaults.

    Raises:
        UserError: a name is unknown or a value is out of its range.
    """
    known = [[field.name for field in dataclasses.fields(c)] for c in (BodySplits, BodySettings)]
    every = [*known[0], *known[1]]
    for name in values:
        if name not in every:
            close = difflib.get_close_matches(name, every, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(every)}"
            raise UserError(f"config.data.bodies.{name} is unknown; {hint}")
    own = [{name: values[name] for name in names if name in values} for names in known]
    return BodySplits(**own[0]), BodySettings(**own[1])


def settings_of(split: str, settings: BodySettings) -> BodySettings:
    """Return how a split's bodies are drawn, from the training's settings.

    `test` has exact 2D points; depths, where a detector gives any, keep their errors. `test_noisy`
    has a detector's errors, and a third of the points are missing, beside those that it loses.
    """
    if split == "test":
        return dataclasses.replace(settings, **dict.fromkeys(_ERRORS, 0.0), annotated=1.0)
    return dataclasses.replace(settings, missing=0.0, dropped=1 / 3, annotated=0.0)


class DrawnBodies:
    """Training batches and evaluation splits of one config.

    Attributes:
        splits: sizes and seeds.
    """

    def __init__(
        self,
        splits: BodySplits,
        settings: BodySettings,
        folder: Path,
        body_model: str | Path | None = None,
    ):
        """Read the poses, or draw them once.

        Args:
            splits: sizes and seeds.
            settings: of the training's bodies.
            folder: keeps the drawn poses.
            body_model: file of the body; None: the free body.

        Raises:
            UserError: the body model cannot be read.
        """
        self.splits, self._settings = splits, settings
        self._body = body_points(load_body_data(body_model))
        self._poses = pose_pool(splits, folder)

    def train_batches(
        self, start_step: int, *, batch_size: int, seed: int
    ) -> Iterator[dict[str, Array]]:
        """Draw training batches without end; each lies on the devices, split over them.

        Args:
            start_step: number of the first batch.
            batch_size: bodies in a batch.
            seed: batch k is a function of (seed, k).
        """
        mesh = sharding.make_mesh()
        draw = _compiled(mesh, batch_size, self._settings)
        held = self._poses[self.splits.held_out :], self._body
        pool, body = sharding.put_replicated(held, mesh)
        key = sharding.put_replicated(_key(seed, "train"), mesh)
        step = start_step
        while True:
            yield draw(key, np.uint32(step), pool, body)
            step += 1

    def eval_batches(
        self, split: str, *, batch_size: int, process_index: int = 0, process_count: int = 1
    ) -> Iterator[HostBatch]:
        """Pass once over an evaluation split, the last batch padded with sample_weight 0.

        Args:
            split: "test" or "test_noisy".
            batch_size: bodies in a batch over all processes.
            process_index: number of this process, which gets its share of each batch's rows.
            process_count: number of processes; divides `batch_size`.
        """
        whole = self._split(split)
        count, rows = self.splits.test, batch_size // process_count
        for start in range(process_index * rows, self._end(batch_size), batch_size):
            wanted = np.arange(start, start + rows)
            batch = {name: value[np.minimum(wanted, count - 1)] for name, value in whole.items()}
            yield batch | {"sample_weight": (wanted < count).astype(np.float32)}

    def _end(self, batch_size: int) -> int:
        return -(-self.splits.test // batch_size) * batch_size

    def names(self) -> SplitNames:
        """Return the names of a split's bodies."""
        return SplitNames([SampleName(f"body {row}", 0, 0) for row in range(self.splits.test)])

    def mean_joints(self) -> Float[np.ndarray, "24 3"]:
        """Return the training's mean joints, the pelvis at the origin, metres."""
        pool = self._poses[self.splits.held_out :]
        chunks = self._chunks("mean", pool, settings_of("test", self._settings), _MEAN_CHUNKS)
        return np.mean([chunk["joints_3d"].mean(0) for chunk in chunks], 0)

    def fingerprint(self) -> str:
        """Return a digest of the poses; all else is drawn from the config's settings."""
        return hashlib.sha256(self._poses.tobytes()).hexdigest()[:16]

    @functools.cache  # noqa: B019 - lives as long as the run
    def _split(self, split: str) -> dict[str, np.ndarray]:
        settings, count = settings_of(split, self._settings), self.splits.test
        pool = self._poses[: self.splits.held_out]
        chunks = list(self._chunks(split, pool, settings, -(-count // _CHUNK)))
        whole = {name: np.concatenate([c[name] for c in chunks])[:count] for name in chunks[0]}
        return whole | _evaluation_labels(whole["keypoints"])

    def _chunks(
        self, stream: str, pool: np.ndarray, settings: BodySettings, number: int
    ) -> Iterator[dict[str, np.ndarray]]:
        key, on_device = _key(self.splits.seed, stream), jnp.asarray(pool)
        for chunk in range(number):
            own = jax.random.fold_in(key, chunk)
            drawn = draw_batch(own, on_device, self._body, count=_CHUNK, settings=settings)
            yield jax.device_get(drawn)


def _key(seed: int, stream: str) -> Array:
    return jax.random.fold_in(jax.random.key(seed), 2**31 + _STREAMS[stream])


@functools.cache
def _compiled(mesh: Mesh, batch_size: int, settings: BodySettings) -> Callable:
    """Return a compiled function of (key, step, poses, body) that draws a batch.

    Rows are drawn in small groups with keys of their own, each on one device. So the batch does not
    depend on the number of devices, and devices need not wait for each other.
    """
    size = math.gcd(_GROUP, batch_size // mesh.size)
    by_rows, everywhere = PartitionSpec(sharding.DATA_AXIS), PartitionSpec()

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(by_rows, everywhere, everywhere),
        out_specs=by_rows,
        check_vma=False,
    )
    def draw_groups(keys: Array, pool: Array, body: PointBody) -> dict[str, Array]:
        def draw_group(key: Array) -> dict[str, Array]:
            return draw_batch(key, pool, body, count=size, settings=settings)

        groups = jax.vmap(draw_group)(keys)
        return {name: rows.reshape(-1, *rows.shape[2:]) for name, rows in groups.items()}

    @jax.jit
    def draw(key: Array, step: Array, pool: Array, body: PointBody) -> dict[str, Array]:
        own = jax.random.fold_in(key, step)
        keys = jax.vmap(functools.partial(jax.random.fold_in, own))(np.arange(batch_size // size))
        return draw_groups(keys, pool, body)

    return draw


# Joints whose keypoint says whether the network sees them: column of the keypoints by joint.
_SEEN = {
    JOINT_NAMES.index(POINT_NAMES[point]): point
    for point in LIMB_POINTS
    if POINT_NAMES[point] in JOINT_NAMES
}


def _evaluation_labels(keypoints: np.ndarray) -> dict[str, np.ndarray]:
    """Return what evaluation needs beside the drawn fields.

    A joint of a limb counts as visible if its keypoint is known.
    """
    count = len(keypoints)
    visible = np.zeros((count, NUM_JOINTS), np.float32)
    weight = np.zeros_like(visible)
    visible[:, list(_SEEN)] = keypoints[:, list(_SEEN.values()), 2] > 0
    weight[:, list(_SEEN)] = 1.0
    return {
        "visible": visible,
        "visible_weight": weight,
        "head_size": np.zeros(count, np.float32),
        "gender": np.zeros(count, np.int32),
    }


def pose_pool(splits: BodySplits, folder: Path) -> Float[np.ndarray, "poses 24 3 3"]:
    """Return the poses of a config, read from a folder or drawn and kept there.

    Args:
        splits: number and seed of the poses.
        folder: where they are kept. Where it cannot be written they are drawn at each start.
    """
    path = folder / f"poses_{splits.seed}_{splits.poses}_{splits.everyday:g}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        poses = np.load(path, allow_pickle=False)
        # Kept poses of another version of the generator, or of a damaged file, begin differently.
        first = draw_pose_pool(splits.seed, min(_COMPARED, splits.poses), splits.everyday)
        wanted = (splits.poses, NUM_JOINTS, 3, 3)
        if poses.shape == wanted and np.array_equal(poses[:_COMPARED], first.rotations):
            return poses
    say(f"drawing {splits.poses:,} poses; kept in {path}")
    poses = draw_pose_pool(splits.seed, splits.poses, splits.everyday).rotations
    content = io.BytesIO()
    np.save(content, poses)
    with contextlib.suppress(UserError, OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    return poses
