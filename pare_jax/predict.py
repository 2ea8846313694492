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

import functools
import logging
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import nnx

from pare_jax import geometry
from pare_jax.body.io import load_body_data
from pare_jax.body.model import BodyModel, body_from_data
from pare_jax.checkpoints import load_model, split_checkpoint
from pare_jax.errors import UserError
from pare_jax.files import write_together
from pare_jax.images import Picture, cut_crop, encode_png, read_image
from pare_jax.models.folding import fold
from pare_jax.people import (
    Person,
    check_box,
    crop_of_box,
    people_json,
    people_npz,
)
from pare_jax.photos import Box, find_photos, output_names, read_boxes
from pare_jax.rendering.people import attention_pictures, overlay_picture
from pare_jax.train_step import predict_step
from pare_jax.workdir import check_same_body

# People computed at once; a picture with fewer is padded to a power of two, so that few programs
# are compiled.
MAX_BATCH = 16
# Below this a picture cannot show a person.
MIN_PICTURE_SIDE = 16


class Predictor:
    """A trained network with its body: pictures in, `Person`s out.

    Attributes:
        body: the body model the predictions are posed on.
        image_size: side of the network's input, pixels.
        network: maps normalised crops to a `Prediction`; for inference alone.
    """

    def __init__(self, module: nnx.Module, body: BodyModel, image_size: int):
        """Take a network; its batch normalisations are folded into its convolutions.

        Args:
            module: maps normalised crops to a `Prediction`.
            body: the body it was trained with.
            image_size: the side of its crops in pixels.
        """
        self.body = body
        self.image_size = image_size
        self.network = fold(module)
        self._graphdef, self._params, self._batch_stats = nnx.split(self.network, nnx.Param, ...)

    @functools.cached_property
    def faces(self) -> np.ndarray:
        """The triangles of the body's mesh, (F, 3)."""
        return np.asarray(self.body.faces)

    def __call__(self, image: Picture, boxes: Iterable[Box] | None = None) -> list[Person]:
        """Predict the people in one picture.

        Args:
            image: RGB, (height, width, 3) uint8, as `pare_jax.images.read_image` gives it.
            boxes: tight boxes of people, (N, 4): x0, y0, x1, y1 in pixels. None: the whole picture
                is one person.

        Returns:
            One person a box, in order.

        Raises:
            UserError: not such a picture, a bad box, or a network that answers with NaN.
        """
        image = np.asarray(image)
        check_picture(image)
        height, width = image.shape[:2]
        boxes = [(0.0, 0.0, width, height)] if boxes is None else list(boxes)
        checked = [check_box(box, height, width) for box in boxes]
        people = []
        for start in range(0, len(checked), MAX_BATCH):
            people += self._people(image, checked[start : start + MAX_BATCH])
        return people

    def _people(self, image: Picture, boxes: list[np.ndarray]) -> list[Person]:
        crops = [crop_of_box(box) for box in boxes]
        padded = 1 << (len(boxes) - 1).bit_length()
        inputs = np.zeros((padded, self.image_size, self.image_size, 3), np.uint8)
        for row, (centre, side) in zip(inputs, crops, strict=False):
            row[:] = cut_crop(image, centre, side, self.image_size)
        answers = _answer(
            self._params, self._batch_stats, self.body, inputs, graphdef=self._graphdef
        )
        answers = {name: np.asarray(value) for name, value in answers.items() if value is not None}
        return [
            _person(
                {name: value[index] for name, value in answers.items()},
                boxes[index],
                *crop,
                self.faces,
            )
            for index, crop in enumerate(crops)
        ]


def load_predictor(checkpoint_or_workdir: str | Path, weights: str = "auto") -> Predictor:
    """Load a trained network and its body.

    Args:
        checkpoint_or_workdir: a run's folder, or one checkpoint's folder within it.
        weights: "swa", "last", or "auto" for what the run's evaluation uses.

    Returns:
        The predictor; its first call compiles the network.

    Raises:
        UserError: no such run, a damaged checkpoint, one of another architecture, no body, or
            not the one it was trained with.
    """
    config, module = load_model(checkpoint_or_workdir, weights)
    body = load_body_data(config.body_model or None)
    check_same_body(split_checkpoint(checkpoint_or_workdir)[0], body)
    return Predictor(module, body_from_data(body), config.image_size)


@functools.partial(jax.jit, static_argnames="graphdef")
def _answer(
    params: nnx.State,
    batch_stats: nnx.State,
    body: BodyModel,
    images: jax.Array,
    *,
    graphdef: nnx.GraphDef,
) -> dict[str, jax.Array | None]:
    prediction = predict_step(params, batch_stats, images, graphdef=graphdef)
    translation = geometry.camera_translation(prediction.camera)
    posed = body(prediction.betas, prediction.rotations, translation)
    pose = geometry.matrix_to_axis_angle(prediction.rotations)
    return {
        "betas": prediction.betas,
        "rotations": prediction.rotations,
        "pose": pose.reshape(len(images), -1),
        "camera_crop": prediction.camera,
        "translation": translation,
        "joints_3d": posed.joints,
        "vertices": posed.vertices,
        "attention": prediction.attention,
    }


def _person(
    answer: Mapping[str, Any],
    box: np.ndarray,
    centre: np.ndarray,
    side: float,
    faces: np.ndarray,
) -> Person:
    for name, value in answer.items():
        if not np.isfinite(value).all():
            raise UserError(
                f"the network's {name} are not finite: the checkpoint is of a run that diverged; "
                "choose an earlier one, WORKDIR/checkpoints/STEP"
            )
    # The crop's camera, in the photograph's pixels: nothing moves but the unit of length.
    focal_length = float(geometry.full_frame_focal_length(side))
    joints = answer["joints_3d"].astype(np.float64)
    joints_2d = focal_length * joints[:, :2] / joints[:, 2:] + centre
    return Person(
        **answer,
        focal_length=focal_length,
        principal_point=centre,
        joints_2d=joints_2d,
        box=box,
        crop_centre=centre,
        crop_side=side,
        faces=faces,
    )


def check_picture(image: np.ndarray) -> None:
    """Raise UserError unless this is an RGB uint8 picture large enough to show a person."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"expected a picture of shape (height, width, 3) and type uint8, not {image.shape} "
            f"{image.dtype}; pare_jax.images.read_image makes one of any file"
        )
    height, width = image.shape[:2]
    if min(height, width) < MIN_PICTURE_SIDE:
        raise UserError(
            f"the picture is {width} x {height} pixels: too small to show a person "
            f"(at least {MIN_PICTURE_SIDE} are needed)"
        )


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
