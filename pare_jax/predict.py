"""Photographs in, people out.

    python -m pare_jax.predict --checkpoint=runs/final --output=out photo.jpg folder/
    python -m pare_jax.predict --checkpoint=runs/final --output=out \\
        --boxes=430,682,875,1406 photo.jpg

A box is the tight box of one person, x0,y0,x1,y1 in pixels; give --boxes once a person, or a JSON
file with {"photo.jpg": [[x0,y0,x1,y1], ...], ...}. Without boxes the whole picture is one person.
Each photograph NAME becomes NAME.npz, NAME.json, NAME_overlay.png and NAME_attention.png (one for
each person, NAME_attention_0.png and so on, when there are several).

Exit status: 0 when every photograph and box was done, 1 when some were not, 2 when none was.
"""

import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from pare_jax.errors import UserError
from pare_jax.files import write_together
from pare_jax.images import encode_png, read_image
from pare_jax.people import Person as Person
from pare_jax.people import check_box, people_json, people_npz
from pare_jax.photos import Box, find_photos, output_names, read_boxes
from pare_jax.predictor import Predictor, check_picture, load_predictor
from pare_jax.rendering.people import attention_pictures, overlay_picture


def define_flags(values: flags.FlagValues) -> None:
    """Define --checkpoint, --output, --boxes and --weights."""
    flags.DEFINE_string(
        "checkpoint", None, "A run's folder, or WORKDIR/checkpoints/STEP.", flag_values=values
    )
    flags.DEFINE_string("output", None, "Folder for what is found.", flag_values=values)
    flags.DEFINE_multi_string(
        "boxes", [], "x0,y0,x1,y1 (once a person) or a JSON file.", flag_values=values
    )
    flags.DEFINE_enum(
        "weights", "auto", ["auto", "swa", "last"], "Which of the run's.", flag_values=values
    )
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    # Flags of this command alone: importing the module must not add to the caller's.
    values = flags.FlagValues()
    define_flags(values)
    # Only failures of the libraries concern the user; their progress does not.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        arguments = values(list(argv))[1:]
        if values.help:
            print(f"{__doc__}\n{values.get_help()}")
            return 0
        return _run(values, arguments)
    except flags.Error as error:
        return _complain(UserError(f"{' '.join(str(error).split())}; see --help"))
    except UserError as error:
        return _complain(error)


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    if not values.checkpoint or not values.output:
        raise UserError("--checkpoint=RUN and --output=FOLDER are needed; see --help")
    photos = find_photos(arguments)
    boxes = read_boxes(values.boxes, photos)
    output = Path(values.output)
    was_there = output.exists()
    write_together(output, {})  # a folder that cannot be made is said before the network is loaded
    try:
        predictor = load_predictor(values.checkpoint, values.weights)
    except UserError:
        if not was_there:
            output.rmdir()
        raise
    done, failed = 0, 0
    for photo, name in zip(photos, output_names(photos), strict=True):
        try:
            failed += predict_photo(predictor, photo, boxes[photo], output, name)
            done += 1
        except UserError as error:
            _complain(error if str(photo) in str(error) else UserError(f"{photo}: {error}"))
            failed += 1
    if not done:
        return 2
    return 1 if failed else 0


def predict_photo(
    predictor: Predictor, photo: Path, boxes: list[Box] | None, output: Path, name: str
) -> int:
    """Predict the people of one photograph and write the files about them.

    Args:
        predictor: the network.
        photo: the image file.
        boxes: of people; None: the whole picture is one.
        output: folder for the files.
        name: what their names begin with.

    Returns:
        How many boxes were bad; each got a line on stderr, the others were done.

    Raises:
        UserError: the picture cannot be read, no box is good, or the files cannot be written.
    """
    image = read_image(photo)
    check_picture(image)
    good, bad = boxes, 0
    if boxes is not None:
        good = []
        for box in boxes:
            try:
                good.append(check_box(box, *image.shape[:2]))
            except UserError as error:
                bad += 1
                _complain(UserError(f"{photo}: {error}"))
        if bad and not good:
            raise UserError(f"{photo}: none of its boxes can be used; nothing written")
    people = predictor(image, good)
    overlay = overlay_picture(image, people, predictor.faces)
    files = {
        f"{name}.npz": people_npz(people, predictor.faces, image),
        f"{name}.json": people_json(people, str(photo), image).encode(),
        f"{name}_overlay.png": encode_png(overlay),
    }
    for number, sheet in enumerate(attention_pictures(image, people, predictor.faces)):
        ending = f"_{number}" if len(people) > 1 else ""
        files[f"{name}_attention{ending}.png"] = encode_png(sheet)
    write_together(output, files)
    # Sheets of people that an earlier run found here and this one did not.
    sheets = re.compile(re.escape(name) + r"_attention(_\d+)?\.png")
    for path in output.iterdir():
        if path.name not in files and sheets.fullmatch(path.name):
            path.unlink()
    found = "1 person" if len(people) == 1 else f"{len(people)} people"
    print(f"{photo}: {found} -> {output / name}.npz, .json and {len(files) - 2} pictures")
    return bad


def _complain(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
