"""Measure how well a detector finds people in your photographs or in synthetic scenes.

    python scripts/measure_detector.py --boxes=boxes.json photos/
    python scripts/measure_detector.py --detector=yolox_s.onnx --boxes=boxes.json photos/
    python scripts/measure_detector.py --scenes=100
    python scripts/measure_detector.py --draw=found.png street.jpg

--boxes has the true boxes, in any form that predict reads. Without it the detections are listed.
Without photographs scenes of one person are drawn: "whole" scenes show the person from head to
foot, "cut" ones do not, and "hidden" ones have an occluder in front. A detection is right if its
IoU with the box of a person inside the picture is at least 0.5; a person is found once. All others
are false. Milliseconds are CPU time, the median over pictures.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.synthetic.scenery import Scene, draw_scene
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.errors import UserError
from pare_jax.io.images import Picture, encode_png, read_image
from pare_jax.prediction.box_files import find_photos, read_boxes
from pare_jax.prediction.detection import Detection, Detector, make_detector
from pare_jax.prediction.detection.detector import box_iou

_GOOD_IOU = 0.5
_KINDS = {
    "whole": {"occluders": 0.0, "truncation": 0.0},
    "cut": {"occluders": 0.0, "truncation": 1.0},
    "hidden": {"occluders": 1.0, "truncation": 0.0},
}
_COMMON = {"image_size": 512, "mesh": "full", "other_people": 0.0, "seed": 5}

# A picture with the boxes of its people (n, 4).
Labelled = tuple[Picture, np.ndarray]


def scenes(kind: str, count: int, seed: int) -> Iterator[Labelled]:
    """Yield synthetic pictures of one person."""
    settings = SyntheticSettings(**(_COMMON | {"seed": seed} | _KINDS[kind]))
    index = found = 0
    while found < count:
        scene = draw_scene(settings, "test", index)
        index += 1
        if scene.truncated == (kind == "cut"):
            found += 1
            yield _picture_and_box(scene)


def _picture_and_box(scene: Scene) -> Labelled:
    """Crop picture and person's box to the photograph's edges."""
    size = scene.image.shape[0]
    photo = np.clip(np.rint(scene.crop.points(scene.crop.photo.reshape(2, 2))), 0, size)
    (left, top), (right, bottom) = photo.astype(int)
    points = scene.crop.points(scene.camera.project(scene.person.surface.vertices))
    low, high = np.clip([points.min(0), points.max(0)], photo[0], photo[1])
    box = np.concatenate([low, high]) - np.tile(photo[0], 2)
    return np.ascontiguousarray(scene.image[top:bottom, left:right]), box[None]


def photographs(paths: Sequence[Path], boxes: str) -> Iterator[Labelled]:
    """Yield photographs; boxes are clipped to their edges."""
    true = read_boxes([boxes], paths)
    for path in paths:
        image = read_image(path)
        height, width = image.shape[:2]
        own = np.array(true[path] or [], float).reshape(-1, 4)
        yield image, np.clip(own, 0, [width, height, width, height])


def match(true: np.ndarray, found: Sequence[Detection]) -> np.ndarray:
    """Return the IoU of each person's detection; 0 for people who are not found."""
    overlaps = np.zeros(len(true))
    for detection in sorted(found, key=lambda one: -one.score):
        left = np.where(overlaps == 0, box_iou(true, detection.box[None])[:, 0], 0.0)
        if len(left) and left.max() >= _GOOD_IOU:
            overlaps[left.argmax()] = left.max()
    return overlaps


def measure(detector: Detector, pictures: Iterable[Labelled]) -> str:
    """Return recall, false boxes a picture, mean IoU of right ones, and milliseconds."""
    people, false, overlaps, seconds = 0, [], [], []
    for image, true in pictures:
        start = time.process_time()
        found = detector(image)
        seconds.append(time.process_time() - start)
        iou = match(true, found)
        people += len(true)
        overlaps.extend(iou[iou > 0])
        false.append(len(found) - np.count_nonzero(iou))
    recall = len(overlaps) / max(people, 1)
    mean = np.mean(overlaps) if overlaps else np.nan
    return f"{recall:7.2f} {np.mean(false):6.2f} {mean:9.2f} {1000 * np.median(seconds):5.0f}"


def look_at(detector: Detector, path: Path, draw: Path | None) -> None:
    """Print the detections in a photograph, and draw them."""
    image = read_image(path)
    found = detector(image)
    print(f"{path}: {len(found)} found")
    for detection in found:
        x0, y0, x1, y1 = np.rint(detection.box).astype(int).tolist()
        print(f"  {x0},{y0},{x1},{y1} score {detection.score:.2f}")
        cv2.rectangle(image, (x0, y0), (x1, y1), (255, 60, 60), max(1, len(image) // 400))
        if detection.keypoints is not None:
            for x, y in np.rint(detection.keypoints.points).astype(int).tolist():
                cv2.circle(image, (x, y), max(2, len(image) // 300), (255, 220, 0), -1)
    if draw:
        draw.write_bytes(encode_png(image))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="*", help="photographs, or folders of them")
    parser.add_argument("--boxes", help="file of the true boxes")
    parser.add_argument("--detector", default="blazepose", help="blazepose or an .onnx file")
    parser.add_argument("--threshold", type=float, help="least score (default: the detector's own)")
    parser.add_argument("--scenes", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--draw", type=Path, help="picture of the detections in a photograph")
    flags = parser.parse_args()
    try:
        detector = make_detector(flags.detector, flags.threshold)
        photos = find_photos(flags.photos) if flags.photos else []
        if photos and not flags.boxes:
            for path in photos:
                look_at(detector, path, flags.draw)
            return 0
        detector(np.zeros((64, 64, 3), np.uint8))
        print(f"{'':11} {'recall':>7} {'false':>6} {'mean IoU':>9} {'ms':>5}")
        if photos:
            print(f"photographs {measure(detector, photographs(photos, flags.boxes))}")
            return 0
        for kind in _KINDS:
            row = measure(detector, scenes(kind, flags.scenes, flags.seed))
            print(f"{kind:11} {row}", flush=True)
    except UserError as error:
        print(f"measure_detector: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
