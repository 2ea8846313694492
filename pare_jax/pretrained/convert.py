"""Convert PARE's checkpoints to runs of this project, and back.

    python -m pare_jax.pretrained.convert --from=pare_checkpoint.ckpt --to=runs/pare \\
        --body=SMPL_NEUTRAL.pkl
    python -m pare_jax.pretrained.convert --from=runs/mine --to-torch=out.ckpt

The first command makes a workdir with a config and a checkpoint of step 0. Prediction, evaluation
and training use it like any other. The second writes a state dict for PARE's code. docs/weights.md
says where the files come from and what each direction keeps.
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
from pare_jax.crop import BOX_SCALE
from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.io.files import parse_json, scratch_path
from pare_jax.io.progress import say
from pare_jax.models import build_model
from pare_jax.models.flat_state import of_network, unflatten
from pare_jax.pretrained import pare_options
from pare_jax.pretrained import pare_weights as pare
from pare_jax.pretrained.load import FORMATS, convert, detect
from pare_jax.pretrained.read import WeightFile, read_weights
from pare_jax.pretrained.table import Report
from pare_jax.pretrained.weight_format import within
from pare_jax.pretrained.write import OWN_SETTINGS, export
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.config import check_crop_scale, validate
from pare_jax.training.trained_run import load_model
from pare_jax.training.workdir import write_config

# Values of --means, and the options of PARE that each sets.
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
        checkpoint: PARE's file.
        workdir: folder to make; a failure leaves no partial folder.
        body: body model file, in SMPL's format, for the workdir's config; "": the free body.
        means: which predictions are added to PARE's mean parameters: "none", "pose", "camshape"
            (shape and camera), "all", or "auto" for the checkpoint's own options.

    Returns:
        The report of the checkpoint's tensors.

    Raises:
        UserError: the file cannot be read or is not PARE's, the body cannot be read, or the workdir
            is not empty or cannot be written.
    """
    workdir = Path(workdir)
    _check_free(workdir)
    if body:
        load_body_data(body)
    weights = read_weights(checkpoint)
    if _MEANS[means]:
        # These options come first, so that they take precedence over the file's own.
        others = {n: v for n, v in weights.metadata.items() if str(n).upper() not in _MEANS[means]}
        metadata = {**_MEANS[means], **others}
        weights = WeightFile(weights.path, weights.tensors, metadata)
    config = _config_of(weights)
    config.body_model = body
    flat, report = convert(weights, config.model, "pare")
    _set_own(config, weights)
    validate(config)
    network = nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))
    missing = of_network(network).keys() - flat.keys()
    if missing:
        raise UserError(
            f"{checkpoint} is not a PARE checkpoint: no tensor in it becomes {min(missing)}"
        )
    arrays = {name: jnp.asarray(value) for name, value in flat.items()}
    _, params, batch_stats = nnx.split(network, nnx.Param, ...)
    with _complete_folder(workdir) as scratch:
        write_config(scratch, config)
        store = Checkpoints(scratch)
        store.save_weights(
            unflatten("params", params, arrays), unflatten("batch_stats", batch_stats, arrays)
        )
        store.wait()
        store.close()
    return report


def to_torch(run: str | Path, path: str | Path, format: str = "pare") -> list[str]:
    """Write a trained network for PARE's code, or its backbone.

    Args:
        run: a workdir, or one checkpoint's folder in it.
        path: file to write: `.ckpt`, `.pth` or `.safetensors`.
        format: "pare" for the whole network; "resnet" or "hrnet" for its backbone alone.

    Returns:
        Notes for the user, one line each.

    Raises:
        UserError: the run cannot be read, the format cannot hold its network, or the file exists
            or cannot be written.
    """
    if Path(path).exists():
        raise UserError(f"{path} already exists: give --to-torch another name, or remove it")
    config, network = load_model(run, say=say)
    if config.model.input != "image":
        raise UserError(
            f"{run} is a network on keypoints, which PARE's code lacks: give a run on images"
        )
    scale = config.get("crop_scale", BOX_SCALE)
    own = {"crop_scale": scale, "align_corners": config.model.align_corners}
    tensors, notes = export(
        network, config.model, path, format, config.image_size, own if format == "pare" else None
    )
    if format == "pare" and scale != 1:
        notes.append(
            f"this run's crops are {scale:g} times the longer side of a box, those of PARE's demo "
            f"1 times: call its run_on_image_folder or run_on_video with bbox_scale={scale:g}"
        )
    count = sum(value.size for value in tensors.values())
    return [f"written: {path}, {len(tensors)} tensors, {count:,} numbers", *notes]


def _config_of(weights: WeightFile) -> ConfigDict:
    """Return configs/pare.py with the network and the crops' size of a file."""
    from configs.pare import get_config

    name, prefix = detect(weights.tensors, str(weights.path))
    if name != "pare":
        raise UserError(
            f"{weights.path} is not a PARE checkpoint but a backbone, {FORMATS[name].title}: train "
            f"with --config.pretrained.path={weights.path}"
        )
    tensors, path = within(weights.tensors, prefix), str(weights.path)
    pare_options.check(tensors, weights.metadata, path)
    config = get_config()
    config.model.update(pare.describe(tensors, path))
    config.image_size = pare_options.options_of(weights.metadata).get("IMG_RES", config.image_size)
    return config


def _set_own(config: ConfigDict, weights: WeightFile) -> None:
    """Set what `to_torch` stored beside PARE's options, in a file of this project.

    Raises:
        UserError: they have other types.
    """
    own = weights.metadata.get(OWN_SETTINGS, {})
    if isinstance(own, str):  # from .safetensors
        own = parse_json(own.encode(), f"{OWN_SETTINGS} of {weights.path}")
    if not isinstance(own, dict) or not isinstance(own.get("align_corners", True), bool):
        raise UserError(f"{weights.path} is damaged: its entry {OWN_SETTINGS} is {own!r:.60}")
    scale = own.get("crop_scale", config.crop_scale)
    check_crop_scale(scale, f"crop_scale of {weights.path}")
    config.crop_scale = float(scale)
    config.model.align_corners = own.get("align_corners", True)


def _check_free(workdir: Path) -> None:
    try:
        used = workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir()))
    except OSError as error:
        raise UserError(f"cannot read {workdir}: {error.strerror}") from None
    if used:
        raise UserError(f"{workdir} is not empty: give --to another folder, or remove this one")


@contextlib.contextmanager
def _complete_folder(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder; it is renamed to `folder` on success and removed on failure."""
    scratch = scratch_path(folder)
    try:
        scratch.mkdir(parents=True)
        yield scratch
        os.replace(scratch, folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    texts = {
        "from": "Input: a checkpoint of PARE, or with --to-torch a run's workdir.",
        "to": "Workdir to make.",
        "to-torch": "File to write: .ckpt, .pth or .safetensors.",
        "body": "Body model file, in SMPL's format, for the new workdir; default: the free body.",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, "", text, flag_values=values)
    flags.DEFINE_enum(
        "means",
        "auto",
        list(_MEANS),
        "Predictions that are added to PARE's mean parameters; auto: as the file says.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "format",
        "pare",
        ["pare", "resnet", "hrnet"],
        "Format of --to-torch: pare for the whole network, others for its backbone.",
        flag_values=values,
    )


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    stopped = "interrupted: nothing was written"
    return command_line.run(__doc__, define_flags, _run, argv, stopped)


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags start with --")
    names = ("from", "to", "to-torch", "body", "means", "format")
    start, workdir, file, body, means, format = (str(values[name].value) for name in names)
    if not start or bool(workdir) == bool(file):
        raise UserError("give --from and one of --to=WORKDIR and --to-torch=FILE; see --help")
    if workdir:
        print(to_workdir(start, workdir, body=body, means=means))
        say(f"written: {workdir}")
    else:
        for line in to_torch(start, file, format):
            say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
