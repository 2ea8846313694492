"""Serve a web page that finds the people in a photograph and shows them in 3D.

    python -m pare_jax.demo
    python -m pare_jax.demo --checkpoint=runs/final

Drop a photograph on the page, or take one with the webcam. Photographs are not stored. Only this
machine can open the page, unless --host allows others. Ctrl-C stops it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from pare_jax.demo.session import DemoNetwork, Session
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.io.progress import say
from pare_jax.prediction.detection import WholePicture, default_detector, make_detector
from pare_jax.prediction.keypoint_source import KeypointSource
from pare_jax.prediction.loading import SHIPPED_NAME
from pare_jax.prediction.predictor import Predictor


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
        networks = _networks(values)
        for network in networks:
            if network.predictor.warning:
                command_line.complain(network.predictor.warning, "warning")
        # The page always offers the whole photograph.
        finds_people = None if isinstance(detector, WholePicture) else detector
        session = Session(networks, finds_people, folder, draw_examples())
        app = make_app(session, folder, names, Path(values.detector).name)
        port = listener.getsockname()[1]
        host = f"[{values.host}]" if ":" in values.host else values.host
        print(f"the page is at http://{host}:{port}/ (Ctrl-C stops it)", flush=True)
        if not is_local(values.host):
            print("note: other machines can use the page; it has no password", flush=True)
        make_server(app, folder.remove).run(sockets=[listener])


def _networks(values: flags.FlagValues) -> list[DemoNetwork]:
    """Load the run that --checkpoint names, if any, and the network of this package."""
    options: dict[str, Any] = {"weights": values.weights, "body": values.body}
    options |= {"crop_scale": values.crop_scale, "say": say}
    if not values.checkpoint:
        return [_network(SHIPPED_NAME, load_predictor(None, **options))]
    run = load_predictor(values.checkpoint, **options)
    name = Path(values.checkpoint).resolve().name
    try:
        shipped = load_predictor(None)
    except UserError as error:
        print(f"note: the page offers {name} alone: {error}", flush=True)
        return [_network(name, run)]
    return [_network(name, run, shipped.source), _network(SHIPPED_NAME, shipped)]


def _network(name: str, predictor: Predictor, source: KeypointSource | None = None) -> DemoNetwork:
    """Compile a network, so that the first photograph does not wait for it."""
    predictor.warm_up()
    source = predictor.source or source
    if source is None:
        return DemoNetwork(name, predictor)
    refined = predictor.with_refinement(source)
    refined.warm_up()
    return DemoNetwork(name, predictor, refined)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
