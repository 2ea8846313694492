"""Export a trained network to one file that runs without this package.

    python -m pare_jax.export --checkpoint=runs/final --output=final.jax
    python -m pare_jax.export --checkpoint=runs/final --output=final.onnx --with-body

The suffix .onnx writes an ONNX model; any other a StableHLO program for JAX (CPU, CUDA and TPU).
Both take crops, (batch, side, side, 3) uint8 RGB, or keypoints, as the network does, with any batch
size, and return named arrays; see docs/export.md. How to make the input is in the ONNX file's
metadata, or in NAME.json beside another file. Missing folders of --output are made.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
from absl import flags
from flax import nnx
from jaxtyping import Array
from ml_collections import ConfigDict

from pare_jax import geometry
from pare_jax.body.model import BodyModel, body_from_data
from pare_jax.errors import UserError
from pare_jax.export.description import FileInput, crop_input, keypoint_input
from pare_jax.export.onnx_graph import onnx_model
from pare_jax.io import command_line
from pare_jax.io.files import write_together
from pare_jax.io.progress import say
from pare_jax.models.folding import FoldedUpsamplingBlock, fold
from pare_jax.models.inference import prepared
from pare_jax.models.layers import Conv
from pare_jax.training.config import check_crop_scale, crop_scale_of
from pare_jax.training.trained_run import load_model, split_checkpoint
from pare_jax.training.workdir import load_run_body

PLATFORMS = ("cpu", "cuda", "tpu")


def people_function(
    network: nnx.Module, body: BodyModel | None = None, *, attention: bool = False
) -> Callable[[Array], dict[str, Array]]:
    """Return the function to export; all of it computes in float32.

    Args:
        network: maps normalised crops, or keypoints, to a `Prediction`.
        body: if given, the function also returns "joints" and "vertices", metres in the crop's
            camera frame, and "faces".
        attention: whether it also returns "attention", if the network has any.
    """
    network = fold(network)
    for _, module in nnx.iter_modules(network):
        if isinstance(module, Conv | FoldedUpsamplingBlock):
            module.dtype = jnp.float32
    graphdef, state = nnx.split(network)

    def function(inputs: Array) -> dict[str, Array]:
        prediction = nnx.merge(graphdef, state)(prepared(inputs))
        answer = {
            "rotations": prediction.rotations,
            "betas": prediction.betas,
            "camera": prediction.camera,
        }
        if attention and prediction.attention is not None:
            answer["attention"] = prediction.attention
        if body is not None:
            translation = geometry.camera_translation(prediction.camera)
            posed = body(prediction.betas, prediction.rotations, translation)
            answer |= {"joints": posed.joints, "vertices": posed.vertices, "faces": body.faces}
        return answer

    return function


def export(function: Callable, file_input: FileInput, kind: str) -> bytes:
    """Serialize a function for any batch size.

    Args:
        function: from `people_function`.
        file_input: what it takes; an ONNX file stores the description.
        kind: "jax" or "onnx".

    Returns:
        The content of the file.

    Raises:
        UserError: for "onnx", the package onnx is missing, or an operation of the function cannot
            be translated.
    """
    (batch,) = jax.export.symbolic_shape("b")
    argument = jax.ShapeDtypeStruct((batch, *file_input.shape), file_input.dtype)
    if kind == "onnx":
        try:
            return onnx_model(function, argument, file_input.name, file_input.about)
        except NotImplementedError as error:
            raise UserError(
                f"cannot write this network as .onnx ({error}): export a .jax file instead"
            ) from None
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(argument)
    return bytes(exported.serialize())


def exported_files(
    name: str, function: Callable, file_input: FileInput, kind: str
) -> dict[str, bytes]:
    """Return the contents of an exported file and, for "jax", of the description beside it.

    Args:
        name: name of the file; the description's is NAME.json.
        function: from `people_function`.
        file_input: what it takes.
        kind: "jax" or "onnx".

    Raises:
        UserError: as `export`.
    """
    files = {name: export(function, file_input, kind)}
    if kind == "jax":  # the format has no place for it
        description = json.dumps(file_input.about, indent=1)
        files[f"{name}.json"] = f"{description}\n".encode()
    return files


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_run_flags(values)
    flags.DEFINE_string("output", None, "File to write; NAME.onnx for ONNX.", flag_values=values)
    flags.DEFINE_bool("attention", False, "Also return attention maps.", flag_values=values)
    flags.DEFINE_bool("with-body", False, "Also return joints and mesh.", flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    stopped = "interrupted: nothing was written"
    return command_line.run(__doc__, define_flags, _run, argv, stopped)


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags start with --; see --help")
    if not values.checkpoint or not values.output:
        raise UserError("--checkpoint=RUN and --output=FILE are needed; see --help")
    output = Path(values.output)
    if output.is_dir():
        raise UserError(f"--output={output} is a folder: name a file, such as {output}/model.onnx")
    with_body = values["with-body"].value
    if values.body and not with_body:
        raise UserError(f"--body={values.body} has no effect without --with-body: add it")
    if values.crop_scale is not None:
        check_crop_scale(values.crop_scale, "--crop_scale")
    config, network = load_model(values.checkpoint, values.weights, print)
    body = None
    if with_body:
        workdir, _ = split_checkpoint(values.checkpoint)
        body = body_from_data(load_run_body(workdir, config, values.body))
    function = people_function(network, body, attention=values.attention)
    kind = "onnx" if output.suffix.lower() == ".onnx" else "jax"
    file_input = _input_of(config, values)
    files = exported_files(output.name, function, file_input, kind)
    write_together(output.parent, files)
    megabytes = len(files[output.name]) / 1e6
    say(f"{output}: {megabytes:.1f} MB; takes {file_input.text}")
    if kind == "jax":
        say(f"{output}.json: how to make its input; keep both files together")
    return 0


def _input_of(config: ConfigDict, values: flags.FlagValues) -> FileInput:
    if config.model.input == "keypoints":
        if values.crop_scale is not None:
            raise UserError(
                f"--crop_scale={values.crop_scale} has no effect on a network on keypoints: leave "
                "it out"
            )
        return keypoint_input()
    if values.crop_scale is not None:
        return crop_input(config.image_size, values.crop_scale)
    return crop_input(config.image_size, crop_scale_of(config, values.checkpoint))
