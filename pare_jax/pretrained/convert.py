"""PARE's checkpoints to runs of this project, and back.

    python -m pare_jax.pretrained.convert --from=pare_checkpoint.ckpt --to=runs/pare \\
        --body=SMPL_NEUTRAL.pkl
    python -m pare_jax.pretrained.convert --from=runs/mine --to-torch=out.ckpt

The first makes a workdir with a config and a checkpoint of step 0, which `pare_jax.predict`,
evaluation and training use like any other. The second writes a state dict under the names of the
original code. docs/weights.md says where the files come from and what both directions keep.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
from absl import flags
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.body.io import load_body_data
from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.models import build_model
from pare_jax.models.flat_state import of_network, unflatten
from pare_jax.pretrained import pare_weights as pare
from pare_jax.pretrained.export import export
from pare_jax.pretrained.load import SOURCES, convert, detect
from pare_jax.pretrained.read import WeightFile, read_weights
from pare_jax.pretrained.table import Report
from pare_jax.pretrained.weight_format import within
from pare_jax.training.checkpoints import Checkpoints, load_model
from pare_jax.training.config import validate
from pare_jax.training.workdir import write_config

# What --means may say, as the options of PARE that it sets.
_MEANS = {
    "auto": {},
    "none": {"USE_MEAN_POSE": False, "USE_MEAN_CAMSHAPE": False},
    "pose": {"USE_MEAN_POSE": True, "USE_MEAN_CAMSHAPE": False},
    "camshape": {"USE_MEAN_POSE": False, "USE_MEAN_CAMSHAPE": True},
    "all": {"USE_MEAN_POSE": True, "USE_MEAN_CAMSHAPE": True},
}


def to_workdir(
    checkpoint: str | Path, workdir: str | Path, *, body: str = "", means: str = "auto"
) -> Report:
    """Make a workdir from one of PARE's checkpoints.

    Args:
        checkpoint: the file.
        workdir: the folder to make; it appears whole or not at all.
        body: a body model in SMPL's format for the workdir's config; "": the free body.
        means: which of PARE's options add predictions to its mean parameters: "auto" for what the
            checkpoint says, "none", "pose", "camshape" (shape and camera) or "all".

    Returns:
        What became of the checkpoint's tensors.

    Raises:
        UserError: the file cannot be read or is not PARE's, the body cannot be read, or the workdir
            is in use or cannot be written.
    """
    workdir = Path(workdir)
    _check_free(workdir)
    if body:
        load_body_data(body)
    weights = read_weights(checkpoint)
    if _MEANS[means]:
        # What the user says goes before what the file says, wherever the file says it.
        said = {n: v for n, v in weights.metadata.items() if str(n).upper() not in _MEANS[means]}
        metadata = {**_MEANS[means], **said}
        weights = WeightFile(weights.path, weights.tensors, metadata)
    config = _config_of(weights)
    config.body_model = body
    validate(config)
    flat, report = convert(weights, config.model, "pare")
    network = nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))
    missing = of_network(network).keys() - flat.keys()
    if missing:
        raise UserError(f"{checkpoint} lacks what becomes {sorted(missing)[0]}: it is not PARE's")
    arrays = {name: jnp.asarray(value) for name, value in flat.items()}
    _, params, batch_stats = nnx.split(network, nnx.Param, ...)
    with _appearing(workdir) as scratch:
        write_config(scratch, config)
        store = Checkpoints(scratch)
        store.save_weights(
            unflatten("params", params, arrays), unflatten("batch_stats", batch_stats, arrays)
        )
        store.wait()
        store.close()
    return report


def to_torch(run: str | Path, path: str | Path, format: str = "pare") -> list[str]:
    """Write a trained network under the names of the original code.

    Args:
        run: a workdir, or one checkpoint's folder within it.
        path: what to write: `.ckpt`, `.pth` or `.safetensors`.
        format: "pare" for the whole network; "resnet" or "hrnet" for its backbone alone.

    Returns:
        What the user should know, a line each.

    Raises:
        UserError: the run cannot be read, its network is not what the format holds, or the file
            is there already or cannot be written.
    """
    if Path(path).exists():
        raise UserError(f"{path} is there already: give --to-torch another name, or remove it")
    config, network = load_model(run)
    tensors, notes = export(network, config.model, path, format)
    count = sum(value.size for value in tensors.values())
    return [f"written: {path}, {len(tensors)} tensors, {count:,} numbers", *notes]


def _config_of(weights: WeightFile) -> ConfigDict:
    """Adapt configs/pare.py to what a file holds."""
    from configs.pare import get_config

    name, prefix = detect(weights.tensors, str(weights.path))
    if name != "pare":
        raise UserError(
            f"{weights.path} holds a {SOURCES[name].title}, a backbone alone: train with "
            f"--config.pretrained.path={weights.path}"
        )
    config = get_config()
    config.model.update(pare.describe(within(weights.tensors, prefix), str(weights.path)))
    return config


def _check_free(workdir: Path) -> None:
    try:
        used = workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir()))
    except OSError as error:
        raise UserError(f"cannot read {workdir}: {error.strerror}") from None
    if used:
        raise UserError(f"{workdir} is not empty: give --to another folder, or remove it first")


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Give a scratch folder that becomes `folder` when all went well and vanishes otherwise."""
    scratch = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        yield scratch
        os.replace(scratch, folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def define_flags(values: flags.FlagValues) -> None:
    """Define --from, --to, --to-torch, --body, --means and --format."""
    text = {
        "from": "A checkpoint of PARE, or with --to-torch a run's folder.",
        "to": "The workdir to make.",
        "to-torch": "The file to write: .ckpt, .pth or .safetensors.",
        "body": "Body model in SMPL's format that the workdir names.",
    }
    for name, help_text in text.items():
        flags.DEFINE_string(name, "", help_text, flag_values=values)
    flags.DEFINE_enum(
        "means",
        "auto",
        list(_MEANS),
        "Which predictions are added to PARE's mean parameters, whatever the file says; "
        "auto: those the file names.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "format",
        "pare",
        ["pare", "resnet", "hrnet"],
        "What --to-torch writes: the whole network, or its backbone alone.",
        flag_values=values,
    )


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    stopped = "interrupted: nothing is written"
    return command_line.run(__doc__, define_flags, _run, argv, stopped)


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags start with --")
    names = ("from", "to", "to-torch", "body", "means", "format")
    source, workdir, file, body, means, format = (str(values[name].value) for name in names)
    if not source or bool(workdir) == bool(file):
        raise UserError("give --from and one of --to=WORKDIR and --to-torch=FILE; see --help")
    if workdir:
        print(to_workdir(source, workdir, body=body, means=means))
        print(f"written: {workdir}")
    else:
        print("\n".join(to_torch(source, file, format)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
