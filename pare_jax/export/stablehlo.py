"""A trained network as one file that needs nothing of this package.

    python -m pare_jax.export --checkpoint=runs/final --output=final.jax
    python -m pare_jax.export --checkpoint=runs/final --output=final.onnx --with-body

Any name but one that ends in .onnx gets a program for JAX (StableHLO, for CPU, CUDA and TPU). Both
take crops, (batch, side, side, 3) uint8 RGB, of any number of people, and return arrays by name;
see docs/export.md. Folders of --output that are missing are made.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
from absl import flags
from flax import nnx
from jaxtyping import Array, UInt8

from pare_jax import geometry
from pare_jax.body.model import BodyModel, load_body_model
from pare_jax.errors import UserError
from pare_jax.export.onnx_graph import onnx_model
from pare_jax.io import command_line
from pare_jax.io.files import write_together
from pare_jax.models.folding import FoldedUpsamplingBlock, fold
from pare_jax.models.inference import normalise
from pare_jax.models.layers import Conv
from pare_jax.training.checkpoints import load_model

PLATFORMS = ("cpu", "cuda", "tpu")
INPUT = "images"


def crops_to_people(
    network: nnx.Module, body: BodyModel | None = None, *, attention: bool = False
) -> Callable[[UInt8[Array, "b s s 3"]], dict[str, Array]]:
    """Return the function that is exported, in float32 throughout.

    Args:
        network: maps normalised crops to a `Prediction`.
        body: adds "joints" and "vertices", metres in the crop's camera frame, and "faces".
        attention: adds "attention", where the network has it.
    """
    network = fold(network)
    for _, module in nnx.iter_modules(network):
        if isinstance(module, Conv | FoldedUpsamplingBlock):
            module.dtype = jnp.float32
    graphdef, state = nnx.split(network)

    def function(images: UInt8[Array, "b s s 3"]) -> dict[str, Array]:
        prediction = nnx.merge(graphdef, state)(normalise(images))
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


def export(function: Callable, image_size: int, kind: str) -> bytes:
    """Serialize a function of crops, for any size of the batch.

    Args:
        function: from `crops_to_people`.
        image_size: side of the crops in pixels.
        kind: "jax" or "onnx".

    Returns:
        What belongs into the file.

    Raises:
        UserError: the package onnx is needed and missing, or has no place for something that the
            function does.
    """
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, image_size, image_size, 3), jnp.uint8)
    if kind == "onnx":
        try:
            return onnx_model(function, images, INPUT)
        except NotImplementedError as error:
            raise UserError(
                f"this network cannot be written as .onnx ({error}); export a .jax file instead"
            ) from None
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(images)
    return bytes(exported.serialize())


def define_flags(values: flags.FlagValues) -> None:
    """Define --checkpoint, --output, --weights, --attention and --with-body."""
    flags.DEFINE_string(
        "checkpoint", None, "A run's folder, or WORKDIR/checkpoints/STEP.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "The file to write; NAME.onnx for ONNX.", flag_values=values
    )
    flags.DEFINE_enum(
        "weights", "auto", ["auto", "swa", "last"], "Which of the run's.", flag_values=values
    )
    flags.DEFINE_bool("attention", False, "Also return each joint's map.", flag_values=values)
    flags.DEFINE_bool("with-body", False, "Also return joints and mesh.", flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    stopped = "interrupted: nothing is written"
    return command_line.run(__doc__, define_flags, _run, argv, stopped)


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    if arguments:
        raise UserError(f"{arguments[0]} is not an option; see --help")
    if not values.checkpoint or not values.output:
        raise UserError("--checkpoint=RUN and --output=FILE are needed; see --help")
    output = Path(values.output)
    if output.is_dir():
        raise UserError(f"--output={output} is a folder; name a file, such as {output}/model.onnx")
    config, network = load_model(values.checkpoint, values.weights)
    body = load_body_model(config.body_model or None) if values["with-body"].value else None
    function = crops_to_people(network, body, attention=values.attention)
    kind = "onnx" if output.suffix.lower() == ".onnx" else "jax"
    content = export(function, config.image_size, kind)
    write_together(output.parent, {output.name: content})
    side = config.image_size
    print(f"{output}: {len(content) / 1e6:.1f} MB; takes (batch, {side}, {side}, 3) uint8 RGB")
    return 0
