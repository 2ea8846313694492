"""Makes batches from splits: an endless stream for training, one pass for evaluation.

One call of NumPy and OpenCV makes a batch: it reads, decodes, warps and moves the labels. tf.data
runs several such calls in parallel threads and returns the batches in order. OpenCV releases the
interpreter lock while it decodes and warps, which is nearly all of the work. By
scripts/benchmark_input.py, OpenCV decodes a stored crop as fast as TensorFlow and warps it several
times faster.

Batch k is a function of (seed, k): a stream that starts at `start_step` k gives the same bytes as
one that ran up to k, with any number of threads. Damaged examples are skipped, see
`damaged_examples.py`.
"""

import atexit
import sys
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import cv2
import numpy as np
import tensorflow as tf

from data_pipelines import transforms
from data_pipelines.example import (
    BATCH_FIELDS,
    BATCH_PARTS_STRIDE,
    EVALUATION_FIELDS,
    STORED_FIELDS,
)
from data_pipelines.reading.damaged_examples import (
    DamagedExampleError,
    DamagedExamples,
    ExampleSource,
    name_of,
)
from data_pipelines.reading.sample_order import SampleOrder
from data_pipelines.transforms import BadExampleError
from pare_jax.body.io import GENDERS
from pare_jax.errors import UserError
from pare_jax.io.threads import count_cores
from pare_jax.training import losses

Batch = dict[str, np.ndarray]

# Labels of a batch that a stored example holds as numbers.
_LABELS = tuple(
    name
    for name, field in STORED_FIELDS.items()
    if field.dtype == "float32" and name in BATCH_FIELDS
)
_BATCHES_AHEAD = 2


class GeometricSettings(Protocol):
    """The settings of config.augment that move images; the others are for the device."""

    scale: float
    rotation: float
    flip: float


def train_batches(
    sources: Sequence[tuple[ExampleSource, float]],
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    start_step: int = 0,
    augment: GeometricSettings,
    process_index: int = 0,
    process_count: int = 1,
    threads: int | None = None,
    damaged: DamagedExamples | None = None,
) -> Iterator[Batch]:
    """Return an endless stream of training batches.

    Each dataset is shuffled in each of its epochs and gives every example once per epoch. Datasets
    share the stream by weight, exactly in every `sample_order.CYCLE` samples.

    Args:
        sources: the datasets and their weights.
        batch_size: samples of a batch over all processes.
        image_size: side of the network's crop, pixels, a multiple of 4.
        seed: determines order and augmentation.
        start_step: number of the first batch.
        augment: `scale` (fraction), `rotation` (degrees) and `flip` (probability).
        process_index: number of this process, which gets its share of each batch's rows.
        process_count: number of processes.
        threads: batches made in parallel; None: one per core.
        damaged: counts the damaged examples, which others replace.

    Returns:
        An iterator of batches with the fields that the losses read, `losses.fields_to_read`.

    Raises:
        UserError: a size or weight is bad, or (while iterating) a dataset cannot be read or too
            much of it is damaged.
    """
    check_sizes(batch_size, image_size, [source for source, _ in sources], process_count)
    order = SampleOrder([(len(source), weight) for source, weight in sources], seed)
    rows = batch_size // process_count
    fields = losses.fields_to_read()
    damaged = damaged or DamagedExamples()

    def make_batch(step: int) -> Batch:
        samples = order.samples(step * batch_size + process_index * rows, rows)
        readings = [
            (sources[dataset][0], int(index))
            for dataset, index in zip(samples.datasets, samples.indices, strict=True)
        ]
        placement = transforms.random_placement(samples.uniforms, augment)
        return _assemble(readings, damaged, placement, image_size, fields)[0]

    return _run(make_batch, fields, start_step, None, threads)


def eval_batches(
    source: ExampleSource,
    *,
    batch_size: int,
    image_size: int,
    process_index: int = 0,
    process_count: int = 1,
    threads: int | None = None,
    damaged: DamagedExamples | None = None,
    fields: Sequence[str] = EVALUATION_FIELDS,
) -> Iterator[Batch]:
    """Pass once over a split in its order, without augmentation.

    Args:
        source: the split.
        batch_size: samples of a batch over all processes.
        image_size: side of the network's crop, pixels, a multiple of 4.
        process_index: number of this process, which gets its share of each batch's rows.
        process_count: number of processes.
        threads: batches made in parallel; None: one per core.
        damaged: counts the damaged examples.
        fields: of the batches; sample_weight is one of them.

    Returns:
        An iterator of batches. The last batch is padded with copies of the last example, whose
        sample_weight is 0. A damaged example keeps its row, so that rows and names agree, but is
        black and without any label: nothing is measured.

    Raises:
        UserError: a size is bad, or (while iterating) the split cannot be read or too much of it is
            damaged.
    """
    check_sizes(batch_size, image_size, [source], process_count)
    size, rows = len(source), batch_size // process_count
    damaged = damaged or DamagedExamples()

    def make_batch(step: int) -> Batch:
        wanted = step * batch_size + process_index * rows + np.arange(rows)
        readings = [(source, int(index)) for index in np.minimum(wanted, size - 1)]
        placement = transforms.identity_placement(rows)
        batch, replaced = _assemble(readings, damaged, placement, image_size, fields)
        for name in ("image", *(name for name in fields if name.endswith("_weight"))):
            if name in batch:
                batch[name][replaced] = 0
        batch["sample_weight"] = (wanted < size).astype(np.float32)
        return batch

    return _run(make_batch, fields, 0, -(-size // batch_size), threads)


def _assemble(
    readings: Sequence[tuple[ExampleSource, int]],
    damaged: DamagedExamples,
    placement: transforms.Placement,
    image_size: int,
    fields: Collection[str],
) -> tuple[Batch, list[int]]:
    """Make a batch, and return the rows in which another example replaces a damaged one."""
    while True:
        used = [(source, damaged.replacement(source, index)) for source, index in readings]
        try:
            batch = assemble_batch(used, placement, image_size, fields)
        except _DamagedRowError as error:
            source, index = used[error.row]
            damaged.add(source, index, error)
        else:
            pairs = zip(readings, used, strict=True)
            return batch, [row for row, (old, new) in enumerate(pairs) if old[1] != new[1]]


class _DamagedRowError(DamagedExampleError):
    """Says which row of a batch is damaged."""

    def __init__(self, row: int, text: str):
        super().__init__(text)
        self.row = row


def assemble_batch(
    readings: Sequence[tuple[ExampleSource, int]],
    placement: transforms.Placement,
    image_size: int,
    fields: Collection[str] = tuple(BATCH_FIELDS),
) -> Batch:
    """Read, decode and move the samples of a batch.

    Args:
        readings: the split and index of each sample.
        placement: scale, rotation and mirror of each sample.
        image_size: side of the network's crop, pixels.
        fields: the fields of `example.BATCH_FIELDS` to make.

    Returns:
        These fields, except sample_weight, which no example holds.

    Raises:
        DamagedExampleError: an example is damaged; names it.
        UserError: an example cannot be read.
    """
    records = [_read(row, *reading) for row, reading in enumerate(readings)]
    batch = {
        name: np.stack([record[name] for record in records], dtype=np.float32)
        for name in _LABELS
        if name in fields
    }
    batch["image"] = _empty_images(len(records), image_size)
    if "part_labels" in fields:
        parts_size = image_size // BATCH_PARTS_STRIDE
        batch["part_labels"] = np.empty((len(records), parts_size, parts_size), np.uint8)
    if "gender" in fields:
        batch["gender"] = np.empty(len(records), np.int32)
    sides, row = np.empty(len(records)), 0
    try:
        for row, record in enumerate(records):
            sides[row] = transforms.stored_side(record["image"])
            if "gender" in fields:
                batch["gender"][row] = _gender_number(record["gender"])
        affine = transforms.crop_affine(placement, sides, image_size)
        to_stored = transforms.invert_affine(affine)
        for row, record in enumerate(records):
            transforms.warp_image(record["image"], to_stored[row], batch["image"][row])
            if "part_labels" in fields:
                labels, mirror = record["part_labels"], placement.mirror[row]
                transforms.warp_parts(labels, to_stored[row], mirror, batch["part_labels"][row])
    except BadExampleError as error:
        raise _named(error, row, *readings[row]) from error
    return batch | transforms.move_labels(batch, placement, affine, image_size)


def _empty_images(count: int, size: int) -> np.ndarray:
    """Allocate images at an address that TensorFlow can use without a copy: a multiple of 64."""
    num_bytes = count * size * size * 3
    memory = np.empty(num_bytes + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + num_bytes].reshape(count, size, size, 3)


def _read(row: int, source: ExampleSource, index: int) -> Mapping[str, Any]:
    try:
        return source[index]
    except BadExampleError as error:
        raise _named(error, row, source, index) from error
    except DamagedExampleError as error:
        raise _DamagedRowError(row, str(error)) from error


def read_decoded(source: ExampleSource, index: int) -> Mapping[str, Any]:
    """Read an example and decode its images.

    Raises:
        DamagedExampleError: the example is damaged; names it.
        UserError: it cannot be read.
    """
    example = _read(0, source, index)
    try:
        transforms.stored_side(example["image"])
        return transforms.decode_images(example)
    except BadExampleError as error:
        raise _named(error, 0, source, index) from error


def _named(error: Exception, row: int, source: ExampleSource, index: int) -> _DamagedRowError:
    return _DamagedRowError(
        row,
        f"example {index} of {name_of(source)}: {error}; "
        "prepare the dataset again (python -m data_pipelines.prepare)",
    )


def _gender_number(name: str) -> int:
    if name not in GENDERS:
        raise BadExampleError(f"the gender is {name!r}, not one of {', '.join(GENDERS)}")
    return GENDERS.index(name)


def check_sizes(
    batch_size: int, image_size: int, sources: Sequence[ExampleSource], process_count: int = 1
) -> None:
    """Raise UserError if a size is bad, or if a dataset is missing or empty."""
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch_size is {batch_size}: use a positive multiple of the {process_count} processes"
        )
    if image_size < BATCH_PARTS_STRIDE or image_size % BATCH_PARTS_STRIDE:
        raise UserError(
            f"image_size is {image_size}: use a positive multiple of {BATCH_PARTS_STRIDE}"
        )
    if not sources:
        raise UserError("config.data.train names no dataset: name at least one")
    for source in sources:
        if not len(source):
            raise UserError(
                f"{name_of(source)} has no examples; "
                "prepare it again (python -m data_pipelines.prepare)"
            )


def _run(
    make_batch: Callable[[int], Batch],
    fields: Sequence[str],
    start: int,
    steps: int | None,
    threads: int | None,
) -> Iterator[Batch]:
    """Call `make_batch` for each step in tf.data's threads and return the batches in order."""
    # Batches are made in parallel; OpenCV's own threads would compete with them for the cores.
    cv2.setNumThreads(1)
    # TensorFlow would reserve all memory of the accelerator, which JAX needs.
    tf.config.set_visible_devices([], "GPU")
    threads = threads or count_cores()
    dtypes = [tf.as_dtype(BATCH_FIELDS[name].dtype) for name in fields]
    failures: list[Exception] = []

    def call(step: np.ndarray) -> list[np.ndarray]:
        try:
            batch = make_batch(int(step))
        except Exception as error:
            failures.append(error)
            raise
        return [batch[name] for name in fields]

    def in_graph(step: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(fields, tf.numpy_function(call, [step], dtypes), strict=True))

    stop = np.iinfo(np.int64).max if steps is None else start + steps
    dataset = tf.data.Dataset.range(start, stop)
    dataset = dataset.map(in_graph, num_parallel_calls=threads, deterministic=True)
    # Nothing is left to tune, and the end of a stream may wait for the tuner for a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return _Stream(dataset.prefetch(_BATCHES_AHEAD).with_options(options), failures)


class _Stream:
    """An iterator over a tf.data.Dataset of batches, as NumPy arrays."""

    def __init__(self, dataset: tf.data.Dataset, failures: list[Exception]):
        self._batches = dataset.as_numpy_iterator()
        self._failures = failures
        _streams.add(self)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        try:
            return cast(Batch, next(self._batches))
        except tf.errors.OpError as error:
            # The exception of `make_batch` says more than TensorFlow's.
            raise (self._failures[0] if self._failures else error) from None

    def close(self) -> None:
        """End the stream: waits for the batches being made, then ends their threads."""
        self._batches = iter(())


_streams: weakref.WeakSet[_Stream] = weakref.WeakSet()


@atexit.register
def _close_streams() -> None:
    # tf.data's threads run Python. A thread that still runs when the interpreter ends aborts or
    # hangs the process. The traceback of the program's last exception may keep a stream alive.
    for name in ("last_exc", "last_value", "last_traceback"):
        setattr(sys, name, None)
    for stream in tuple(_streams):
        stream.close()
