"""Keeps a training dataset on the devices and cuts each batch's crops there.

Every device keeps all stored crops, as uint8, and their labels. The host chooses the examples and
their placements by the code of the tf.data stream and sends their numbers, some kilobytes a step.
One compiled program gathers, crops and mirrors; colours, noise and occluders are in the training
step. Batch k is a function of (seed, k), and is the batch of `input_pipeline.train_batches` up to
rounding: OpenCV interpolates at multiples of 1/32 pixel, this module at the exact place. Damaged
examples are found while the devices are filled. `damaged_examples.py` replaces them as there.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, UInt8

from data_pipelines import transforms
from data_pipelines.example import (
    BATCH_FIELDS,
    BATCH_PARTS_STRIDE,
    STORED_PARTS_STRIDE,
)
from data_pipelines.reading import input_pipeline
from data_pipelines.reading.damaged_examples import DamagedExampleError, DamagedExamples
from data_pipelines.reading.sample_order import SampleOrder
from pare_jax import sharding
from pare_jax.errors import UserError
from pare_jax.io.progress import ProgressBar
from pare_jax.io.threads import ordered_map
from pare_jax.skeleton import PART_UNKNOWN
from pare_jax.training import losses

# The settings of config.augment that this module or the training step does on the devices.
AUGMENTATIONS = frozenset({"scale", "rotation", "flip", "colour", "noise", "occlusion"})
# Share of a device's free memory for the cache; the network, the optimizer and activations need
# the rest.
_SHARE = 0.6
# Examples sent in one piece while the cache is filled.
_CHUNK = 64
# Black pixels around a stored crop, so that interpolation needs no test for its edge.
_BORDER = 1
_GB = 1e9


class CachedExamples(NamedTuple):
    """Stored examples on the devices, N of all datasets one after the other.

    The row of a damaged example is zero and never read.

    Attributes:
        images: stored crops in the top-left corner of a black square, with a border.
        parts: part labels likewise, at 1 / STORED_PARTS_STRIDE; None if no example has any.
        has_parts: the examples that have part labels.
        labels: the other fields of a batch, as stored.
    """

    images: UInt8[Array, "N side side 3"]
    parts: UInt8[Array, "N parts parts"] | None
    has_parts: Array
    labels: dict[str, Array]


class _Order(NamedTuple):
    """The examples of a batch and their placements, as the host sends them (B rows).

    NumPy's arrays on the host, JAX's on the devices.

    Attributes:
        rows: of `CachedExamples`, (B,) int32.
        affine: stored-crop to network-crop pixels, (B, 2, 3).
        to_stored: its inverse, (B, 2, 3).
        rotation: of the crop, as `transforms.Placement` has it, (B,).
        mirror: whether the person is mirrored, (B,) bool.
    """

    rows: Any
    affine: Any
    to_stored: Any
    rotation: Any
    mirror: Any


def cached_batches(
    sources: Sequence[tuple[input_pipeline.ExampleSource, float]],
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    augment: input_pipeline.GeometricSettings,
    part_labels: bool,
    damaged: DamagedExamples | None = None,
) -> tuple[Callable[[int], Iterator[dict[str, Array]]], str]:
    """Put datasets on the devices and return the stream of their batches.

    Args:
        sources: the datasets and their weights.
        batch_size: samples of a batch over all devices.
        image_size: side of the network's crop, pixels, a multiple of 4.
        seed: determines order and augmentation.
        augment: `scale` (fraction), `rotation` (degrees) and `flip` (probability).
        part_labels: whether to keep part labels; otherwise all are unknown.
        damaged: counts the damaged examples, which others replace.

    Returns:
        A function from the number of the first batch to an endless stream of batches, as
        `input_pipeline.train_batches` returns, on the devices; and a line for the user.

    Raises:
        UserError: the datasets do not fit, a dataset cannot be read, or too much of it is damaged.
    """
    splits = [source for source, _ in sources]
    input_pipeline.check_sizes(batch_size, image_size, splits)
    damaged = damaged or DamagedExamples()
    sides = [_side(split, damaged) for split in splits]
    _check_shrinking(max(sides), image_size, augment.scale)
    mesh, count = sharding.make_mesh(), sum(map(len, splits))
    num_bytes = count * _bytes_each(max(sides), part_labels)
    _check_room(num_bytes, mesh)
    kept, stored_sides = _fill(splits, max(sides), part_labels, mesh, damaged)
    readable = _readable_rows(splits, stored_sides, damaged)
    order = SampleOrder([(len(source), weight) for source, weight in sources], seed)
    starts = np.cumsum([0, *map(len, splits)])
    program = _compiled(mesh, image_size)

    def stream(start_step: int) -> Iterator[dict[str, Array]]:
        for step in itertools.count(start_step):
            chosen = order.samples(step * batch_size, batch_size)
            rows = readable[starts[chosen.datasets] + chosen.indices]
            placement = transforms.random_placement(chosen.uniforms, augment)
            affine = transforms.crop_affine(placement, stored_sides[rows], image_size)
            sent = _Order(
                rows=rows.astype(np.int32),
                affine=affine.astype(np.float32),
                to_stored=transforms.invert_affine(affine).astype(np.float32),
                rotation=placement.rotation.astype(np.float32),
                mirror=placement.mirror,
            )
            yield program(kept, jax.device_put(sent, sharding.batch_sharding(mesh)))

    where = f"each of {mesh.size} devices" if mesh.size > 1 else "the device"
    number = np.count_nonzero(stored_sides)
    return stream, f"data.cache: {number:,} crops are on {where}, {num_bytes / _GB:.2f} GB"


def check_augmentations(names: Sequence[str]) -> None:
    """Raise UserError if a setting of config.augment is not done on the devices."""
    for name in names:
        if name not in AUGMENTATIONS:
            raise UserError(
                f"config.augment.{name} is not done on the devices: set config.data.cache to ''"
            )


def _side(split: input_pipeline.ExampleSource, damaged: DamagedExamples) -> int:
    """Return the side of the first stored crop that can be read, pixels."""
    while True:
        index = damaged.replacement(split, 0)
        try:
            return len(input_pipeline.read_decoded(split, index)["image"])
        except DamagedExampleError as error:
            damaged.add(split, index, error)


def _check_shrinking(side: int, image_size: int, scale: float) -> None:
    """Raise UserError if crops may shrink by two or more, where bilinear interpolation skips."""
    if transforms.may_skip_pixels(side, image_size, scale):
        raise UserError(
            f"config.data.cache is 'device', but stored crops of {side} pixels shrink by two or "
            f"more at config.image_size {image_size}: set config.data.cache to ''"
        )


def _parts_side(side: int) -> int:
    return side // STORED_PARTS_STRIDE


def _label_fields() -> tuple[str, ...]:
    return tuple(n for n in losses.fields_to_read() if n not in ("image", "part_labels"))


def _bytes_each(side: int, part_labels: bool) -> int:
    labels = sum(4 * int(np.prod(_label_shape(name))) for name in _label_fields())
    parts = (_parts_side(side) + 2 * _BORDER) ** 2 if part_labels else 0
    return 3 * (side + 2 * _BORDER) ** 2 + parts + labels + 1


def _label_shape(name: str) -> tuple[int, ...]:
    return tuple(int(size) for size in BATCH_FIELDS[name].shape[1:])


def _check_room(num_bytes: int, mesh: Mesh) -> None:
    """Raise UserError unless every device has room for the cache."""
    free = min(_free_bytes(device, mesh.size) for device in mesh.devices.flat)
    if num_bytes > _SHARE * free:
        raise UserError(
            f"config.data.cache is 'device', but the training set needs {num_bytes / _GB:.1f} GB "
            f"on each device, and {_SHARE:.0%} of its free {free / _GB:.1f} GB may be used: set "
            "config.data.cache to '' or use less data"
        )


def _free_bytes(device: Any, num_devices: int) -> float:
    """Return the free memory of a device; CPU devices share the machine's."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return available_memory() / num_devices


def available_memory() -> int:
    """Return the bytes of the machine's memory that a program can still take."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            kilobytes = next(line for line in lines if line.startswith("MemAvailable:")).split()[1]
        return 1024 * int(kilobytes)
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _fill(
    splits: Sequence[input_pipeline.ExampleSource],
    side: int,
    part_labels: bool,
    mesh: Mesh,
    damaged: DamagedExamples,
) -> tuple[CachedExamples, np.ndarray]:
    """Read and decode all examples and send them to the devices piece by piece.

    Returns:
        The examples on the devices, and the sides of their crops, pixels; 0 for damaged ones.
    """
    count, parts_side = sum(map(len, splits)), _parts_side(side)
    images_shape = (count, *(side + 2 * _BORDER,) * 2, 3)
    parts_shape = (count, *(parts_side + 2 * _BORDER,) * 2)
    empty = jax.jit(
        lambda: (
            jnp.zeros(images_shape, jnp.uint8),
            jnp.zeros(parts_shape, jnp.uint8) if part_labels else None,
        ),
        out_shardings=sharding.replicated(mesh),
    )
    images, parts = empty()
    labels = {n: np.zeros((count, *_label_shape(n)), np.float32) for n in _label_fields()}
    stored_sides, has_parts = np.zeros(count), np.zeros(count, bool)
    with (
        contextlib.closing(_decoded(splits, damaged)) as examples,
        ProgressBar("filling data.cache", count, unit="crop") as progress,
    ):
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            some_images = np.zeros((size, *images_shape[1:]), np.uint8)
            some_parts = np.zeros((size, *parts_shape[1:]), np.uint8)
            for row, example in enumerate(itertools.islice(examples, size)):
                if example is None:
                    continue
                image = example["image"]
                if len(image) > side:
                    raise UserError(
                        f"config.data.cache is 'device', but a stored crop has {len(image)} "
                        f"pixels and the first of its dataset {side}: set config.data.cache to ''"
                    )
                stored_sides[start + row] = len(image)
                _put(some_images[row], image)
                if part_labels and len(example["part_labels"]):
                    has_parts[start + row] = True
                    _put(some_parts[row], example["part_labels"])
                for name, values in labels.items():
                    values[start + row] = example[name]
            images = _write(images, sharding.put_replicated(some_images, mesh), start)
            if parts is not None:
                parts = _write(parts, sharding.put_replicated(some_parts, mesh), start)
            progress.advance(size)
    known, on_devices = sharding.put_replicated((has_parts, labels), mesh)
    return CachedExamples(images, parts, known, on_devices), stored_sides


def _decoded(
    splits: Sequence[input_pipeline.ExampleSource], damaged: DamagedExamples
) -> Generator[Mapping[str, Any] | None, None, None]:
    """Yield the examples of all splits with decoded images, and None for each damaged one."""

    def read(place: tuple[input_pipeline.ExampleSource, int]):
        try:
            return *place, input_pipeline.read_decoded(*place)
        except DamagedExampleError as error:
            return *place, error

    places = ((split, index) for split in splits for index in range(len(split)))
    with contextlib.closing(ordered_map(read, places)) as found:
        for split, index, example in found:
            if isinstance(example, DamagedExampleError):
                # Not in the threads, so that the lines are in the order of the examples.
                damaged.add(split, index, example)
                yield None
            else:
                yield example


def _readable_rows(
    splits: Sequence[input_pipeline.ExampleSource],
    stored_sides: np.ndarray,
    damaged: DamagedExamples,
) -> np.ndarray:
    """Return each row's own number, or for a damaged example, of side 0, its replacement's."""
    rows, start = np.arange(len(stored_sides)), 0
    for split in splits:
        for index in np.flatnonzero(stored_sides[start : start + len(split)] == 0):
            rows[start + index] = start + damaged.replacement(split, int(index))
        start += len(split)
    return rows


def _put(square: np.ndarray, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    square[_BORDER : _BORDER + height, _BORDER : _BORDER + width] = image


@functools.partial(jax.jit, donate_argnums=0)
def _write(kept: Array, some: Array, start: int) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(kept, some, start, 0)


@functools.cache
def _compiled(mesh: Mesh, image_size: int) -> Callable[[CachedExamples, _Order], dict[str, Array]]:
    """Return a compiled function that makes a batch; each device makes its own rows."""
    by_rows, everywhere = PartitionSpec(sharding.DATA_AXIS), PartitionSpec()
    cut = jax.shard_map(
        functools.partial(make_batch, image_size=image_size),
        mesh=mesh,
        in_specs=(everywhere, by_rows),
        out_specs=by_rows,
        check_vma=False,
    )
    return jax.jit(cut)


# Labels need float32; by default GPUs and TPUs multiply in less.
@jax.default_matmul_precision("highest")
def make_batch(kept: CachedExamples, order: _Order, *, image_size: int) -> dict[str, Array]:
    """Cut the crops of a batch and move its labels.

    Args:
        kept: the dataset.
        order: the batch's examples and placements.
        image_size: side of the network's crop, pixels.

    Returns:
        The fields that the losses read.
    """
    labels = {name: values[order.rows] for name, values in kept.labels.items()}
    placement = transforms.Placement(
        crop_scale=np.ones(len(order.rotation)), rotation=order.rotation, mirror=order.mirror
    )
    moved = transforms.move_labels(labels, placement, order.affine, image_size, xp=jnp)
    images = jax.vmap(functools.partial(warp_linear, size=image_size))(
        kept.images[order.rows], order.to_stored
    )
    return {"image": images, "part_labels": _parts(kept, order, image_size), **labels, **moved}


def _parts(kept: CachedExamples, order: _Order, image_size: int) -> UInt8[Array, "b s s"]:
    size = image_size // BATCH_PARTS_STRIDE
    if kept.parts is None:
        return jnp.full((len(order.rows), size, size), PART_UNKNOWN, jnp.uint8)
    scale = BATCH_PARTS_STRIDE / STORED_PARTS_STRIDE
    matrix = order.to_stored / STORED_PARTS_STRIDE
    matrix = matrix.at[:, :, :2].set(scale * order.to_stored[:, :, :2])
    warp = functools.partial(warp_nearest, size=size)
    found = jax.vmap(warp)(kept.parts[order.rows], matrix)
    mirrored = jnp.asarray(transforms.MIRROR_PARTS)[found]
    found = jnp.where(order.mirror[:, None, None], mirrored, found)
    return jnp.where(kept.has_parts[order.rows][:, None, None], found, jnp.uint8(PART_UNKNOWN))


def warp_linear(
    image: UInt8[Array, "side side 3"], to_stored: Float[Array, "2 3"], *, size: int
) -> UInt8[Array, "s s 3"]:
    """Warp a stored crop, which has a black border, into the network's by bilinear interpolation.

    Args:
        image: the stored crop.
        to_stored: network-crop to stored-crop coordinates.
        size: side of the network's crop, pixels.
    """
    places = _places(to_stored, size) - 0.5  # integers are pixel centres now
    low = jnp.floor(places)
    x, y = ((places - low)[..., axis, None] for axis in range(2))
    total = jnp.zeros((), jnp.float32)
    for right, down in itertools.product((0, 1), repeat=2):
        weight = (x if right else 1 - x) * (y if down else 1 - y)
        total = total + weight * _look_up(image, low + jnp.array([right, down])).astype(jnp.float32)
    return jnp.round(total).astype(jnp.uint8)


def warp_nearest(
    labels: UInt8[Array, "side side"], to_stored: Float[Array, "2 3"], *, size: int
) -> UInt8[Array, "s s"]:
    """Warp part labels, which have a border of background, by nearest neighbour."""
    return _look_up(labels, jnp.floor(_places(to_stored, size)))


def _places(to_stored: Float[Array, "2 3"], size: int) -> Float[Array, "s s 2"]:
    """Return where the centre of each pixel of the network's crop lies in the stored one."""
    line = jnp.arange(size, dtype=jnp.float32) + 0.5
    linear, offset = to_stored[:, :2], to_stored[:, 2]
    # Written out, because a product of matrices may have less precision on an accelerator.
    return line[None, :, None] * linear[:, 0] + line[:, None, None] * linear[:, 1] + offset


def _look_up(square: UInt8[Array, "side side *c"], places: Float[Array, "s s 2"]) -> Array:
    """Return the pixels at whole coordinates; outside the stored crop those of the border."""
    side = square.shape[0]
    cells = jnp.clip(places.astype(jnp.int32) + _BORDER, 0, side - 1)
    flat = square.reshape(side * side, *square.shape[2:])
    return flat.at[cells[..., 1] * side + cells[..., 0]].get(mode="promise_in_bounds")
