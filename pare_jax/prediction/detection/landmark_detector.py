"""Detectors with BlazePose: people of photographs, and of clips, whose landmarks follow them."""

from collections.abc import Sequence

import numpy as np

from pare_jax.io.images import Picture
from pare_jax.io.threads import count_cores
from pare_jax.keypoints.blazepose import THRESHOLD, BlazePose, Seen
from pare_jax.keypoints.blazepose_files import load_blazepose
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.overlap import without_duplicates
from pare_jax.prediction.detection.detector import Detection, Detector

# In clips the detector looks for newcomers in every frame of this number, and where somebody was
# lost; in tiles as high as the frame.
_EVERY = 5
_CLIP_TILES = (1.0,)
# More threads do not make one person's landmarks faster.
_MOST_THREADS = 4


class BlazePoseDetector:
    """Finds the people of a photograph with their keypoints."""

    def __init__(self, threshold: float = THRESHOLD):
        """Load the networks.

        Args:
            threshold: people with a lower score are skipped.

        Raises:
            UserError: LiteRT or a file is missing, or a file is damaged.
        """
        self.threshold = threshold
        self._network = load_blazepose()

    def __call__(self, image: Picture) -> list[Detection]:
        """Return the people in a photograph, the highest scores first; see `Detector`."""
        return [_detection(found) for found in self._network.find(image, self.threshold)]

    def follower(self) -> Detector:
        """Return the detector for the frames of one clip, in order."""
        return LandmarkFollower(load_blazepose(min(count_cores(), _MOST_THREADS)), self.threshold)


class LandmarkFollower:
    """Follows people through a clip: their landmarks in one frame say where to look in the next."""

    def __init__(self, network: BlazePose, threshold: float = THRESHOLD):
        """Start with nobody.

        Args:
            network: BlazePose.
            threshold: newcomers with a lower score are skipped.
        """
        self._network, self._threshold = network, threshold
        self._people: Sequence[Seen] = ()
        self._frames = 0  # since the last search

    def __call__(self, image: Picture) -> list[Detection]:
        """Return the people of the next frame."""
        followed = self._network.follow(image, [one.square for one in self._people])
        people = without_duplicates([one for one in followed if one is not None])
        if self._frames % _EVERY == 0 or len(people) < len(self._people) or not people:
            self._frames = 0
            newcomers = self._network.search(image, self._threshold, _CLIP_TILES)
            people = without_duplicates(newcomers, known=people)
        self._frames += 1
        self._people = people
        return [_detection(one.keypoints) for one in people]


def _detection(found: Keypoints) -> Detection:
    assert found.box is not None
    score = np.nan if found.score is None else found.score
    return Detection(found.box, float(score), keypoints=found)
