"""Memory that a long clip takes: of all its people only numbers are held at once."""

import json
import tracemalloc

import numpy as np
import pytest

from pare_jax.prediction.person import read_people
from pare_jax.prediction.run.track_files import TrackFiles
from tests.prediction.predict_fakes import box_about
from tests.prediction.run.folders import make_run

FRAMES = 1200


@pytest.fixture
def rows():
    """Return one person in many frames, walking to the right, without scores."""
    frames = np.arange(FRAMES)
    boxes = np.stack([box_about(60 + n / 10, 150) for n in frames])
    upright = np.broadcast_to(np.eye(3), (FRAMES, 24, 3, 3)).copy()
    upright[:, 0] = np.diag([1, -1, -1])
    return {
        "frame": frames.astype(np.int32),
        "time": frames / 25.0,
        "id": np.full(FRAMES, 4, np.int32),
        "score": np.full(FRAMES, np.nan, np.float32),
        "box": boxes.astype(np.float32),
        "crop_centre": (0.5 * (boxes[:, :2] + boxes[:, 2:])).astype(np.float32),
        "crop_side": np.full(FRAMES, 1.2 * np.ptp(boxes[0, 1::2]), np.float32),
        "betas": np.zeros((FRAMES, 10), np.float32),
        "rotations": upright.astype(np.float32),
        "translation": np.tile(np.array([0.0, 0.1, 40.0], np.float32), (FRAMES, 1)),
        "keypoints": np.array([{} for _ in frames]),
        "seen": np.full(FRAMES, None),
    }


def test_memory_holds_neither_all_people_nor_their_descriptions(predictor, rows, tmp_path):
    run = make_run(predictor, tmp_path / "out", "json", "npz", "glb")
    path = run.folder.path / "clip_track_4"
    short, long = (
        TrackFiles(run, path, rows, np.arange(frames), (400, 300), 25.0) for frames in (8, FRAMES)
    )
    short.write_numbers("clip.mp4")  # compiles
    tracemalloc.start()
    long.write_numbers("clip.mp4")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    described = path.with_suffix(".json")
    assert peak < 15_000 * FRAMES  # a description alone takes several times as much at its peak
    people = json.loads(described.read_text())["people"]
    found = read_people(path.with_suffix(".npz"))
    assert [person["frame"] for person in people] == [p.frame for p in found.people]
    assert len(people) == FRAMES
    assert people[-1]["score"] is None
    assert {path.name for path in run.folder.path.glob("clip*")} == {
        f"clip_track_4{ending}" for ending in (".json", ".npz", ".glb")
    }
