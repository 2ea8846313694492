"""Slide a patch over people and see which joints suffer.

    python -m pare_jax.sensitivity --checkpoint=runs/final --output=out photo.jpg folder/
    python -m pare_jax.sensitivity --checkpoint=runs/final --output=out \\
        --boxes=370,683,870,1394 --patch=40 --stride=8 photo.jpg
    python -m pare_jax.sensitivity --checkpoint=runs/final --output=out \\
        --data=data --dataset=synthetic/test --count=200

Of each person in photograph NAME it writes NAME_sensitivity.png (a heat map for each joint: how far
it moves when the patch is there), .npz (the maps, mm) and .webm (the patch sliding, the mesh
following); numbered, NAME_sensitivity_0.png and so on, when there are several. --boxes is as in
pare_jax.predict; without it the whole picture is one person.

Of a labelled split, DATASET/SPLIT in the folder of prepared datasets --data, it prints what a patch
over each joint adds to the error of each joint and writes it as occlusion_table.txt, .csv, .json
and .png; and the three files of heat maps, this time of errors, for the first --maps people.

What cannot be done is said when it is met, and once more at the end; the others are done.
Exit status: 0 when everything was done, 1 when some photographs or boxes were not, 2 when none was.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.io.command_line import complain
from pare_jax.io.files import write_together
from pare_jax.io.images import encode_png, read_photograph
from pare_jax.io.progress import ProgressBar
from pare_jax.prediction.box_files import Box, find_photos, output_names, read_boxes
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.predictor import Predictor, load_predictor
from pare_jax.sensitivity.maps import Sensitivity, crop_sensitivity, occlusion_sensitivity
from pare_jax.sensitivity.occlusion_errors import occlusion_table
from pare_jax.sensitivity.patches import PatchGrid, patch_grid

if TYPE_CHECKING:
    from data_pipelines.reading.storage import StoredSplit

# People of a split that are read at once; each is predicted 25 times.
_PEOPLE_AT_ONCE = 16
TABLE = "occlusion_table"


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    string, number = flags.DEFINE_string, flags.DEFINE_integer
    string("checkpoint", None, "A run's folder, or WORKDIR/checkpoints/STEP.", flag_values=values)
    string("output", None, "Folder for what is written.", flag_values=values)
    flags.DEFINE_multi_string(
        "boxes", [], "x0,y0,x1,y1 (once a person) or a JSON file.", flag_values=values
    )
    flags.DEFINE_enum(
        "weights", "auto", ["auto", "swa", "last"], "Which of the run's.", flag_values=values
    )
    number(
        "patch",
        None,
        "Side of the patch, pixels of the network's crop; if not given, as 40 is to 224.",
        flag_values=values,
    )
    number(
        "stride",
        None,
        "Between places, pixels of the network's crop; if not given, as 8 is to 224.",
        flag_values=values,
    )
    string("data", None, "Folder of prepared datasets.", flag_values=values)
    string("dataset", None, "Labelled people: DATASET/SPLIT, synthetic/test.", flag_values=values)
    number("count", None, "How many of them, evenly over the split; all.", flag_values=values)
    number("maps", 1, "Of how many of them heat maps are drawn too.", flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    stopped = "interrupted; what is done is written"
    return command_line.run(__doc__, define_flags, _run, argv, stopped)


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    _check(values, arguments)
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
        raise UserError("photographs and --boxes do not go with --dataset; run them apart")
    for name, least in (("patch", 1), ("stride", 1), ("count", 1), ("maps", 0)):
        value = values[name].value
        if value is not None and value < least:
            raise UserError(f"--{name}={value} must be at least {least}")


def _run_photos(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    photos, problems = _photos_named(arguments)
    boxes = read_boxes(values.boxes, photos)
    predictor, grid, output = _prepared(values)
    done = 0
    for photo, name in zip(photos, output_names(photos), strict=True):
        try:
            problems += _probe_photo(predictor, photo, boxes[photo], grid, output, name)
            done += 1
        except UserError as error:
            problems.append(str(error) if str(photo) in str(error) else f"{photo}: {error}")
            complain(problems[-1])
    if len(problems) > 1:  # a single one has just been said
        print(f"{done} of {len(photos)} photographs done; what was not:", file=sys.stderr)
        print(*(f"  {problem}" for problem in problems), sep="\n", file=sys.stderr)
    if not done:
        return 2
    return 1 if problems else 0


def _photos_named(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the photographs that are named, each once, and what is wrong with other names.

    Raises:
        UserError: there is not one photograph.
    """
    photos: list[Path] = []
    problems: list[str] = []
    for argument in arguments:
        try:
            photos += find_photos([argument])
        except UserError as error:
            problems.append(str(error))
    if not photos:
        for problem in problems[:-1]:
            complain(problem)
        raise UserError(problems[-1] if problems else "name at least one photograph; see --help")
    for problem in problems:
        complain(problem)
    return list(dict.fromkeys(photos)), problems


def _probe_photo(
    predictor: Predictor,
    photo: Path,
    boxes: Sequence[Box] | None,
    grid: PatchGrid,
    output: Path,
    name: str,
) -> list[str]:
    """Write the files about the people of one photograph; returns what was wrong with boxes."""
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
        raise UserError(f"{photo}: none of its boxes can be used; nothing written")
    if not given:
        print(f"{photo}: no boxes, nothing to do")
    return bad


def _run_split(values: flags.FlagValues) -> int:
    source = _open(values.data, values.dataset)
    predictor, grid, output = _prepared(values)
    count = min(values.count or len(source), len(source))
    chosen = _Chosen(source, np.linspace(0, len(source) - 1, count).round().astype(int))
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
    print(f"written: {output / TABLE}.txt, .csv, .json and .png")
    for sample in _labelled(chosen, values.maps, predictor.image_size):
        number = int(chosen.indices[int(sample["index"])])
        with ProgressBar(f"person {number}", grid.count**2 + 1, lines=False) as progress:
            found = crop_sensitivity(
                predictor, sample["image"], grid, sample["joints_3d"], advance=progress.advance
            )
        _save(found, output, f"person_{number:06}_sensitivity", f"person {number}")
    return 0


def _prepared(values: flags.FlagValues) -> tuple[Predictor, PatchGrid, Path]:
    """Make the output folder and load the network; a folder made for nothing goes again."""
    output = Path(values.output)
    was_there = output.exists()
    write_together(output, {})  # a folder that cannot be made is said before the network is loaded
    try:
        predictor = load_predictor(values.checkpoint, values.weights)
        return predictor, patch_grid(predictor.image_size, values.patch, values.stride), output
    except (UserError, KeyboardInterrupt):
        if not was_there:
            output.rmdir()
        raise


def _save(found: Sensitivity, output: Path, name: str, whose: str) -> None:
    for suffix in (".npz", ".png", ".webm"):
        found.save(output / f"{name}{suffix}")
    kind = "error" if found.baseline_errors is not None else "change"
    mean, worst = found.overall.mean(), found.overall.max()
    print(
        f"{whose}: mean {kind} {mean:.1f} mm, at the worst place {worst:.1f} mm "
        f"-> {output / name}.png, .npz and .webm"
    )


class _Chosen:
    """Some examples of a split, as the input pipeline reads them."""

    def __init__(self, source: "StoredSplit", indices: np.ndarray):
        self._source, self.indices = source, indices
        self.path, self.split = source.path, source.split

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._source[int(self.indices[index])]


def _open(root: str, name: str) -> "StoredSplit":
    # TensorFlow reads the shards; photographs do not wait for it.
    from data_pipelines.reading import storage

    dataset, _, split = name.rpartition("/")
    if not dataset:
        raise UserError(f"--dataset={name} has no split: write {name}/test")
    return storage.open_split(storage.find_dataset(root, dataset), split)


def _batches(source: _Chosen, size: int, image_size: int) -> Iterator[Mapping[str, np.ndarray]]:
    from data_pipelines.reading import input_pipeline

    return input_pipeline.eval_batches(source, batch_size=size, image_size=image_size)


def _labelled(source: _Chosen, wanted: int, image_size: int) -> Iterator[Mapping[str, np.ndarray]]:
    """The first people with 3D joints, one at a time, without a batch axis."""
    if not wanted:
        return
    found = 0
    for index, batch in enumerate(_batches(source, 1, image_size)):
        if batch["joints_3d_weight"][0] > 0:
            yield {name: value[0] for name, value in batch.items()} | {"index": np.asarray(index)}
            found += 1
            if found == wanted:
                return
