"""Measure how well a detector finds people in synthetic scenes or in your photographs.

    python scripts/measure_detector.py
    python scripts/measure_detector.py --detector=yolox_s.onnx --scenes=300
    python scripts/measure_detector.py --photo=street.jpg --draw=found.png
    python scripts/measure_detector.py --calibrate

A scene has one person. "whole" scenes show the person from head to foot, "cut" ones do not, and
"hidden" ones have an occluder in front. A detection is right if its IoU with the person's tight box
inside the picture is at least 0.5. --calibrate prints constants for detection/hog.py: the person's
place in HOG's windows, and the scale from margins to scores.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import minimize

from data_pipelines.synthetic.scenery import Scene, draw_scene
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.errors import UserError
from pare_jax.io.images import encode_png, read_image
from pare_jax.prediction.detection import Detector, make_detector
from pare_jax.prediction.detection.detector import box_iou
from pare_jax.prediction.detection.hog import HogDetector, tight_boxes

_GOOD_IOU = 0.5
_KINDS = {
    "whole": {"occluders": 0.0, "truncation": 0.0},
    "cut": {"occluders": 0.0, "truncation": 1.0},
    "hidden": {"occluders": 1.0, "truncation": 0.0},
}
_COMMON = {"image_size": 512, "mesh": "full", "other_people": 0.0, "seed": 5}


def scenes(kind: str, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pictures with the tight box of their person."""
    settings = SyntheticSettings(**(_COMMON | {"seed": seed} | _KINDS[kind]))
    index = found = 0
    while found < count:
        scene = draw_scene(settings, "test", index)
        index += 1
        if scene.truncated == (kind == "cut"):
            found += 1
            yield _picture_and_box(scene)


def _picture_and_box(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Crop picture and person's box to the photograph's edges."""
    size = scene.image.shape[0]
    photo = np.clip(np.rint(scene.crop.points(scene.crop.photo.reshape(2, 2))), 0, size)
    (left, top), (right, bottom) = photo.astype(int)
    points = scene.crop.points(scene.camera.project(scene.person.surface.vertices))
    low, high = np.clip([points.min(0), points.max(0)], photo[0], photo[1])
    box = np.concatenate([low, high]) - np.tile(photo[0], 2)
    return np.ascontiguousarray(scene.image[top:bottom, left:right]), box


def measure(detector: Detector, kind: str, count: int, seed: int) -> dict[str, float]:
    """Return recall, precision, mean IoU of right detections, and CPU ms per picture."""
    right, wrong, overlaps, seconds = 0, 0, [], 0.0
    for image, box in scenes(kind, count, seed):
        start = time.process_time()
        found = detector(image)
        seconds += time.process_time() - start
        iou = box_iou(box, np.array([d.box for d in found]).reshape(-1, 4))[0]
        is_right = bool(len(iou)) and iou.max() >= _GOOD_IOU
        right += is_right
        wrong += len(found) - is_right
        if is_right:
            overlaps.append(iou.max())
    return {
        "recall": right / count,
        "precision": right / max(right + wrong, 1),
        "iou": float(np.mean(overlaps)) if overlaps else float("nan"),
        "ms": 1000 * seconds / count,
    }


def calibrate(count: int, seed: int) -> None:
    """Print HOG's constants, measured on these scenes."""
    detector = HogDetector(threshold=0.02)
    shares, margins, right = [], [], []
    for image, box in scenes("whole", count, seed):
        windows, found = detector.windows(image)
        if not len(windows):
            continue
        best = int(np.argmax(found))
        window = windows[best]
        size = np.tile(window[2:] - window[:2], 2)
        if box_iou(box, tight_boxes(windows[best : best + 1]))[0, 0] >= _GOOD_IOU:
            shares.append((box - np.tile(window[:2], 2)) / size)
    print("tight box in the window:", np.round(np.median(shares, 0), 3), f"({len(shares)} people)")
    for kind in _KINDS:
        for image, box in scenes(kind, count, seed):
            for detection in detector(image):
                margins.append(np.log(detection.score / (1 - detection.score)))
                right.append(box_iou(box, detection.box)[0, 0] >= _GOOD_IOU)
    margins, right = _margins(np.array(margins)), np.array(right, float)

    def loss(values: np.ndarray) -> float:
        z = values[0] * (margins - values[1])
        return float(np.logaddexp(0, -z)[right > 0].sum() + np.logaddexp(0, z)[right == 0].sum())

    slope, middle = minimize(loss, [4.0, 0.5], method="Nelder-Mead").x
    print(f"slope {slope:.2f}, middle {middle:.2f}")
    print(f"from {len(right)} detections, {right.mean():.2f} of them right")


def _margins(log_odds: np.ndarray) -> np.ndarray:
    from pare_jax.prediction.detection import hog

    return log_odds / hog._SLOPE + hog._MIDDLE


def look_at(detector: Detector, photo: Path, draw: Path | None) -> None:
    """Print the detections in a photograph, and draw them."""
    image = read_image(photo)
    start = time.process_time()
    found = detector(image)
    print(f"{photo}: {len(found)} found in {1000 * (time.process_time() - start):.0f} CPU ms")
    for detection in found:
        x0, y0, x1, y1 = np.rint(detection.box).astype(int).tolist()
        print(f"  {x0},{y0},{x1},{y1} score {detection.score:.2f}")
        cv2.rectangle(image, (x0, y0), (x1, y1), (255, 60, 60), max(1, len(image) // 400))
    if draw:
        draw.write_bytes(encode_png(image))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detector", default="hog", help="hog, whole or an .onnx file")
    parser.add_argument("--threshold", type=float, help="least score (default: the detector's own)")
    parser.add_argument("--scenes", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--photo", type=Path, help="photograph to use instead of synthetic scenes")
    parser.add_argument("--draw", type=Path, help="picture of the detections in --photo to write")
    parser.add_argument("--calibrate", action="store_true", help="print HOG's constants")
    flags = parser.parse_args()
    try:
        if flags.calibrate:
            calibrate(flags.scenes, flags.seed)
            return 0
        detector = make_detector(flags.detector, flags.threshold)
        if flags.photo:
            look_at(detector, flags.photo, flags.draw)
            return 0
    except UserError as error:
        print(f"measure_detector: {error}", file=sys.stderr)
        return 2
    threshold = "own threshold" if flags.threshold is None else f"threshold {flags.threshold}"
    print(f"{flags.detector}, {threshold}, {flags.scenes} scenes of each kind")
    print(f"{'scenes':8} {'recall':>7} {'precision':>10} {'mean IoU':>9} {'CPU ms':>7}")
    for kind in _KINDS:
        row = measure(detector, kind, flags.scenes, flags.seed)
        print(
            f"{kind:8} {row['recall']:7.2f} {row['precision']:10.2f} {row['iou']:9.2f} "
            f"{row['ms']:7.0f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
