"""Writes a small folder in the layout of the MPII Human Pose release, with any annotations."""

import cv2
import numpy as np
from scipy.io import savemat

from data_pipelines.releases.mpii import Mpii

NOTHING = np.zeros((0, 0))
WIDTH, HEIGHT = 320, 240
SCALE = 0.5
# Positions of MPII's joints, by id, on a figure of 100 px; pixels from the photograph's corner.
FIGURE = np.array(
    [
        *([140, 170], [141, 150], [145, 125], [161, 125], [165, 150], [166, 170], [153, 124]),
        *([153, 95], [153, 90], [153, 70], [125, 120], [130, 105], [140, 95]),
        *([166, 95], [176, 105], [181, 120]),
    ],
    float,
)
HEAD_BOX = {"x1": 148.0, "y1": 70.0, "x2": 163.0, "y2": 90.0}  # a diagonal of 25
LEFT = (3, 4, 5, 13, 14, 15)


def structs(*rows):
    """Return dicts with the same keys as a MATLAB struct array."""
    array = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for place, row in enumerate(rows):
        array[0, place] = tuple(row.values())
    return array


def point(joint, place=None, seen=1.0):
    """Return a joint's annotation; MATLAB's positions are half a pixel larger than ours."""
    x, y = np.asarray(FIGURE[joint] if place is None else place) + 0.5
    return {"x": x, "y": y, "id": float(joint), "is_visible": seen}


def cells(*values):
    """Return a column of MATLAB cells."""
    array = np.empty((len(values), 1), object)
    array[:, 0] = [np.asarray(value, float).reshape(1, -1) for value in values]
    return array


def person(points=None, **changes):
    """Return a person's annotation; by default all joints are visible."""
    points = [point(joint) for joint in range(16)] if points is None else points
    return {
        **HEAD_BOX,
        "annopoints": structs({"point": structs(*points)}) if points else NOTHING,
        "scale": SCALE,
        "objpos": structs({"x": 153.5, "y": 120.5}),
        **changes,
    }


def image(name, *people, rect=None, video=NOTHING):
    """Return an image's annotation."""
    people = structs(*people) if people else NOTHING
    return {
        "image": structs({"name": name}),
        "annorect": people if rect is None else rect,
        "frame_sec": NOTHING,
        "vididx": video,
    }


def photograph():
    """Draw the figure in BGR: a white disc on each left joint, a black one on the others."""
    picture = np.full((HEIGHT, WIDTH, 3), (90, 128, 110), np.uint8)
    for joint, place in enumerate(FIGURE):
        colour = (255, 255, 255) if joint in LEFT else (0, 0, 0)
        at = np.round((place - 0.5) * 16).astype(int)  # OpenCV counts from pixel centres
        cv2.circle(picture, at.tolist(), 3 * 16, colour, -1, cv2.LINE_AA, 4)
    return picture


def write_release(folder, images, is_train=None, **release):
    """Write the annotations of some images, and a photograph for each."""
    fields = {
        "annolist": structs(*images),
        "img_train": np.array([is_train or [1] * len(images)], np.uint8),
        "version": "12",
        **release,
    }
    mat = folder / "mpii_human_pose_v1_u12_2" / "mpii_human_pose_v1_u12_1.mat"
    mat.parent.mkdir(parents=True)
    savemat(mat, {"RELEASE": structs(fields)}, do_compression=True)
    (folder / "images").mkdir()
    encoded = cv2.imencode(".jpg", photograph(), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    for one in images:
        name = one["image"][0, 0]["name"]
        (folder / "images" / name).write_bytes(encoded)
    return mat


def read(folder):
    """Read a release; return its examples and skipped people."""
    dataset = Mpii(folder)
    results = [dataset.read(unit) for split in dataset.splits for unit in dataset.units(split)]
    return [e for r in results for e in r.examples], [s for r in results for s in r.skipped]
