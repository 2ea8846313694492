"""Compare predictions for a drawn clip with the clip's labels.

    python scripts/draw_clip.py --output=clip.mp4
    python scripts/measure_clip.py --truth=clip.npz --boxes=boxes.json   # writes the boxes
    python -m pare_jax.predict --checkpoint=RUN --output=out --boxes=boxes.json clip.mp4
    python scripts/measure_clip.py --truth=clip.npz out [another_run ...]

The boxes simulate a detector, as in scripts/measure_tracking.py: true boxes with noise of 2 % of
the height. A tenth is missing, and so are boxes of mostly hidden people. Jitter is the error of
each joint's acceleration, mean over joints and frames.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from measure_tracking import simulated_detections  # beside this script
from scipy.optimize import linear_sum_assignment

from pare_jax.errors import UserError
from pare_jax.io.files import write_atomically
from pare_jax.prediction.detection.detector import box_iou
from pare_jax.prediction.person import Person, read_people
from pare_jax.prediction.scene import scene_translation

_MATCHED = 0.3  # least IoU of a track's box with the true one


def read_tracks(folder: Path, name: str) -> dict[int, dict[int, Person]]:
    """Return the people of a clip by id and frame."""
    tracks = {}
    for path in sorted(folder.glob(f"{name}_track_*.npz")):
        people = read_people(path).people
        tracks[int(path.stem.rsplit("_", 1)[1])] = {person.frame or 0: person for person in people}
    if not tracks:
        raise UserError(f"{folder} has no {name}_track_ID.npz; predict the clip into it first")
    return tracks


def match_tracks(
    tracks: dict[int, dict[int, Person]], truth: dict[str, np.ndarray]
) -> tuple[dict[int, dict[int, int]], int]:
    """Return each true person's track in each frame, and the number of id switches."""
    found: dict[int, dict[int, int]] = {p: {} for p in range(truth["boxes"].shape[1])}
    switches, last = 0, {}
    for frame, boxes in enumerate(truth["boxes"]):
        present = [number for number, people in tracks.items() if frame in people]
        if not present:
            continue
        iou = box_iou(boxes, np.stack([tracks[number][frame].box for number in present]))
        for person, column in zip(*linear_sum_assignment(-iou), strict=True):
            if iou[person, column] >= _MATCHED:
                number = present[column]
                switches += last.setdefault(person, number) != number
                last[person] = found[int(person)][frame] = number
    return found, switches


def errors(
    people: list[Person], frames: np.ndarray, person: int, truth: dict[str, np.ndarray]
) -> tuple[float, float, float]:
    """Return MPJPE (mm), jitter about the root and in the camera frame (m/s^2)."""
    focal = float(truth["focal_length"])
    size = tuple((2 * truth["principal_point"]).astype(int))
    joints = np.stack([p.joints_3d for p in people]).astype(np.float64)
    true = truth["joints_3d"][frames, person].astype(np.float64)
    about_root = joints - joints[:, :1] - (true - true[:, :1])
    placed = [p.joints_3d - p.translation + scene_translation(p, size, focal) for p in people]
    rate = float(truth["frame_rate"])
    successive = np.diff(frames, n=2) == 0
    successive &= np.diff(frames)[1:] == 1

    def jitter(error: np.ndarray) -> float:
        change = np.diff(error, n=2, axis=0)[successive] * rate**2
        return float(np.linalg.norm(change, axis=-1).mean())

    mpjpe = 1000 * np.linalg.norm(about_root, axis=-1).mean()
    return float(mpjpe), jitter(about_root), jitter(np.stack(placed) - true)


def measure(folder: Path, name: str, truth: dict[str, np.ndarray]) -> str:
    """Return one run's row of the table."""
    tracks = read_tracks(folder, name)
    matches, switches = match_tracks(tracks, truth)
    sums, num_matched = [], 0
    for person, by_frame in matches.items():
        frames = np.array(sorted(by_frame))
        num_matched += len(frames)
        if len(frames) > 2:
            people = [tracks[by_frame[frame]][frame] for frame in frames]
            sums.append(errors(people, frames, person, truth))
    mpjpe, jitter, camera_jitter = np.mean(sums, axis=0)
    return (
        f"| {folder.name} | {switches} | {len(tracks)} | {num_matched} of "
        f"{truth['boxes'].shape[0] * truth['boxes'].shape[1]} | {mpjpe:.1f} | {jitter:.1f} "
        f"| {camera_jitter:.1f} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truth", type=Path, required=True, help=".npz of scripts/draw_clip.py")
    parser.add_argument("--boxes", type=Path, help="JSON file to write simulated boxes to")
    parser.add_argument("runs", type=Path, nargs="*", help="folders the clip was predicted into")
    arguments = parser.parse_args()
    try:
        truth = dict(np.load(arguments.truth))
        if arguments.boxes:
            clip = simulated_detections(truth, np.random.default_rng(0), noise=0.02, missing=0.1)
            boxes = [[[float(x) for x in d.box] for d in found] for found in clip]
            content = json.dumps({arguments.truth.stem: boxes}).encode()
            write_atomically(arguments.boxes, content)
            count = sum(map(len, boxes))
            print(f"wrote {count} boxes in {len(boxes)} frames to {arguments.boxes}")
        elif not arguments.runs:
            raise UserError("give folders that the clip was predicted into, or --boxes=FILE")
        if arguments.runs:
            print("| run | id switches | tracks | frames | MPJPE, mm | jitter | in the camera |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
        for run in arguments.runs:
            print(measure(run, arguments.truth.stem, truth), flush=True)
    except (UserError, OSError, ValueError) as error:
        print(f"measure_clip: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
