"""Shards -> batches: the stream of training batches and the pass over an evaluation split.

A batch is made by one call of plain numpy and OpenCV (read, decode, warp, move the labels), and
tf.data runs several such calls side by side and hands them out in order. OpenCV lets go of the
interpreter lock while it decodes and warps, which is nearly all of the work, so threads suffice.
Measured with scripts/benchmark_input.py: OpenCV decodes a stored crop as fast as TensorFlow and
warps it several times faster, and one call per batch spares TensorFlow's per-sample overhead.

Batch k is a function of (seed, k): a stream entered at `start_step` k gives the same bytes as one
that ran up to k, and the number of threads changes nothing.
"""

import atexit
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import cv2
import numpy as np
import tensorflow as tf

from data_pipelines import transforms
from data_pipelines.example import BATCH_FIELDS, BATCH_PARTS_STRIDE, STORED_FIELDS
from data_pipelines.preparing.processes import count_cores
from data_pipelines.reading.sample_order import Mixture, Shuffle, sample_uniforms
from data_pipelines.transforms import BadExampleError
from pare_jax.body.io import GENDERS
from pare_jax.errors import UserError

Batch = dict[str, np.ndarray]

# Fields a stored example holds as arrays or numbers, which a batch needs.
_LABELS = tuple(
    name
    for name, field in STORED_FIELDS.items()
    if field.dtype == "float32" and name in BATCH_FIELDS
)
_BATCHES_AHEAD = 2


class ExampleSource(Protocol):
    """A split that can be read in any order, as `storage.open_split` returns."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return the example as `example.STORED_FIELDS` says; pictures may be decoded already."""
        ...


class GeometricSettings(Protocol):
    """The part of config.augment that moves pictures; the rest happens on the device."""

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
) -> Iterator[Batch]:
    """Stream training batches without end.

    Every dataset is shuffled anew each epoch and gives each example once per epoch; datasets share
    the stream by weight, exactly so over each `sample_order.CYCLE` samples.

    Args:
        sources: the datasets and their weights.
        batch_size: samples of a batch over all processes.
        image_size: side of the network crop, pixels, a multiple of 4.
        seed: fixes order and augmentation.
        start_step: number of the first batch.
        augment: `scale` (fraction), `rotation` (degrees) and `flip` (probability).
        process_index: which of the processes this is; it gets its share of each batch's rows.
        process_count: number of processes.
        threads: batches made side by side; None: as many as this process has cores.

    Returns:
        An iterator of batches as `example.BATCH_FIELDS` says.

    Raises:
        UserError: a bad size or weight, or (while iterating) an example that cannot be read.
    """
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch_size {batch_size}: must be a positive multiple of the {process_count} processes"
        )
    _check(image_size, [source for source, _ in sources])
    mixture = Mixture([weight for _, weight in sources], seed)
    shuffles = [Shuffle(len(source), seed, dataset) for dataset, (source, _) in enumerate(sources)]
    rows = batch_size // process_count

    def make_batch(step: int) -> Batch:
        start = step * batch_size + process_index * rows
        datasets, draws = mixture.draws(start, rows)
        indices = np.empty(rows, np.int64)
        for dataset, shuffle in enumerate(shuffles):
            chosen = datasets == dataset
            indices[chosen] = shuffle.indices(draws[chosen])
        readings = [
            (sources[dataset][0], int(index))
            for dataset, index in zip(datasets, indices, strict=True)
        ]
        uniforms = sample_uniforms(seed, start, rows)
        return assemble_batch(readings, transforms.random_placement(uniforms, augment), image_size)

    return _run(make_batch, start_step, None, threads)


def eval_batches(
    source: ExampleSource, *, batch_size: int, image_size: int, threads: int | None = None
) -> Iterator[Batch]:
    """Pass once over a split in its own order, without augmentation.

    Args:
        source: the split.
        batch_size: samples of a batch.
        image_size: side of the network crop, pixels, a multiple of 4.
        threads: batches made side by side; None: as many as this process has cores.

    Returns:
        An iterator of batches as `example.BATCH_FIELDS` says. The last one is filled up by
        repeating the last example with sample_weight 0.

    Raises:
        UserError: a bad size, or (while iterating) an example that cannot be read.
    """
    if batch_size < 1:
        raise UserError(f"batch_size {batch_size}: must be positive")
    _check(image_size, [source])
    size = len(source)

    def make_batch(step: int) -> Batch:
        wanted = np.arange(step * batch_size, (step + 1) * batch_size)
        readings = [(source, int(index)) for index in np.minimum(wanted, size - 1)]
        batch = assemble_batch(readings, transforms.identity_placement(batch_size), image_size)
        batch["sample_weight"] = (wanted < size).astype(np.float32)
        return batch

    return _run(make_batch, 0, -(-size // batch_size), threads)


def assemble_batch(
    readings: Sequence[tuple[ExampleSource, int]], placement: transforms.Placement, image_size: int
) -> Batch:
    """Read, decode and move a batch's samples.

    Args:
        readings: the dataset and index of each sample.
        placement: how each sample lies in its crop.
        image_size: side of the network crop, pixels.

    Returns:
        The batch, as `example.BATCH_FIELDS` says.

    Raises:
        UserError: an example cannot be decoded; names it.
    """
    count, parts_size = len(readings), image_size // BATCH_PARTS_STRIDE
    records = [_read(source, index) for source, index in readings]
    labels = {
        name: np.stack([np.asarray(record[name], np.float32) for record in records])
        for name in _LABELS
    }
    batch = {
        "image": np.empty((count, image_size, image_size, 3), np.uint8),
        "part_labels": np.empty((count, parts_size, parts_size), np.uint8),
        "sample_weight": np.ones(count, np.float32),
        "index": np.array([index for _, index in readings], np.int32),
        "gender": np.empty(count, np.int32),
    }
    row = 0
    try:
        sides = np.empty(count)
        for row, record in enumerate(records):
            sides[row] = transforms.stored_side(record["image"])
            batch["gender"][row] = _gender_number(record["gender"])
        affine = transforms.crop_affine(placement, sides, image_size)
        to_stored = transforms.invert_affine(affine)
        for row, record in enumerate(records):
            transforms.warp_image(record["image"], to_stored[row], batch["image"][row])
            transforms.warp_parts(
                record["part_labels"],
                to_stored[row],
                placement.mirror[row],
                batch["part_labels"][row],
            )
    except BadExampleError as error:
        raise _named(error, *readings[row]) from error
    moved = transforms.move_labels(labels, placement, affine, image_size)
    batch |= {**labels, **moved}
    return {name: batch[name] for name in BATCH_FIELDS}


def _read(source: ExampleSource, index: int) -> Mapping[str, Any]:
    try:
        return source[index]
    except BadExampleError as error:
        raise _named(error, source, index) from error


def _named(error: Exception, source: ExampleSource, index: int) -> UserError:
    return UserError(
        f"example {index} of {_name(source)}: {error}; "
        "prepare the dataset again (python -m data_pipelines.prepare)"
    )


def _gender_number(name: str) -> int:
    if name not in GENDERS:
        raise BadExampleError(f"gender is {name!r}, not one of {', '.join(GENDERS)}")
    return GENDERS.index(name)


def _name(source: Any) -> str:
    """Return what a message calls a source; stored splits know where they lie."""
    return f"{source.split} in {source.path}" if hasattr(source, "path") else "the dataset"


def _check(image_size: int, sources: Sequence[ExampleSource]) -> None:
    if image_size < BATCH_PARTS_STRIDE or image_size % BATCH_PARTS_STRIDE:
        raise UserError(
            f"image_size {image_size}: must be a positive multiple of {BATCH_PARTS_STRIDE}"
        )
    if not sources:
        raise UserError("no dataset given; name at least one in the config's data section")
    for source in sources:
        if not len(source):
            raise UserError(
                f"{_name(source)} holds no examples; "
                "prepare it again (python -m data_pipelines.prepare)"
            )


def _run(
    make_batch: Callable[[int], Batch], start: int, steps: int | None, threads: int | None
) -> Iterator[Batch]:
    """Call `make_batch` for each step in tf.data's threads and yield the results in order."""
    # Parallelism is over batches; OpenCV's own threads would only fight with it.
    cv2.setNumThreads(1)
    # The accelerator belongs to JAX; TensorFlow would claim all its memory.
    tf.config.set_visible_devices([], "GPU")
    threads = threads or count_cores()
    names = tuple(BATCH_FIELDS)
    dtypes = [tf.as_dtype(BATCH_FIELDS[name].dtype) for name in names]
    failures: list[Exception] = []

    def call(step: np.ndarray) -> list[np.ndarray]:
        try:
            batch = make_batch(int(step))
        except Exception as error:
            failures.append(error)
            raise
        return [batch[name] for name in names]

    def in_graph(step: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, tf.numpy_function(call, [step], dtypes), strict=True))

    stop = np.iinfo(np.int64).max if steps is None else start + steps
    dataset = tf.data.Dataset.range(start, stop)
    dataset = dataset.map(in_graph, num_parallel_calls=threads, deterministic=True)
    return _Stream(dataset.prefetch(_BATCHES_AHEAD), failures)


class _Stream:
    """The batches of a dataset as numpy arrays; can be closed."""

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
            # What went wrong in `make_batch` says more than TensorFlow's account of it.
            raise (self._failures[0] if self._failures else error) from None

    def close(self) -> None:
        """End the stream. Waits for the batches being made, after which no thread is left."""
        self._batches = iter(())


_streams: weakref.WeakSet[_Stream] = weakref.WeakSet()


@atexit.register
def _close_streams() -> None:
    # tf.data's threads run Python: one that still does while the interpreter ends aborts or hangs
    # the process. An exception that ended the program may hold on to a stream by its traceback.
    for name in ("last_exc", "last_value", "last_traceback"):
        setattr(sys, name, None)
    for stream in tuple(_streams):
        stream.close()
