"""What a run is given of the data; where it comes from the run does not ask."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Float

from pare_jax.evaluation.sequences import SplitNames

# By the names of `data_pipelines.example.BATCH_FIELDS`.
HostBatch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What an evaluation needs.

    Attributes:
        evals: by DATASET/SPLIT, a function that passes over the split once.
        eval_names: by DATASET/SPLIT, a function that tells the names of its samples.
        mean_joints: the training set's mean root-centred joints, metres.
    """

    evals: Mapping[str, Callable[[], Iterable[HostBatch]]]
    eval_names: Mapping[str, Callable[[], SplitNames]]
    mean_joints: Float[np.ndarray, "24 3"]


@dataclasses.dataclass(frozen=True)
class RunData(HeldOut):
    """What training needs.

    Attributes:
        train: from the step to start at to an endless stream of this process' training batches; a
            function of (seed, step) alone.
        steps_per_epoch: of training.
    """

    train: Callable[[int], Iterator[HostBatch]]
    steps_per_epoch: int
