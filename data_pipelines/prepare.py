"""Prepare a dataset for training: `python -m data_pipelines.prepare --dataset=synthetic ...`.

    python -m data_pipelines.prepare --dataset=synthetic --output=data
    python -m data_pipelines.prepare --dataset=synthetic --output=data --set image_size=256 \
        --set mesh=full --set train=100000 --set background_folder=/photos
    python -m data_pipelines.prepare --dataset=synthetic --output=data --config=configs/final.py

Prints the directory of the dataset. Doing it twice does nothing the second time.
"""

import argparse
import dataclasses
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipelines import storage
from data_pipelines.synthetic.settings import SyntheticSettings, from_mapping
from pare_jax.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{message}; see python -m data_pipelines.prepare --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m data_pipelines.prepare",
        description=(__doc__ or "").partition("\n\nPrints")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", required=True, choices=["synthetic"])
    parser.add_argument("--output", required=True, type=Path, help="where prepared datasets lie")
    parser.add_argument("--config", help="take data.synthetic from this config file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a synthetic setting"
    )
    parser.add_argument("--workers", type=int, help="processes; as many as cores if not given")
    return parser


def read_settings(config: str | None, pairs: Sequence[str]) -> SyntheticSettings:
    """Read settings from a config file's `data.synthetic` and NAME=VALUE pairs, which win.

    Args:
        config: path of a config file, or None for the defaults.
        pairs: texts like "image_size=256".

    Returns:
        The settings.

    Raises:
        UserError: the file is missing or a setting is unknown or bad.
    """
    values: dict[str, Any] = {}
    if config is not None:
        if not Path(config).is_file():
            raise UserError(f"no config file at {config}; configs/quickstart.py is one to try")
        values.update(runpy.run_path(config)["get_config"]().data.synthetic)
    types: dict[str, Any] = {
        field.name: field.type for field in dataclasses.fields(SyntheticSettings)
    }
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair}: write NAME=VALUE, for instance image_size=256")
        kind = types.get(name, str)
        try:
            values[name] = kind(text)
        except ValueError as error:
            wanted = "a whole number" if kind is int else "a number"
            raise UserError(f"--set {pair}: {name} must be {wanted}") from error
    return from_mapping(values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    try:
        flags = _parser().parse_args(arguments)
        if flags.workers is not None and flags.workers < 1:
            raise UserError(f"--workers={flags.workers}: give 1 or more")
        settings = read_settings(flags.config, flags.set)
        path = storage.synthetic_path(settings, flags.output)
        if not storage.is_prepared(path):
            # TensorFlow takes seconds to import, and talks: not before it is needed.
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
            from data_pipelines.synthetic.builder import prepare

            prepare(settings, flags.output, flags.workers)
        print(path)
    except UserError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
