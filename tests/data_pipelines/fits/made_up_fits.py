"""A split of drawn people in memory, with a folder for its fits, and starts near the truth."""

import numpy as np

from data_pipelines.example import CROP_MARGIN
from pare_jax.body.io import load_body_data
from tests.data_pipelines.conftest import make_record
from tests.fitting.drawn_points import drawn_pose, points_of

SIDE = 96
PEOPLE = 4


def examples_of(pose):
    """Return stored examples of drawn people, without 3D labels."""
    points, _ = points_of(pose)
    half = SIDE / CROP_MARGIN / 2
    unknown = dict.fromkeys(("joints_3d_weight", "pose_weight", "betas_weight"), np.float32(0))
    return [
        make_record(
            seed,
            side=SIDE,
            points_2d=(SIDE / 2 + half * own[:, :2]) * (own[:, 2:] > 0),
            points_2d_weight=own[:, 2],
            **unknown,
        )
        for seed, own in enumerate(points)
    ]


class DrawnSplit(list):
    """Examples with the folder of a dataset."""

    split = "train"

    def __init__(self, path, examples=None):
        super().__init__(examples_of(drawn_pose(PEOPLE)) if examples is None else examples)
        self.path = path
        (path / "dataset_info.json").write_text("{}")

    def without_part_labels(self):
        return self

    def names(self):
        return "names"

    def fingerprint(self):
        return "drawn"


class TrueStarts:
    """Gives each drawn person the true pose as a network's answer; notes the number of people."""

    name, body = "a network", load_body_data()

    def __init__(self, digest="first", deadly=None):
        self.digest, self.deadly, self.asked = digest, deadly, []

    def __call__(self, examples, points):
        if len(self.asked) == self.deadly:
            raise KeyboardInterrupt
        rows = [int(example["frame"]) for example in examples]
        self.asked.append(rows)
        return type(drawn_pose(1))(*(np.asarray(x)[rows] for x in drawn_pose(PEOPLE)))
