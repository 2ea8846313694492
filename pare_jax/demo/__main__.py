"""A page in the browser that finds the people in a picture.

    python -m pare_jax.demo --checkpoint=runs/final

Pictures are dropped on the page or taken with the webcam. They are not kept, and nobody but this
machine can reach the page unless --host says so. Ctrl-C ends it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from pare_jax import load_predictor
from pare_jax.demo.blocks import import_gradio
from pare_jax.demo.examples import draw_examples
from pare_jax.demo.server import be_discreet, ending_tidily, is_local, listen, make_app, serve
from pare_jax.demo.session import Session
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.prediction.detection import make_detector


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_string(
        "checkpoint", None, "A run's folder, or WORKDIR/checkpoints/STEP.", flag_values=values
    )
    flags.DEFINE_enum(
        "weights", "auto", ["auto", "swa", "last"], "Which of the run's.", flag_values=values
    )
    flags.DEFINE_string(
        "detector", "hog", "Finds people: hog, whole, or an .onnx file.", flag_values=values
    )
    flags.DEFINE_float(
        "threshold", None, "Leave out detections with a lower score, 0 to 1.", flag_values=values
    )
    flags.DEFINE_string(
        "host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets others in.", flag_values=values
    )
    flags.DEFINE_integer(
        "port",
        7860,
        "Port to listen on; 0 takes a free one.",
        lower_bound=0,
        upper_bound=65535,
        flag_values=values,
    )


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    return command_line.run(__doc__, define_flags, _serve, argv)


def _serve(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    if arguments:
        raise UserError(f"{arguments[0]} is not a flag; pictures are dropped on the page")
    try:
        _run(values)
    except KeyboardInterrupt:  # how it is meant to end
        print()
    return 0


def _run(values: flags.FlagValues) -> None:
    if not values.checkpoint:
        raise UserError("--checkpoint=RUN is needed; see --help")
    be_discreet()
    import_gradio()
    with (
        ending_tidily(),
        listen(values.host, values.port) as listener,
        UploadFolder() as folder,
    ):
        detector = make_detector(values.detector, values.threshold)
        predictor = load_predictor(values.checkpoint, values.weights)
        # Compiles the network, so that the first picture is not kept waiting.
        predictor(np.zeros((64, 64, 3), np.uint8))
        session = Session(predictor, detector, folder, draw_examples())
        app = make_app(session, Path(values.detector).name)
        folder.keep_present_files()
        port = listener.getsockname()[1]
        host = f"[{values.host}]" if ":" in values.host else values.host
        print(f"the page is at http://{host}:{port}/ (ctrl-C ends it)", flush=True)
        if not is_local(values.host):
            print("note: whoever reaches this machine can use it; there is no password", flush=True)
        serve(app, listener)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
