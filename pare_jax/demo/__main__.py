"""Serve a web page that finds the people in a photograph and shows them in 3D.

    python -m pare_jax.demo --checkpoint=runs/final

Drop a photograph on the page, or take one with the webcam. Photographs are not stored. Only this
machine can open the page, unless --host allows others. Ctrl-C stops it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from pare_jax import load_predictor
from pare_jax.demo.blocks import import_gradio
from pare_jax.demo.examples import draw_examples
from pare_jax.demo.hosts import HostNames, is_local
from pare_jax.demo.server import (
    disable_telemetry,
    exiting_on_signals,
    listen,
    make_app,
    make_server,
)
from pare_jax.demo.session import Session
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.io.progress import say
from pare_jax.prediction.detection import WholePicture, default_detector, make_detector


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_run_flags(values)
    texts = {
        "detector": (
            None,
            "blazepose (default if installed), whole (one person fills it), or an .onnx file.",
        ),
        "host": ("127.0.0.1", "Address to listen on; 0.0.0.0 allows other machines."),
    }
    for name, (default, text) in texts.items():
        flags.DEFINE_string(name, default, text, flag_values=values)
    flags.DEFINE_list(
        "names",
        [],
        "Further names under which the page is served, for instance that of a proxy.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "threshold", None, "Lowest score of a detection, 0 to 1.", flag_values=values
    )
    flags.DEFINE_integer(
        "port",
        7860,
        "Port to listen on; 0: a free one.",
        lower_bound=0,
        upper_bound=65535,
        flag_values=values,
    )


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return command_line.run(__doc__, define_flags, _serve, argv)


def _serve(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    if arguments:
        raise UserError(
            f"unexpected argument {arguments[0]!r}: drop photographs on the page instead"
        )
    try:
        _run(values)
    except KeyboardInterrupt:  # the usual way to stop it
        print()
    return 0


def _run(values: flags.FlagValues) -> None:
    if not values.checkpoint:
        raise UserError("--checkpoint=RUN is needed; see --help")
    names = HostNames(values.host, values.names)
    disable_telemetry()
    with (
        exiting_on_signals(),
        UploadFolder() as folder,
        listen(values.host, values.port) as listener,
    ):
        import_gradio()  # writes into the folder
        if values.detector is None:
            values.detector, note = default_detector()
            if note:
                print(f"note: {note}", flush=True)
        detector = make_detector(values.detector, values.threshold)
        predictor = load_predictor(
            values.checkpoint,
            values.weights,
            body=values.body,
            crop_scale=values.crop_scale,
            say=say,
        )
        if predictor.warning:
            command_line.complain(predictor.warning, "warning")
        # Compiles the network, so that the first photograph does not wait for it.
        predictor(np.zeros((64, 64, 3), np.uint8))
        # The page always offers the whole photograph.
        finds_people = None if isinstance(detector, WholePicture) else detector
        session = Session(predictor, finds_people, folder, draw_examples())
        app = make_app(session, folder, names, Path(values.detector).name)
        port = listener.getsockname()[1]
        host = f"[{values.host}]" if ":" in values.host else values.host
        print(f"the page is at http://{host}:{port}/ (Ctrl-C stops it)", flush=True)
        if not is_local(values.host):
            print("note: other machines can use the page; it has no password", flush=True)
        make_server(app, folder.remove).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main(sys.argv))
