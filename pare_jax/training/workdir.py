"""A run's folder: its config, its body model, and the check that a config may resume it."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from pare_jax.body.io import BodyData, load_body_data
from pare_jax.errors import UserError
from pare_jax.io.files import lock_file, read_json, write_together
from pare_jax.training import config as config_lib
from pare_jax.training import multiprocess
from pare_jax.training.checkpoints import CHECKPOINT_FOLDER
from pare_jax.training.trained_run import CONFIG_FILE, load_config

# Keys and sections of a config that fix the network.
_NETWORK = ("model", "image_size")
# Those that a resumed run keeps. Its length, learning rate, checkpoints and evaluations may change.
_EXPERIMENT = (
    *("seed", "batch_size", "loss", "augment"),
    *("data.train", "data.fits", "data.synthetic", "data.bodies"),
    *("data.photos", "data.labels", "data.keypoint_set"),
)
_START = ("pretrained.path", "pretrained.mean_parameters")
_FREEZING = ("pretrained.freeze_epochs",)
# Identifies the run's body model by its content, because its file may move.
_BODY_FILE = "body.json"
# Locked while a process trains in the folder.
_LOCK_FILE = ".lock"
# Digests of earlier free bodies with the joints and shape coefficients of today's. Only their
# surfaces differ, and only where details were smoothed (docs/body.md), so that their runs go on.
_EARLIER_FREE_BODIES = ("6b651e02b17eece0",)


def check(
    workdir: Path, config: ConfigDict, defaults: ConfigDict | None = None
) -> ConfigDict | None:
    """Make a run's folder if it is missing; check that a config can resume the run in it.

    Args:
        workdir: the run's folder.
        config: the config to train with.
        defaults: all keys of now, see `load_config`.

    Returns:
        The config that made the run's latest checkpoint; None if there is no checkpoint.

    Raises:
        UserError: the folder cannot be written, or its run is another network or experiment.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not os.access(workdir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        has_checkpoints = bool(_steps(workdir))
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error.strerror}") from error
    if not has_checkpoints:
        return None
    if not (workdir / CONFIG_FILE).exists():
        raise UserError(
            f"{workdir} has checkpoints but no {CONFIG_FILE}: put it back, or use another --workdir"
        )
    trained = load_config(workdir, defaults)
    _check_resumable(workdir, trained, config)
    return trained


@contextlib.contextmanager
def left_as_found(workdir: Path) -> Iterator[None]:
    """Remove the folders made inside the block that are empty at its end.

    Args:
        workdir: the folder that the block makes, with its parents.
    """
    new = [path for path in (workdir, *workdir.parents) if not os.path.exists(path)]
    try:
        yield
    finally:
        # The first folder that is not empty stops the loop; its parents are not empty either.
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()


def has_trained(workdir: Path) -> bool:
    """Return whether a run has a checkpoint of a training; step 0 holds converted weights."""
    return any(_steps(workdir))


@contextlib.contextmanager
def claimed(workdir: Path) -> Iterator[None]:
    """Keep other runs out of a run's folder, which exists, until the end of the block.

    Of several processes the first keeps the lock.

    Raises:
        UserError: another run trains in it, or it cannot be written, or the processes of this run
            do not share it.
    """
    with contextlib.ExitStack() as held:
        if multiprocess.is_first():
            held.enter_context(_locked(workdir))
        multiprocess.wait("the lock of the workdir")
        if not (workdir / _LOCK_FILE).exists():
            raise UserError(
                f"process {jax.process_index()} does not see the files of process 0 in {workdir}: "
                "use a --workdir on a disk that all processes share"
            )
        multiprocess.wait("seeing the lock")
        yield


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    path = workdir / _LOCK_FILE
    try:
        descriptor = lock_file(path)
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error.strerror}") from error
    if descriptor is None:
        owner = "another process"
        with contextlib.suppress(OSError, ValueError):
            owner = f"process {int(path.read_text())}"
        raise UserError(
            f"{owner} is training in {workdir}: wait for it, stop it, or use another --workdir"
        )
    try:
        with contextlib.suppress(OSError):  # of a full disk, for instance
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        # Removed while it is locked, so that nobody else's lock is removed.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _steps(workdir: Path) -> list[int]:
    """Return the steps of the complete checkpoints."""
    return [int(p.name) for p in (workdir / CHECKPOINT_FOLDER).glob("*") if p.name.isdecimal()]


def write_config(workdir: Path, config: ConfigDict) -> None:
    """Write config.json and body.json, which say how the latest checkpoint was made.

    Networks are built again from them, and later commands compared with them.

    Raises:
        UserError: the folder cannot be written, or the body cannot be read.
    """
    content = json.dumps(config_lib.plain(config), indent=1) + "\n"
    body = json.dumps(_describe(load_body_data(config.body_model or None)), indent=1) + "\n"
    write_together(workdir, {CONFIG_FILE: content.encode(), _BODY_FILE: body.encode()})


def check_same_network(old: ConfigDict, new: ConfigDict, workdir: Path) -> None:
    """Raise UserError if a run's network or the size of its input differ from a config's."""
    changes = config_lib.differences(old, new, _NETWORK)
    # Parameters are float32 whatever the network computes in.
    changes = [text for text in changes if not text.startswith("model.dtype:")]
    _refuse(changes, "network", workdir)


def load_run_body(
    workdir: Path, config: ConfigDict, body: str | Path | None, option: str = "--body"
) -> BodyData:
    """Read the body model that a run was trained with.

    Args:
        workdir: the run's folder.
        config: the run's config, which has the path that the body's file had then.
        body: the file, if it has moved; None: the config's path.
        option: name of the option that gives `body`, for the message.

    Raises:
        UserError: the file is missing, damaged, or another body model.
    """
    path = body or config.body_model or None
    if path and not body and not Path(path).exists():
        raise UserError(
            f"the body model {path} of the run {workdir} is missing: give its file by {option}=FILE"
        )
    data = load_body_data(path)
    check_same_body(workdir, data)
    return data


def check_same_body(workdir: Path, body: BodyData) -> None:
    """Raise UserError if a body model is not the run's.

    Only its content counts, not the place, name or format of its file. A run of an earlier free
    body accepts today's.
    """
    path = workdir / _BODY_FILE
    try:
        trained = read_json(path, "copy the run again, with all its files")
        same = trained["digest"] == body.digest or (
            trained["digest"] in _EARLIER_FREE_BODIES and body.digest == load_body_data().digest
        )
        was = f"{trained['name']} with {trained['vertices']} vertices"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read {path} ({type(error).__name__}): copy the run again, with all its files"
        ) from error
    if not same and trained["name"] == body.name:
        raise UserError(
            f"{workdir} was trained with another version of the body model {was}: give its "
            "file, or train again"
        )
    if not same:
        raise UserError(
            f"{workdir} was trained with another body model, {was}, not with {body.name} with "
            f"{len(body.template)} vertices: give its file, or use another run"
        )


def _describe(body: BodyData) -> dict[str, str | int]:
    return {"name": body.name, "vertices": len(body.template), "digest": body.digest}


def _check_resumable(workdir: Path, trained: ConfigDict, config: ConfigDict) -> None:
    """Raise UserError if resuming with a config would mix two experiments."""
    check_same_network(trained, config, workdir)
    check_same_body(workdir, load_body_data(config.body_model or None))
    # Any experiment may start from converted weights.
    kept = _START + (_FREEZING + _EXPERIMENT if has_trained(workdir) else ())
    _refuse(config_lib.differences(trained, config, kept), "experiment", workdir)


def _refuse(changes: list[str], what: str, workdir: Path) -> None:
    if changes:
        raise UserError(
            f"{workdir} holds a run of another {what} ({'; '.join(changes[:3])}): "
            "use its config or another --workdir"
        )
