"""Slide a patch over people and draw how far each joint moves.

    python -m pare_jax.sensitivity --checkpoint=runs/final --output=out photo.jpg folder/
    python -m pare_jax.sensitivity --checkpoint=runs/final --output=out \\
        --boxes=370,683,870,1394 --patch=40 --stride=8 photo.jpg
    python -m pare_jax.sensitivity --checkpoint=runs/final --output=out \\
        --data=data --dataset=synthetic/test --count=200

Photographs: for each person in NAME.jpg the command writes NAME_sensitivity.png (one heat map a
joint: how far it moves with the patch at each position), .npz (the maps, mm) and .mp4 (a clip of
the patch and the mesh). Several people are numbered: NAME_sensitivity_0.png and so on. --boxes is
as in pare_jax.predict; without it the whole photograph is one person.

Labelled people: --dataset names a split, DATASET/SPLIT, in the folder --data. The command prints
the error that a patch over each joint adds to every joint. It writes this table as
occlusion_table.txt, .csv, .json and .png, and heat maps of errors for the first --maps people.

Errors are printed as they occur, and again at the end. A photograph or box that fails does not
stop the others. Exit status: 0 if all were done, 1 if some failed, 2 if all failed.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from pare_jax.errors import UserError, counted
from pare_jax.io import command_line
from pare_jax.io.command_line import complain
from pare_jax.io.files import write_together
from pare_jax.io.images import encode_png, read_photograph
from pare_jax.io.progress import ProgressBar, say
from pare_jax.prediction.box_files import Box, find_photos, read_boxes
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.loading import load_predictor
from pare_jax.prediction.output_names import output_names
from pare_jax.prediction.predictor import Predictor
from pare_jax.sensitivity.maps import Sensitivity, crop_sensitivity, occlusion_sensitivity
from pare_jax.sensitivity.occlusion_errors import occlusion_table
from pare_jax.sensitivity.patches import PatchGrid, patch_grid
from pare_jax.sensitivity.sensitivity_files import save_sensitivity
from pare_jax.training.workdir import left_as_found

if TYPE_CHECKING:
    from data_pipelines.reading.storage import StoredSplit

# People of a split read at once; each is predicted 25 times.
_PEOPLE_AT_ONCE = 16
TABLE = "occlusion_table"


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_run_flags(values)
    texts = {
        "output": "Folder to write to.",
        "data": "Folder of prepared datasets.",
        "dataset": "Labelled people: DATASET/SPLIT, for instance synthetic/test.",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_multi_string(
        "boxes",
        [],
        "Box of a person, x0,y0,x1,y1 in pixels, or a JSON file of boxes.",
        flag_values=values,
    )
    numbers = {
        "patch": (None, "Side of the patch, pixels of the network's crop; default: 40/224 of it."),
        "stride": (None, "Distance between positions, pixels of the crop; default: 8/224 of it."),
        "count": (None, "People to take, evenly over the split; default: all."),
        "maps": (1, "People of the split to draw heat maps of."),
    }
    for name, (default, text) in numbers.items():
        flags.DEFINE_integer(name, default, text, flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    stopped = "interrupted; finished outputs are kept"
    return command_line.run(__doc__, define_flags, _run, argv, stopped)


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    _check(values, arguments)
    with left_as_found(Path(values.output)):
        return _run_split(values) if values.dataset else _run_photos(values, arguments)


def _check(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    if not values.checkpoint or not values.output:
        raise UserError("--checkpoint=RUN and --output=FOLDER are needed; see --help")
    if bool(values.data) != bool(values.dataset):
        raise UserError(
            "labelled people need both --data=FOLDER and --dataset=DATASET/SPLIT "
            "(synthetic/test); see --help"
        )
    if values.dataset and (arguments or values.boxes):
        raise UserError(
            "photographs and --boxes cannot be combined with --dataset: run them separately"
        )
    for name, least in (("patch", 1), ("stride", 1), ("count", 1), ("maps", 0)):
        value = values[name].value
        if value is not None and value < least:
            raise UserError(f"--{name}={value} is too small: give at least {least}")


def _run_photos(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    photos, problems = _find_photos(arguments)
    boxes = read_boxes(values.boxes, photos)
    predictor, grid, output = _prepare(values)
    done = 0
    for photo, name in zip(photos, output_names(photos), strict=True):
        try:
            problems += _do_photo(predictor, photo, boxes[photo], grid, output, name)
            done += 1
        except UserError as error:
            problems.append(str(error) if str(photo) in str(error) else f"{photo}: {error}")
            complain(problems[-1])
    if len(problems) > 1:  # a single one was printed just before
        print(f"{done} of {counted(len(photos), 'photograph')} done; errors:", file=sys.stderr)
        for problem in problems:
            say(f"  {problem}", sys.stderr)
    if not done:
        return 2
    return 1 if problems else 0


def _find_photos(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the photographs named, each once, and the errors of names that match none.

    Raises:
        UserError: no name matches a photograph.
    """
    photos: list[Path] = []
    problems: list[str] = []
    for argument in arguments:
        try:
            photos += find_photos(
                [argument], lambda where, what: problems.append(f"{where}: {what}")
            )
        except UserError as error:
            problems.append(str(error))
    if not photos:
        for problem in problems[:-1]:
            complain(problem)
        raise UserError(problems[-1] if problems else "name at least one photograph; see --help")
    for problem in problems:
        complain(problem)
    return list(dict.fromkeys(photos)), problems


def _do_photo(
    predictor: Predictor,
    photo: Path,
    boxes: Sequence[Box] | None,
    grid: PatchGrid,
    output: Path,
    name: str,
) -> list[str]:
    """Write the files for the people of one photograph; returns the errors of their boxes."""
    photograph = read_photograph(photo)
    width, height = photograph.size
    given: Sequence[Box | None] = [None] if boxes is None else boxes
    bad: list[str] = []
    for number, box in enumerate(given):
        try:
            if box is not None:
                box = photograph.box_in_image(check_box(box, height, width)).tolist()
        except UserError as error:
            bad.append(f"{photo}: {error}")
            complain(bad[-1])
            continue
        ending = f"_{number}" if len(given) > 1 else ""
        with ProgressBar(str(photo.name), grid.count**2 + 1, lines=False) as progress:
            found = occlusion_sensitivity(
                predictor,
                photograph.image,
                box,
                grid.patch,
                grid.stride,
                advance=progress.advance,
            )
        _save(found, output, f"{name}_sensitivity{ending}", str(photo))
    if bad and len(bad) == len(given):
        raise UserError(f"{photo}: none of its boxes is valid; nothing written")
    if not given:
        say(f"{photo}: skipped, the box file has no box for it")
    return bad


def _run_split(values: flags.FlagValues) -> int:
    source = _open_split(values.data, values.dataset)
    predictor, grid, output = _prepare(values)
    count = min(values.count or len(source), len(source))
    chosen = _Subset(source, np.linspace(0, len(source) - 1, count).round().astype(int))
    batches = _batches(chosen, min(_PEOPLE_AT_ONCE, count), predictor.image_size)
    try:
        with ProgressBar(values.dataset, count, lines=False) as progress:
            table = occlusion_table(predictor, batches, grid.patch, advance=progress.advance)
    except UserError as error:
        raise UserError(f"{values.dataset}: {error}") from None
    print(table.text())
    files = {
        f"{TABLE}.txt": f"{table.text()}\n".encode(),
        f"{TABLE}.csv": table.csv().encode(),
        f"{TABLE}.json": table.json(values.dataset).encode(),
        f"{TABLE}.png": encode_png(table.picture()),
    }
    write_together(output, files)
    say(f"written: {output / TABLE}.txt, .csv, .json and .png")
    for sample in _labelled(chosen, values.maps, predictor.image_size):
        number = int(chosen.indices[int(sample["index"])])
        with ProgressBar(f"person {number}", grid.count**2 + 1, lines=False) as progress:
            found = crop_sensitivity(
                predictor, sample["image"], grid, sample["joints_3d"], advance=progress.advance
            )
        _save(found, output, f"person_{number:06}_sensitivity", f"person {number}")
    return 0


def _prepare(values: flags.FlagValues) -> tuple[Predictor, PatchGrid, Path]:
    """Make the output folder and load the network."""
    output = Path(values.output)
    write_together(output, {})  # fails early, before the network is loaded
    predictor = load_predictor(
        values.checkpoint,
        values.weights,
        body=values.body,
        crop_scale=values.crop_scale,
        say=say,
        keypoints=None,  # patches hide pixels, which networks on keypoints do not see
    )
    return predictor, patch_grid(predictor.image_size, values.patch, values.stride), output


def _save(found: Sensitivity, output: Path, name: str, title: str) -> None:
    for suffix in (".npz", ".png", ".mp4"):
        save_sensitivity(found, output / f"{name}{suffix}")
    kind = "error" if found.baseline_errors is not None else "change"
    mean, worst = found.overall.mean(), found.overall.max()
    say(
        f"{title}: mean {kind} {mean:.1f} mm, at the worst position {worst:.1f} mm "
        f"-> {output / name}.png, .npz and .mp4"
    )


class _Subset:
    """Examples of a split at the given indices; read like a `StoredSplit`."""

    def __init__(self, source: "StoredSplit", indices: np.ndarray):
        self._source, self.indices = source, indices
        self.path, self.split = source.path, source.split

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._source[int(self.indices[index])]


def _open_split(root: str, name: str) -> "StoredSplit":
    # Imports TensorFlow, which takes seconds and which photographs do not need.
    from data_pipelines.reading import storage

    dataset, _, split = name.rpartition("/")
    if not dataset:
        raise UserError(f"--dataset={name} names no split: give {name}/SPLIT")
    return storage.open_split(storage.find_dataset(root, dataset), split)


def _batches(source: _Subset, size: int, image_size: int) -> Iterator[Mapping[str, np.ndarray]]:
    from data_pipelines.reading import input_pipeline

    return input_pipeline.eval_batches(source, batch_size=size, image_size=image_size)


def _labelled(source: _Subset, wanted: int, image_size: int) -> Iterator[Mapping[str, np.ndarray]]:
    """Yield the first `wanted` people with 3D joints, without a batch axis."""
    if not wanted:
        return
    found = 0
    for index, batch in enumerate(_batches(source, 1, image_size)):
        if batch["joints_3d_weight"][0] > 0:
            yield {name: value[0] for name, value in batch.items()} | {"index": np.asarray(index)}
            found += 1
            if found == wanted:
                return
