"""The folder of a run: whose it is, its config, and which body it was trained with."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from pare_jax.body.io import BodyData, load_body_data
from pare_jax.errors import UserError
from pare_jax.io.files import write_together
from pare_jax.training import config as config_lib
from pare_jax.training.checkpoints import CHECKPOINT_FOLDER, CONFIG_FILE, load_config

# Keys and sections of the config that trained weights are good for.
_NETWORK = ("model", "image_size")
# What a run that goes on keeps. Its length and learning rate may change, and how it is watched.
_EXPERIMENT = ("seed", "batch_size", "loss", "augment", "data.train", "data.synthetic")
# What a run started from, and what every run did before this could be said.
_START = {"path": "", "mean_parameters": ""}
_FROZEN = {"freeze_epochs": 0.0}
# What tells the body of the run from others, wherever its file lies.
_BODY_FILE = "body.json"


def check(workdir: Path, config: ConfigDict) -> None:
    """Make the folder of a run, or check that a run already here goes with the config.

    Raises:
        UserError: the folder cannot be written or belongs to a run of another network.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not os.access(workdir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        goes_on = has_run(workdir)
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error.strerror}") from error
    if goes_on:
        _check_goes_on(workdir, config)


@contextlib.contextmanager
def left_as_found(workdir: Path) -> Iterator[None]:
    """Remove the folders that a command made for a run and left empty, where it comes to nothing.

    Args:
        workdir: of the run.
    """
    new = [path for path in (workdir, *workdir.parents) if not os.path.exists(path)]
    try:
        yield
    except BaseException:
        # The first that holds something ends it, and with it its parents stay.
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()
        raise


def has_run(workdir: Path) -> bool:
    """Tell whether a run is here that a training would go on with."""
    return (workdir / CONFIG_FILE).exists() and bool(_steps(workdir))


def _steps(workdir: Path) -> list[int]:
    """Return the steps of the checkpoints; a save that was interrupted is none."""
    return [int(p.name) for p in (workdir / CHECKPOINT_FOLDER).glob("*") if p.name.isdecimal()]


def write_config(workdir: Path, config: ConfigDict) -> None:
    """Write config.json, from which a network is built again, and body.json; raises UserError."""
    content = json.dumps(config_lib.plain(config), indent=1) + "\n"
    body = json.dumps(_describe(load_body_data(config.body_model or None)), indent=1) + "\n"
    write_together(workdir, {CONFIG_FILE: content.encode(), _BODY_FILE: body.encode()})


def check_same_network(old: ConfigDict, new: ConfigDict, workdir: Path) -> None:
    """Raise UserError when a run's network, its input or its body differ from a config's."""
    noted = (workdir / _BODY_FILE).exists()
    # A run that was begun before bodies were noted down knows no more of its own than a path.
    changed = config_lib.differences(old, new, _NETWORK if noted else (*_NETWORK, "body_model"))
    # Parameters are float32 whatever the network computes in.
    changed = [text for text in changed if not text.startswith("model.dtype:")]
    _refuse(changed, "network", workdir)
    check_same_body(workdir, load_body_data(new.body_model or None))


def check_same_body(workdir: Path, body: BodyData) -> None:
    """Raise UserError when a body is not the one that a run's body.json notes, if it has one.

    Where the body's file lies, what it is called and whether it is a pickle does not matter.
    """
    path = workdir / _BODY_FILE
    try:
        trained = json.loads(path.read_text())
        same = trained["digest"] == body.digest
        was = f"{trained['name']} of {trained['vertices']} vertices"
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read {path} ({type(error).__name__}): remove it, if you are sure that "
            f"{body.name} is the body of this run"
        ) from error
    if not same:
        raise UserError(
            f"{workdir} holds a run with another body: it was trained with {was}, and "
            f"{body.name} of {len(body.template)} vertices is another; name its file in "
            "config.body_model or use another --workdir"
        )


def _describe(body: BodyData) -> dict[str, str | int]:
    return {"name": body.name, "vertices": len(body.template), "digest": body.digest}


def _check_goes_on(workdir: Path, config: ConfigDict) -> None:
    """Raise UserError when going on with the run here under a config would mix two experiments."""
    old, begun = load_config(workdir), any(_steps(workdir))
    check_same_network(old, config, workdir)
    # Weights that were converted are no experiment yet, but they are what the run starts from.
    changed = _start_differences(old, config, _START | _FROZEN if begun else _START)
    if begun:
        changed += config_lib.differences(old, config, _EXPERIMENT)
    _refuse(changed, "experiment", workdir)


def _start_differences(old: ConfigDict, new: ConfigDict, defaults: dict[str, Any]) -> list[str]:
    """Describe how two configs' `pretrained` differ in the keys of `defaults`."""
    before, now = (
        ConfigDict(
            defaults | {k: v for k, v in config.get("pretrained", {}).items() if k in defaults}
        )
        for config in (old, new)
    )
    return [f"pretrained.{text}" for text in config_lib.differences(before, now)]


def _refuse(changed: list[str], what: str, workdir: Path) -> None:
    if changed:
        raise UserError(
            f"{workdir} holds a run of another {what} ({'; '.join(changed[:3])}): "
            "use its config or another --workdir"
        )
