"""Which photographs, and which boxes in them, a command line names."""

import json
from collections.abc import Sequence
from pathlib import Path

from pare_jax.errors import UserError
from pare_jax.images import IMAGE_SUFFIXES

# x0, y0, x1, y1 in pixels; checked by `pare_jax.people.check_box` once the picture's size is known.
Box = Sequence[float]


def find_photos(arguments: Sequence[str]) -> list[Path]:
    """Return the image files named, and those directly in the folders named, in order.

    Raises:
        UserError: nothing is named, or a folder holds no image or cannot be read.
    """
    photos = []
    for path in map(Path, arguments):
        if not path.is_dir():
            photos.append(path)
            continue
        try:
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        except OSError as error:
            raise UserError(f"cannot look into {path}: {error.strerror or error}") from None
        if not inside:
            raise UserError(f"no image in the folder {path} ({', '.join(IMAGE_SUFFIXES)})")
        photos += inside
    if not photos:
        raise UserError("name at least one photograph or a folder of them; see --help")
    return list(dict.fromkeys(photos))


def read_boxes(values: Sequence[str], photos: Sequence[Path]) -> dict[Path, list[Box] | None]:
    """Say which boxes belong to which photograph.

    Args:
        values: of --boxes: each "x0,y0,x1,y1", or one path of a JSON file.
        photos: all photographs.

    Returns:
        Boxes of every photograph; None: the whole picture. Their numbers are not checked here.

    Raises:
        UserError: unreadable values, boxes that could belong to several photographs, or a file
            that leaves a photograph out.
    """
    if not values:
        return dict.fromkeys(photos)
    if len(values) == 1 and ("," not in values[0] or Path(values[0]).is_file()):
        return _boxes_of_file(Path(values[0]), photos)
    boxes = []
    for value in values:
        try:
            boxes.append([float(number) for number in value.split(",")])
        except ValueError:
            raise UserError(f"--boxes={value} is neither x0,y0,x1,y1 nor a JSON file") from None
    return _for_single(boxes, photos, "--boxes=x0,y0,x1,y1")


def _boxes_of_file(path: Path, photos: Sequence[Path]) -> dict[Path, list[Box] | None]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"--boxes={path} is neither x0,y0,x1,y1 nor a file that exists") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read boxes from {path}: {error}") from None
    if isinstance(content, list):
        return _for_single(content, photos, f"a plain list of boxes ({path})")
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise UserError(f'{path} must hold {{"photo.jpg": [[x0,y0,x1,y1], ...], ...}} or a list')
    boxes = {}
    for photo in photos:
        key = str(photo) if str(photo) in content else photo.name
        if key not in content:
            raise UserError(f"{path} has no boxes for {photo}; use [] where there is nobody")
        boxes[photo] = content[key]
    return boxes


def _for_single(
    boxes: list[Box], photos: Sequence[Path], what: str
) -> dict[Path, list[Box] | None]:
    if len(photos) != 1:
        raise UserError(
            f"{what} fits one photograph, but there are {len(photos)}: give a JSON file that names "
            "each photograph's boxes"
        )
    return {photos[0]: boxes}


def output_names(photos: Sequence[Path]) -> list[str]:
    """Return a name for each photograph's files: its stem, made unique where stems meet."""
    names: list[str] = []
    for photo in photos:
        name, number = photo.stem, 2
        while name in names:
            name = f"{photo.stem}_{number}"
            number += 1
        names.append(name)
    return names
