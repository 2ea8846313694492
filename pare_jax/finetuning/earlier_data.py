"""Measures what a network may have forgotten: the evaluation splits of the first run."""

import copy
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from data_pipelines import datasets
from data_pipelines.reading import storage
from data_pipelines.synthetic import settings
from pare_jax import sharding
from pare_jax.body.io import load_body_data
from pare_jax.body.model import body_from_data
from pare_jax.errors import UserError
from pare_jax.evaluation import evaluate, report
from pare_jax.evaluation.evaluate import Weights
from pare_jax.training.step import Graphs

# A rise of the error by more than this share is said as forgotten.
_FORGOTTEN = 0.05


class Kept(NamedTuple):
    """The error of both weights on an earlier split: MPJPE in mm, or keypoints missed in %."""

    split: str
    unit: str
    before: float
    after: float

    @property
    def is_forgotten(self) -> bool:
        """True if the error rose by more than a twentieth."""
        return self.after > (1.0 + _FORGOTTEN) * self.before


def splits_at_hand(run: ConfigDict | None, root: str) -> list[str]:
    """Return the evaluation splits of a run that can be opened without preparing anything.

    Args:
        run: the first run's config; None: there is none.
        root: folder of prepared datasets, the fine-tuning's.
    """
    if run is None:
        return []
    return [name for name in run.data.eval if _is_prepared(run, root, *name.rsplit("/", 1))]


def _is_prepared(run: ConfigDict, root: str, name: str, split: str) -> bool:
    try:
        if name == "synthetic":
            people = settings.from_mapping(run.data.synthetic)
            path = storage.synthetic_path(people, root)
        else:
            path = storage.find_dataset(root, name)
        storage.open_split(path, split)
    except UserError:
        return False
    return True


def measure_earlier(
    config: ConfigDict,
    run: ConfigDict,
    workdir: Path,
    names: Sequence[str],
    both: Sequence[Weights],
    graphs: Graphs,
) -> list[Kept]:
    """Measure the first weights and the later ones on splits of the first run.

    Args:
        config: of the fine-tuning.
        run: the first run's config.
        workdir: of the fine-tuning.
        names: splits of the first run.
        both: the first weights and the later ones.
        graphs: of the network.

    Raises:
        UserError: a split is damaged.
    """
    if not names:
        return []
    earlier = copy.deepcopy(run).unlock()
    earlier.data.eval = tuple(names)
    earlier.body_model, earlier.data.root = config.body_model, config.data.root
    earlier.eval.batch_size = config.eval.batch_size
    mesh = sharding.make_mesh()
    body = body_from_data(load_body_data(config.body_model or None))
    setup = evaluate.make_setup(earlier.eval, body, mesh)
    data = datasets.load_held_out(earlier, workdir, earlier)
    step = jax.jit(functools.partial(evaluate.eval_step, graphdef=graphs.evaluation))
    results = [
        {
            name: report.summarise(errors)
            for name, errors in evaluate.measure_splits(step, weights, setup, data.evals).items()
        }
        for weights in both
    ]
    return [kept for name in names if (kept := _kept(name, *(one[name] for one in results)))]


def _kept(name: str, before: Mapping, after: Mapping) -> Kept | None:
    if before["mpjpe"] is not None:
        return Kept(name, "mm", before["mpjpe"], after["mpjpe"])
    for key in ("pckh", "pck_2d"):
        if before[key] is not None:
            return Kept(name, "%", 100.0 - before[key], 100.0 - after[key])
    return None
