"""A fast fake predictor, and the page served with it: `python -m tests.demo.fakes`."""

import sys

import numpy as np

from pare_jax.body.io import load_body_data
from pare_jax.skeleton import NUM_JOINTS
from tests.prediction.made_up_people import make_person


def attention_maps() -> np.ndarray:
    """Return maps in which all attention of joint j is in cell j of a 5 x 5 grid."""
    maps = np.zeros((25, NUM_JOINTS), np.float32)
    maps[np.arange(NUM_JOINTS), np.arange(NUM_JOINTS)] = 1.0
    return maps.reshape(5, 5, NUM_JOINTS)


class FakePredictor:
    """Predicts a person at the centre of each box of a photograph of 400 x 300 pixels.

    Attributes:
        calls: the boxes of each call.
        warning: shown at the top of the page.
        body: that of the people.
        body_data: the same, or None as for a predictor without the body's file.
    """

    warning: str | None = "these people are <made up>"

    def __init__(self, body=None):
        self.body = self.body_data = body or load_body_data()
        self.calls = []

    source = None

    def warm_up(self):
        pass

    def __call__(self, image, boxes=None, keypoints=None):
        boxes = [(0, 0, *image.shape[1::-1])] if boxes is None else list(boxes)
        self.calls.append(boxes)
        return [
            make_person(
                self.body,
                seed=number,
                x=float(box[0] + box[2]) / 2,
                turned=0.2,
                attention=attention_maps(),
                box=np.asarray(box, float),
            )
            for number, box in enumerate(boxes)
        ]


if __name__ == "__main__":
    from pare_jax.demo import __main__ as command

    command.load_predictor = lambda *_, **__: FakePredictor()
    command.make_detector = lambda *_: lambda image: []
    sys.exit(command.main(sys.argv))
