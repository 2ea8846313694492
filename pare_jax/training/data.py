"""The data that a run is given: streams of batches, their lengths and the samples' names.

`data_pipelines.datasets` makes it from a config; training does not depend on its source.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Array, Float

from pare_jax.evaluation.sample_errors import HostBatch
from pare_jax.evaluation.sequences import SplitNames

# Made on the devices.
DeviceBatch = Mapping[str, Array]
# Maps the step to start at to an endless stream of batches.
TrainStream = Callable[[int], Iterator[HostBatch | DeviceBatch]]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The data of an evaluation.

    Attributes:
        evals: by DATASET/SPLIT, a function that passes over the split once.
        eval_names: by DATASET/SPLIT, a function that returns the names of its samples.
        mean_joints: the training set's mean root-centred joints, metres.
        skipped: returns the indices of the damaged examples that this process found so far, by
            split, training splits included.
    """

    evals: Mapping[str, Callable[[], Iterable[HostBatch]]]
    eval_names: Mapping[str, Callable[[], SplitNames]]
    mean_joints: Float[np.ndarray, "24 3"]
    skipped: Callable[[], Mapping[str, Collection[int]]] = dict


@dataclasses.dataclass(frozen=True)
class RunData:
    """The data of a training run.

    Attributes:
        train: maps the step to start at to an endless stream of this process' training batches,
            which is a function of (seed, step) alone. Batches made on the devices are global.
        steps_per_epoch: length of an epoch.
        held_out: the data of the run's evaluations.
        notes: lines for the user about the data, said at the start.
        fingerprints: by DATASET/SPLIT, digests of the training data.
    """

    train: TrainStream
    steps_per_epoch: int
    held_out: HeldOut
    notes: Sequence[str] = ()
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)
