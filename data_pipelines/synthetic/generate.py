"""Makes examples of synthetic people, one by one or on several processes; no TensorFlow."""

import collections
import itertools
import sys
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import cv2
import numpy as np

from data_pipelines.example import unknown_labels
from data_pipelines.preparing import processes
from data_pipelines.releases.stored_crop import encode_jpeg
from data_pipelines.synthetic.scenery import draw_scene
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.errors import UserError
from pare_jax.io.progress import say
from pare_jax.io.threads import count_cores
from pare_jax.skeleton import NUM_JOINTS

_CHUNK = 32


def generate_example(settings: SyntheticSettings, split: str, index: int) -> dict[str, Any]:
    """Make one example as it is stored; the same arguments give the same example.

    Args:
        settings: sizes, seed and difficulties.
        split: "train", "validation", "test" or "test_occluded".
        index: position in the split, 0 to its size - 1.

    Returns:
        The fields of `data_pipelines.example.STORED_FIELDS`.

    Raises:
        UserError: the split is unknown or the index outside of it.
    """
    size = settings.size(split)
    if not 0 <= index < size:
        raise UserError(
            f"synthetic split {split!r} has {size} examples; give an index from 0, not {index}"
        )
    scene = draw_scene(settings, split, index)
    joints = scene.person.surface.joints
    return unknown_labels() | {
        "image": encode_jpeg(scene.image),
        "crop_to_photo": scene.crop.to_photo().astype(np.float32),
        "joints_2d": scene.joints_2d.astype(np.float32),
        "joints_2d_weight": np.ones(NUM_JOINTS, np.float32),
        # No head top: joints, pose and shape supervise that vertex already.
        "joints_3d": (joints - joints[0]).astype(np.float32),
        "joints_3d_weight": np.float32(1),
        "rotations": scene.person.rotations.astype(np.float32),
        "pose_weight": np.float32(1),
        "betas": scene.person.betas.astype(np.float32),
        "betas_weight": np.float32(1),
        "visible": scene.visible.astype(np.float32),
        "visible_weight": np.ones(NUM_JOINTS, np.float32),
        "part_labels": cv2.imencode(".png", scene.part_labels)[1].tobytes(),
        "parts_weight": np.float32(1),
        "sequence": f"synthetic/{split}/{index:06d}",
    }


def generate_examples(
    settings: SyntheticSettings,
    split: str,
    start: int = 0,
    stop: int | None = None,
    workers: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Make a range of examples in order; the number of workers changes only the speed.

    Args:
        settings: sizes, seed and difficulties.
        split: see `generate_example`.
        start: first index.
        stop: one past the last index; None is the split's size.
        workers: processes; 0 or 1 uses this process, None one process per core.

    Yields:
        Examples as `generate_example` returns them.
    """
    stop = settings.size(split) if stop is None else stop
    settings.photos()  # reports a missing folder before any process starts
    workers = count_cores() if workers is None else workers
    if workers > 1 and (reason := processes.obstacle()):
        say(f"one process draws, because {reason}", sys.stderr)
        workers = 1
    if workers <= 1 or start >= stop:
        for index in range(start, stop):
            yield generate_example(settings, split, index)
        return
    chunks = [(settings, split, i, min(i + _CHUNK, stop)) for i in range(start, stop, _CHUNK)]
    waiting = iter(chunks)
    try:
        with processes.pool(min(workers, len(chunks))) as pool:
            # Works a few chunks ahead: the caller may be slower than many cores.
            ahead = collections.deque(
                pool.submit(_generate_chunk, c) for c in itertools.islice(waiting, 2 * workers)
            )
            while ahead:
                examples = ahead.popleft().result()
                ahead.extend(pool.submit(_generate_chunk, c) for c in itertools.islice(waiting, 1))
                yield from examples
    except futures.process.BrokenProcessPool as error:
        raise UserError(
            "a process that drew synthetic people was killed, perhaps for lack of memory; use "
            "fewer processes (--workers or --config.data.workers)"
        ) from error


def _generate_chunk(chunk) -> list[dict[str, Any]]:
    settings, split, start, stop = chunk
    return [generate_example(settings, split, index) for index in range(start, stop)]
