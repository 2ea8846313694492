"""Prepares a dataset for training: `python -m data_pipelines.prepare --dataset=synthetic ...`.

    python -m data_pipelines.prepare --dataset=synthetic --output=data
    python -m data_pipelines.prepare --dataset=synthetic --output=data --set image_size=256 \
        --set mesh=full --set train=100000 --set background_folder=/photos
    python -m data_pipelines.prepare --dataset=synthetic --output=data --config=configs/final.py
    python -m data_pipelines.prepare --dataset=pw3d --source=/raw/3DPW --check --output=data
    python -m data_pipelines.prepare --dataset=pw3d --source=/raw/3DPW --output=data \
        --body=/raw/SMPL_python_v.1.1.0
    python -m data_pipelines.prepare --dataset=mpii --source=/raw/MPII --output=data
    python -m data_pipelines.prepare --dataset=coco --source=/raw/COCO --output=data
    python -m data_pipelines.prepare --dataset=folder --source=my_photos --output=data

Prints the dataset's directory. A finished dataset is left unchanged; an interrupted run resumes.
"""

import argparse
import dataclasses
import importlib
import os
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipelines.preparing import preparation
from data_pipelines.reading import storage
from data_pipelines.releases.labelled_photographs import HELD_OUT
from data_pipelines.releases.release import RELEASED, RawDataset, SaysMore
from data_pipelines.synthetic.settings import SyntheticSettings, from_mapping
from pare_jax.body.gendered import find_bodies, find_body_files
from pare_jax.errors import UserError, be, counted
from pare_jax.io import command_line
from pare_jax.io.progress import say

_MAX_SKIPPED = 0.01
# Flags for the classes of some releases only, see their `flags`.
_FLAGS = ("images", "labels", "name", "held_out", "keypoint_set")
_NAME = re.compile("[a-z][a-z0-9_]*")


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{message}; see python -m data_pipelines.prepare --help")


def _path(text: str) -> Path:
    # An empty path would be the current folder.
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; is a variable of the shell not set?")
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m data_pipelines.prepare",
        description=(__doc__ or "").partition("\n\nPrints")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", required=True, choices=["synthetic", *RELEASED])
    parser.add_argument("--output", required=True, type=_path, help="folder of prepared datasets")
    parser.add_argument("--workers", type=int, help="number of processes; default: one per core")
    synthetic = parser.add_argument_group("synthetic people")
    synthetic.add_argument("--config", help="read data.synthetic from this config file")
    synthetic.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a synthetic setting",
    )
    released = parser.add_argument_group("released datasets")
    released.add_argument(
        "--source", type=_path, help="folder of the unpacked release, label file, or photographs"
    )
    released.add_argument("--images", type=_path, help="folder of the label file's photographs")
    released.add_argument(
        "--labels",
        type=_path,
        help="file of keypoints for a folder of photographs; COCO's annotations for eft",
    )
    released.add_argument("--name", help="name of the dataset; default: that of --dataset")
    released.add_argument(
        "--held-out",
        type=float,
        metavar="SHARE",
        help=f"share of the photographs in validation; default: {HELD_OUT}",
    )
    released.add_argument(
        "--keypoint-set",
        "--keypoint_set",
        help="set of the points, such as coco17, where the file does not give it",
    )
    released.add_argument(
        "--check",
        action="store_true",
        help="list what is missing or broken, check --output, and prepare nothing",
    )
    released.add_argument(
        "--body",
        action="append",
        type=_path,
        default=[],
        metavar="PATH",
        help="gendered SMPL files or their folder, for head tops and part labels of pw3d",
    )
    released.add_argument(
        "--max-skipped",
        type=float,
        metavar="SHARE",
        help=f"largest share of broken people; default: {_MAX_SKIPPED}",
    )
    released.add_argument(
        "--beam-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="read with Apache Beam and this pipeline option, for instance runner=FlinkRunner",
    )
    return parser


def read_settings(config: str | None, pairs: Sequence[str]) -> SyntheticSettings:
    """Read synthetic settings from a config file and from NAME=VALUE pairs, which take priority.

    Args:
        config: path of a config file, whose `data.synthetic` is read; None: the defaults.
        pairs: texts like "image_size=256".

    Raises:
        UserError: the file is missing, or a setting is unknown or out of range.
    """
    values: dict[str, Any] = {}
    if config is not None:
        if not Path(config).is_file():
            raise UserError(f"no config file at {config}; try configs/quickstart.py")
        try:
            values.update(runpy.run_path(config)["get_config"]().data.synthetic)
        # The file is the user's code and may raise anything.
        except Exception as error:
            raise UserError(
                f"{config} is not an experiment with data.synthetic ({type(error).__name__}); "
                "see configs/quickstart.py"
            ) from error
    types: dict[str, Any] = {
        field.name: field.type for field in dataclasses.fields(SyntheticSettings)
    }
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair}: give NAME=VALUE, for instance image_size=256")
        kind = types.get(name, str)
        try:
            values[name] = kind(text)
        except ValueError as error:
            wanted = "a whole number" if kind is int else "a number"
            raise UserError(f"--set {pair}: {name} must be {wanted}") from error
    return from_mapping(values)


def open_raw(
    release: str, source: Path, body: Sequence[str | Path] = (), **flags: Any
) -> RawDataset:
    """Open a release.

    Args:
        release: a key of `RELEASED`.
        source: the folder of the unpacked release, or a label file.
        body: files or folders of gendered bodies.
        flags: other parameters of its class.

    Raises:
        UserError: the folder is not that release, has no usable bodies, or a parameter is wrong or
            not one of that class.
    """
    module, kind = RELEASED[release]
    reader = getattr(importlib.import_module(module), kind)
    for flag in [*(["body"] if body else []), *flags]:
        if flag not in getattr(reader, "flags", ()):
            raise _not_used(flag, release)
    bodies = {"bodies": find_bodies(body)} if body else {}
    return reader(source, **bodies, **flags)


def _prepare_synthetic(flags: argparse.Namespace) -> Path:
    _refuse(flags, "source", "check", "body", "max_skipped", "beam_option", *_FLAGS)
    settings = read_settings(flags.config, flags.set)
    path = storage.synthetic_path(settings, flags.output)
    if not storage.is_prepared(path):
        from data_pipelines.synthetic.builder import prepare

        prepare(settings, flags.output, flags.workers)
    return path


def _prepare_released(flags: argparse.Namespace) -> int:
    _refuse(flags, "config", "set")
    if flags.source is None:
        raise UserError(
            f"--dataset={flags.dataset} needs --source, the folder of the release or the label file"
        )
    limit = _MAX_SKIPPED if flags.max_skipped is None else flags.max_skipped
    if not 0 <= limit <= 1:
        raise UserError(f"--max-skipped={limit}: give a share between 0 and 1")
    given = {name: value for name in _FLAGS if (value := getattr(flags, name)) is not None}
    if flags.name is not None and not _NAME.fullmatch(flags.name):
        raise UserError(f"--name={flags.name}: give small letters, digits and _, a letter first")
    dataset = open_raw(flags.dataset, flags.source, flags.body, **given)
    path = preparation.dataset_path(dataset, flags.output)
    if flags.check or not storage.is_prepared(path):
        notes = _chosen_bodies(flags.body)
        notes += dataset.notes() if isinstance(dataset, SaysMore) else []
        problems = dataset.check()
        if flags.check:
            problems += preparation.check_output(dataset, flags.output)
        for line in [*notes, *problems]:
            say(f"{flags.dataset}: {line}", sys.stderr)
        if flags.check:
            result = counted(len(problems), "problem") if problems else "no problems"
            say(f"{flags.dataset} in {flags.source}: {result}")
            return 2 if problems else 0
    print(preparation.prepare(dataset, flags.output, flags.workers, limit, flags.beam_option))
    return 0


def _chosen_bodies(paths: Sequence[Path]) -> list[str]:
    """Return a line for each gender with several files: the one that is used, and the others."""
    return [
        f"--body has {len(files)} {gender} bodies: {files[0]} is used, "
        f"{' and '.join(map(str, files[1:]))} {be(len(files) - 1)} not"
        for gender, files in (find_body_files(paths) if paths else {}).items()
        if len(files) > 1 and gender != "neutral"
    ]


def _refuse(flags: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(flags, name) not in (None, False, []):
            raise _not_used(name, flags.dataset)


def _not_used(name: str, dataset: str) -> UserError:
    return UserError(f"--{name.replace('_', '-')} is not used for --dataset={dataset}: remove it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    # Silences TensorFlow, which is imported when shards are written.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    resume = "prepare: interrupted; run the command again to resume"
    return command_line.guarded(lambda: _prepare(arguments), resume, speaker="prepare")


def _prepare(arguments: Sequence[str] | None) -> int:
    flags = _parser().parse_args(arguments)
    if flags.workers is not None and flags.workers < 1:
        raise UserError(f"--workers={flags.workers}: give 1 or more")
    if flags.dataset in RELEASED:
        return _prepare_released(flags)
    print(_prepare_synthetic(flags))
    return 0


if __name__ == "__main__":
    sys.exit(main())
