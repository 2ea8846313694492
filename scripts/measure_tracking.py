"""Compare tracking and smoothing with the labels of a drawn clip.

    python scripts/draw_clip.py --output=clip.mp4
    python scripts/measure_tracking.py --truth=clip.npz
    python scripts/measure_tracking.py --truth=clip.npz --clip=clip.mp4 --detector=blazepose

With --clip a detector runs on the clip itself. Without, noise simulates a detector and a network,
--trials times: true boxes with noise, some missing, none of mostly hidden people; true rotations,
shapes and positions with noise. A real network also has lasting errors, which no filter removes.

Jitter is the error of each joint's acceleration, mean over joints and frames.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from pare_jax.body import numpy_body
from pare_jax.body.io import load_body_data
from pare_jax.errors import UserError
from pare_jax.io.media import Clip, FrameReader
from pare_jax.prediction.detection import (
    Detection,
    FollowingDetector,
    for_frames,
    make_detector,
)
from pare_jax.prediction.detection.detector import box_iou
from pare_jax.prediction.smoothing import Motion, Smoothing, smooth_motion
from pare_jax.prediction.tracking import TrackSettings, track_clip

_DETECTED = 0.6  # least visible share of a person for a high score
_FOUND = 0.25  # least visible share of a person for any detection


def simulated_detections(
    truth: dict[str, np.ndarray], rng: np.random.Generator, noise: float, missing: float
) -> list[list[Detection]]:
    """Return each frame's simulated detections; `noise` is a share of the box's height."""
    clip = []
    for boxes, seen in zip(truth["boxes"], truth["seen"], strict=True):
        found = []
        for box, share in zip(boxes, seen, strict=True):
            if share < _FOUND or rng.random() < missing:
                continue
            shaken = box + rng.normal(0, noise * (box[3] - box[1]), 4)
            found.append(Detection(shaken, 0.9 if share >= _DETECTED else 0.3))
        clip.append([found[index] for index in rng.permutation(len(found))])
    return clip


def identity_errors(
    truth: dict[str, np.ndarray], detections: list[list[Detection]]
) -> tuple[int, int, int, float]:
    """Return id switches, tracks, people, and the mean IoU of boxes filled in for hidden people."""
    frames = track_clip(detections)
    last: dict[int, int] = {}
    switches, ids, overlaps = 0, set(), []
    for boxes, tracked in zip(truth["boxes"], frames, strict=True):
        if not tracked:
            continue
        iou = box_iou(boxes, np.stack([t.box for t in tracked]))
        for person, column in zip(*linear_sum_assignment(-iou), strict=True):
            if iou[person, column] < 0.3:
                continue
            number = tracked[column].id
            switches += last.setdefault(person, number) != number
            last[person] = number
            ids.add(number)
            if not tracked[column].seen:
                overlaps.append(iou[person, column])
    filled = float(np.mean(overlaps)) if overlaps else float("nan")
    return switches, len(ids), truth["boxes"].shape[1], filled


def shaken(motion: Motion, rng: np.random.Generator, flags: argparse.Namespace) -> Motion:
    """Add independent noise to every frame's rotations, shape and translation."""
    count = motion.rotations.shape[0] * 24
    noise = Rotation.from_rotvec(rng.normal(0, np.deg2rad(flags.degrees), (count, 3)))
    translations = motion.translations * np.exp(rng.normal(0, flags.depth, (len(motion.times), 1)))
    return dataclasses.replace(
        motion,
        rotations=motion.rotations @ noise.as_matrix().reshape(-1, 24, 3, 3),
        betas=motion.betas + rng.normal(0, flags.betas, motion.betas.shape),
        translations=translations,
    )


def joints_of(motion: Motion) -> np.ndarray:
    """Return every frame's joints in the camera frame, metres."""
    joints = numpy_body.joints_of(load_body_data(), motion.betas, motion.rotations)
    return joints - joints[:, :1] + motion.translations[:, None]


def errors(motion: Motion, true: np.ndarray) -> tuple[float, float, float]:
    """Return MPJPE (mm), jitter about the root and in the camera frame (m/s^2)."""
    joints = joints_of(motion)
    about_root = joints - joints[:, :1], true - true[:, :1]
    rate = 1.0 / np.diff(motion.times).mean()

    def jitter(predicted: np.ndarray, wanted: np.ndarray) -> float:
        difference = np.diff(predicted - wanted, n=2, axis=0) * rate**2
        return float(np.linalg.norm(difference, axis=-1).mean())

    mpjpe = 1000 * np.linalg.norm(about_root[0] - about_root[1], axis=-1).mean()
    return float(mpjpe), jitter(*about_root), jitter(joints, true)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truth", type=Path, required=True, help=".npz of scripts/draw_clip.py")
    parser.add_argument("--clip", type=Path, help="clip to run a detector on")
    parser.add_argument("--detector", default="blazepose", help="blazepose or an .onnx file")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--box_noise", type=float, default=0.02, help="share of the height")
    parser.add_argument("--missing", type=float, default=0.1, help="share of detections")
    parser.add_argument("--degrees", type=float, default=6.0, help="noise of rotations, each axis")
    parser.add_argument("--betas", type=float, default=0.4, help="noise of shapes")
    parser.add_argument(
        "--depth", type=float, default=0.02, help="noise of the distance, its share"
    )
    parser.add_argument("--min_cutoff", type=float, default=Smoothing.min_cutoff)
    parser.add_argument("--beta", type=float, default=Smoothing.beta)
    flags = parser.parse_args()
    try:
        truth = dict(np.load(flags.truth))
    except (OSError, ValueError) as error:
        print(f"measure_tracking: cannot read {flags.truth}: {error}", file=sys.stderr)
        return 2
    if flags.clip:
        try:
            print_detector(truth, flags)
        except UserError as error:
            print(f"measure_tracking: {error}", file=sys.stderr)
            return 2
        return 0
    found = []
    for trial in range(flags.trials):
        rng = np.random.default_rng(trial)
        detections = simulated_detections(truth, rng, flags.box_noise, flags.missing)
        found.append(identity_errors(truth, detections))
    switches, tracks, people, _ = np.sum(found, axis=0)
    hidden = (truth["seen"] < _FOUND).sum(0)
    print(f"{flags.trials} trials; people are hidden in {hidden.tolist()} frames each")
    print(
        f"id switches {switches:.0f}, tracks {tracks:.0f} for {people:.0f} people, IoU of boxes "
        f"filled in {np.nanmean([f[3] for f in found]):.2f}"
    )
    print_smoothing(truth, flags)
    return 0


def print_detector(truth: dict[str, np.ndarray], flags: argparse.Namespace) -> None:
    """Print the results of a detector and the tracker on the clip."""
    detector = make_detector(flags.detector)
    if not isinstance(detector, FollowingDetector):
        # The tracker needs detections of low scores too.
        detector = make_detector(flags.detector, TrackSettings.low_score)
    find = for_frames(detector)
    with FrameReader(Clip(flags.clip)) as reader:
        detections = [find(frame.image) for frame in reader]
    right = sum(
        int((box_iou(boxes[seen >= _DETECTED], _boxes(found)).max(-1, initial=0.0) >= 0.5).sum())
        for boxes, seen, found in zip(truth["boxes"], truth["seen"], detections, strict=True)
    )
    visible = int((truth["seen"] >= _DETECTED).sum())
    given = sum(map(len, detections))
    switches, tracks, people, filled = identity_errors(truth, detections)
    everyone = {t.id for frame in track_clip(detections) for t in frame}
    print(f"{flags.detector} finds {right} of {visible} visible people, in {given} boxes")
    print(
        f"id switches {switches}, tracks on people {tracks} for {people} people, others "
        f"{len(everyone) - tracks}, IoU of boxes filled in {filled:.2f}"
    )


def _boxes(found: list[Detection]) -> np.ndarray:
    return np.array([detection.box for detection in found]).reshape(-1, 4)


def print_smoothing(truth: dict[str, np.ndarray], flags: argparse.Namespace) -> None:
    """Print errors without smoothing and with each kind of it."""
    nothing = Smoothing(False, False, False, flags.min_cutoff, flags.beta)
    ways = {
        "as predicted": nothing,
        "rotations": dataclasses.replace(nothing, rotations=True),
        "shape": dataclasses.replace(nothing, shape=True),
        "camera": dataclasses.replace(nothing, camera=True),
        "all": dataclasses.replace(nothing, rotations=True, shape=True, camera=True),
    }
    sums = {name: np.zeros(3) for name in ways}
    count = truth["rotations"].shape[0]
    for trial in range(flags.trials):
        rng = np.random.default_rng(trial)
        for person in range(truth["rotations"].shape[1]):
            motion = Motion(
                times=np.arange(count) / float(truth["frame_rate"]),
                rotations=truth["rotations"][:, person].astype(np.float64),
                betas=truth["betas"][:, person].astype(np.float64),
                translations=truth["translations"][:, person].astype(np.float64),
                focal_lengths=np.full(count, float(truth["focal_length"])),
                principal_points=np.tile(truth["principal_point"], (count, 1)),
                scores=np.ones(count),
            )
            true, noisy = joints_of(motion), shaken(motion, rng, flags)
            for name, smoothing in ways.items():
                sums[name] += errors(smooth_motion(noisy, smoothing), true)
    print(f"{'smoothed':14} {'MPJPE mm':>9} {'jitter m/s2':>12} {'in the camera frame':>20}")
    for name, total in sums.items():
        mpjpe, jitter, camera_jitter = total / (flags.trials * truth["rotations"].shape[1])
        print(f"{name:14} {mpjpe:9.1f} {jitter:12.2f} {camera_jitter:20.2f}")


if __name__ == "__main__":
    sys.exit(main())
