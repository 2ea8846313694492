"""Writes small photographs with one red square, and label files whose left wrist is in it."""

import json

import numpy as np
from PIL import Image

from pare_jax.keypoints.sets import COCO17, point_index

WIDTH, HEIGHT = 120, 80
# The middle of the red square, in pixels of the picture as it is seen.
WRIST = (90.0, 30.0)
LEFT_WRIST = point_index("left_wrist")


def picture(size=(WIDTH, HEIGHT)):
    pixels = np.full((size[1], size[0], 3), 60, np.uint8)
    x, y = map(int, WRIST)
    pixels[y - 4 : y + 4, x - 4 : x + 4] = (255, 0, 0)
    return Image.fromarray(pixels)


def write_picture(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture().save(path, **options)
    return path


def coco_points(wrist=WRIST):
    """Return COCO's 17 points: all on a line, seen, but the left wrist in the red square."""
    rows = np.column_stack([np.linspace(40, 80, 17), np.linspace(20, 60, 17), np.full(17, 2.0)])
    rows[COCO17.points.index("left_wrist"), :2] = wrist
    return rows


def annotation(number, image, **changes):
    own = {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [20, 10, 80, 60],
        "keypoints": coco_points().ravel().tolist(),
    }
    return own | changes


def coco_file(path, names, annotations, size=(WIDTH, HEIGHT)):
    """Write a COCO file; the images' ids are the places of their names, from 0."""
    images = [
        {"id": number, "file_name": name, "width": size[0], "height": size[1]}
        for number, name in enumerate(names)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def examples_of(dataset, split="train"):
    """Return the examples of a split, and what was skipped by reason."""
    results = [dataset.read(unit) for unit in dataset.units(split)]
    examples = [example for result in results for example in result.examples]
    return examples, {item.reason: item.what for result in results for item in result.skipped}


def colour_at_wrist(example):
    """Return the colour of the stored crop where the left wrist is labelled."""
    import cv2

    image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert example["points_2d_weight"][LEFT_WRIST] > 0
    x, y = example["points_2d"][LEFT_WRIST].astype(int)
    return image[y, x]


def assert_red(example):
    red, green, blue = map(int, colour_at_wrist(example))
    assert red > 180, (red, green, blue)
    assert max(green, blue) < 70, (red, green, blue)
