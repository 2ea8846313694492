"""Reads a training run for evaluation and prediction: its config and its trained network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.errors import UserError, reason_of
from pare_jax.io.files import read_json
from pare_jax.models import build_model
from pare_jax.training import config as config_lib
from pare_jax.training.base_config import base_config
from pare_jax.training.checkpoints import CHECKPOINT_FOLDER, Checkpoints

CONFIG_FILE = "config.json"
# Written at the end of a fine-tuning on the user's photographs.
COMPARISON_FILE = Path("finetuning", "comparison.json")
_COPY = "copy the run again, with all its files"


def load_config(workdir: str | Path, defaults: ConfigDict | None = None) -> ConfigDict:
    """Read the config of a run; keys that are newer than the run have their defaults.

    Args:
        workdir: the run's folder.
        defaults: all keys of now; None: `base_config`, which lacks those of synthetic people.

    Raises:
        UserError: the folder holds no run.
    """
    path = Path(workdir) / CONFIG_FILE
    try:
        stored = read_json(path, _COPY)
        sections = isinstance(stored, dict) and [stored.get(key) for key in ("model", "eval")]
        if not sections or not all(isinstance(section, dict) for section in sections):
            raise UserError(f"{path} is not a run's config: model or eval is missing; {_COPY}")
        return config_lib.completed(stored, base_config() if defaults is None else defaults)
    except FileNotFoundError:
        raise UserError(
            f"{workdir} is not a run: {CONFIG_FILE} is missing; give the --workdir of a run"
        ) from None
    except NotADirectoryError:
        raise UserError(
            f"{workdir} is a file, not a run: give the folder that was a run's --workdir"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from error


def split_checkpoint(checkpoint_or_workdir: str | Path) -> tuple[Path, int | None]:
    """Split WORKDIR/checkpoints/STEP into workdir and step; the step of a workdir is None."""
    path = Path(checkpoint_or_workdir)
    if path.parent.name == CHECKPOINT_FOLDER and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return path, None


def load_model(
    checkpoint_or_workdir: str | Path,
    weights: str = "auto",
    say: Callable[[str], object] | None = None,
) -> tuple[ConfigDict, nnx.Module]:
    """Load a trained network for prediction.

    Args:
        checkpoint_or_workdir: a run's workdir, for its latest checkpoint, or the folder of one
            checkpoint, WORKDIR/checkpoints/STEP.
        weights: "swa", "last", or "auto" for the run's `eval.weights`.
        say: called with one line if the last weights replace averaged ones, or an earlier
            checkpoint a damaged one; None: silent.

    Returns:
        The run's config and the network, in evaluation mode.

    Raises:
        UserError: no such run, no checkpoint, a damaged one or one of another architecture.
    """
    if weights not in ("auto", "swa", "last"):
        raise UserError(f"weights is {weights!r}: it must be auto, swa or last")
    path, step = split_checkpoint(checkpoint_or_workdir)
    config = load_config(path)
    model = nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, ...)
    checkpoints = Checkpoints(path, read_only=True)
    wanted = config.eval.weights if weights == "auto" else weights
    params, batch_stats, step, which = checkpoints.restore_model(
        (params, batch_stats), wanted, step
    )
    for note in checkpoints.take_notes():
        if say is not None:
            say(note)
    if weights == "swa" and which != "swa":
        raise UserError(
            f"{path} has no averaged weights at step {step}: use weights=last, or the checkpoint "
            "of an evaluation after swa.start_epoch"
        )
    if which != wanted and say is not None:
        say(f"{path} has no averaged weights at step {step}: its last ones are used")
    # JAX arrays, because NumPy's cannot be trained.
    model = nnx.merge(graphdef, *jax.tree.map(jnp.asarray, (params, batch_stats)))
    model.eval()
    return config, model


def warning_of_run(checkpoint_or_workdir: str | Path, config: ConfigDict) -> str | None:
    """Return `SYNTHETIC_ALONE` if a run's weights learnt bodies from synthetic people alone.

    A fine-tuning that keeps the first weights has the warning of the first run. A run on synthetic
    people that starts from another run, which is still at its path, has that run's.

    Args:
        checkpoint_or_workdir: as in `load_model`.
        config: of the run.

    Returns:
        The warning; None if the weights have seen other people.

    Raises:
        UserError: the comparison of a fine-tuning, or the config of the first run, is damaged.
    """
    workdir, step = split_checkpoint(checkpoint_or_workdir)
    own = config_lib.warning_of(config)
    if config.data.photos:
        compared = workdir / COMPARISON_FILE
        result: dict[str, Any] = {"is_better": True}
        if compared.is_file():
            result = read_json(compared, _COPY)
        try:
            is_first = not result["is_better"] and step in (None, result["checkpoint"])
        except (KeyError, TypeError):
            raise UserError(f"{compared} is no comparison of a fine-tuning: {_COPY}") from None
        return result.get("first_warning") if is_first else own
    first = config.pretrained.path
    if own is not None and first and (split_checkpoint(first)[0] / CONFIG_FILE).is_file():
        return warning_of_run(first, load_config(split_checkpoint(first)[0]))
    return own
