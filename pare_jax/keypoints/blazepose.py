"""BlazePose: finds people in photographs, and their 33 landmarks in 2D and 3D.

A detector finds people in a square of the photograph: the middle of the hips and a point that says
size and direction. The landmark network sees each person upright in a turned square, and says
whether there is a person and where the person's next square is.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.io.images import Picture
from pare_jax.keypoints.blazepose_decoding import (
    DETECTOR_SIDE,
    HIPS,
    LANDMARK_SIDE,
    NEXT_HIPS,
    NEXT_TOP,
    NUM_LANDMARKS,
    TOP,
    decode_landmarks,
    decode_people,
)
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.litert import LiteRtNetwork
from pare_jax.keypoints.overlap import box_of_landmarks, overlap, without_duplicates
from pare_jax.keypoints.sets import BLAZEPOSE33
from pare_jax.keypoints.squares import Square, square_around, square_of, tiles

# People with a lower score are not returned: the product of the detector's score, the landmark
# network's presence and the root of the agreement of its square with the detector's.
THRESHOLD = 0.5
# Least score of the detector, least presence.
_LEAST_SCORE, _LEAST_PRESENCE = 0.3, 0.5
# The detector finds people of at least some two fifths of its square's side. So the whole
# photograph is searched first, then tiles whose sides are these shares of the shorter side. Tiles
# overlap, so that most people are whole in one of them.
_TILES = (1.0, 1 / 1.5)
_TILE_OVERLAP = 1 / 3
# Smaller tiles would only be enlarged; and a strip of a picture would have thousands of tiles.
_LEAST_TILE, _MOST_TILES = DETECTOR_SIDE / 2, 64
# No smaller tiles are searched once a person has this share of the shorter side.
_LARGE = 0.8
# A tile is skipped if a person who was found fills this share of it.
_FULL = 0.5
# Squares of two detections that agree so well are one person's.
_SAME_SQUARE = 0.3
# The landmarks are computed again, in their own square, if it agrees less with the one before.
_STEADY = 0.8
# In a given box: the upright square is this many times its longer side, the area in which the
# detector looks that many, and the detector's person counts alone if it fits the box so well.
_BOX_SCALE, _AREA_SCALE, _GOOD_FIT = 1.4, 1.5, 0.5


@dataclasses.dataclass(frozen=True)
class Seen:
    """A person whom the landmark network saw in a square.

    Attributes:
        keypoints: in the photograph.
        square: the person's next square.
        presence: whether there is a person, 0 to 1.
        agreement: of the two squares, 0 to 1.
    """

    keypoints: Keypoints
    square: Square
    presence: float
    agreement: float


class BlazePose:
    """The detector and the landmark network. Several threads may use it."""

    def __init__(
        self,
        detector_path: str | Path,
        landmark_path: str | Path,
        threads: int = 1,
        contents: tuple[bytes | None, bytes | None] = (None, None),
    ):
        """Load both networks.

        Args:
            detector_path: pose_detection.tflite.
            landmark_path: pose_landmark_full.tflite, or the lite or heavy one.
            threads: that compute one call.
            contents: of both files, if they are read already.

        Raises:
            UserError: LiteRT or a file is missing, or a file is no network.
        """
        self._detector = LiteRtNetwork(detector_path, threads, contents[0])
        self._landmarks = LiteRtNetwork(landmark_path, threads, contents[1])

    def find(self, image: Picture, threshold: float = THRESHOLD) -> list[Keypoints]:
        """Return the people in a whole photograph, the highest scores first.

        Args:
            image: the photograph.
            threshold: people with a lower score are skipped, 0 to 1.
        """
        return [one.keypoints for one in self.search(image, threshold)]

    def search(
        self, image: Picture, threshold: float = THRESHOLD, tile_shares: Sequence[float] = _TILES
    ) -> list[Seen]:
        """Return the people in a whole photograph with their squares, as `find` does.

        Args:
            image: the photograph.
            threshold: people with a lower score are skipped.
            tile_shares: sides of the tiles, as shares of the photograph's shorter side.
        """
        levels = _levels(image.shape[1], image.shape[0], tile_shares)
        small, factor = _reduced(image, int(levels[-1][0].side // DETECTOR_SIDE))
        least = max(_LEAST_SCORE, threshold)
        found: list[Seen] = []
        searched: list[Square] = []
        for level in levels:
            boxes = [_box(one) for one in found]
            if any((box[2:] - box[:2]).max() >= _LARGE * min(image.shape[:2]) for box in boxes):
                break
            areas = [
                tile.times(1 / factor)
                for tile in level
                if all(_share_filled(tile, box) < _FULL for box in boxes)
            ]
            for square, score in self.people_in(small, areas, least):
                square = square.times(factor)
                if any(square.agreement(other) > _SAME_SQUARE for other in searched):
                    continue
                searched.append(square)
                one = self._confirmed(image, square, score)
                if one is not None and (one.keypoints.score or 0.0) >= threshold:
                    found.append(one)
            known, found = len(boxes), without_duplicates(found)
            if level is not levels[0] and found and len(found) == known:
                break  # a closer look found nobody else
        return found

    def look(self, image: Picture, boxes: Sequence[np.ndarray]) -> list[Keypoints | None]:
        """Return the person in each box, whose score is the presence; None where there is none.

        Args:
            image: the photograph.
            boxes: x0, y0, x1, y1 of each person, pixels.
        """
        return [self._look(image, np.asarray(box, np.float64)) for box in boxes]

    def follow(self, image: Picture, squares: Sequence[Square]) -> list[Seen | None]:
        """Return the people whose squares in the last frame are given; None for those lost.

        Args:
            image: the next frame.
            squares: `Seen.square` of each person in the frame before.
        """
        return [self._present(self.landmarks_in(image, square)) for square in squares]

    def people_in(
        self, image: Picture, areas: Iterable[Square], threshold: float = THRESHOLD
    ) -> list[tuple[Square, float]]:
        """Return the squares and scores of the people whom the detector finds in some areas.

        Returns:
            Highest scores first. A person in two areas is found twice.
        """
        found = []
        for area in areas:
            picture = area.cut(image, DETECTOR_SIDE).astype(np.float32) / 127.5 - 1.0
            outputs = self._detector(picture)
            people = decode_people(outputs["Identity"], outputs["Identity_1"], threshold)
            for points, score in zip(people.points, people.scores, strict=True):
                found.append((square_of(*area.to_photo(points[[HIPS, TOP]])), float(score)))
        return sorted(found, key=lambda pair: -pair[1])

    def landmarks_in(self, image: Picture, square: Square) -> Seen:
        """Return what the landmark network sees in a square, with the presence as its score."""
        picture = square.cut(image, LANDMARK_SIDE).astype(np.float32) / 255.0
        outputs = self._landmarks(picture)
        seen = decode_landmarks(
            outputs["Identity"],
            float(outputs["Identity_1"][0]),
            outputs["Identity_3"],
            outputs["Identity_4"],
        )
        points = square.to_photo(seen.points)
        keypoints = Keypoints(
            BLAZEPOSE33,
            points[:NUM_LANDMARKS],
            seen.confidence[:NUM_LANDMARKS],
            square.turned_back(seen.world[:NUM_LANDMARKS]),
            box_of_landmarks(points[:NUM_LANDMARKS], image),
            seen.presence,
        )
        following = square_of(points[NEXT_HIPS], points[NEXT_TOP])
        return Seen(keypoints, following, seen.presence, square.agreement(following))

    def _confirmed(self, image: Picture, square: Square, score: float) -> Seen | None:
        """Return the person in the detector's square, with a joint score; None if there is none."""
        seen = first = self.landmarks_in(image, square)
        if first.presence < _LEAST_PRESENCE:
            return None
        if first.agreement < _STEADY:
            seen = self.landmarks_in(image, first.square)
        score *= min(first.presence, seen.presence) * first.agreement**0.5
        return self._present(
            dataclasses.replace(seen, keypoints=dataclasses.replace(seen.keypoints, score=score))
        )

    def _look(self, image: Picture, box: Float[np.ndarray, "4"]) -> Keypoints | None:
        found = self.people_in(image, [square_around(box, _AREA_SCALE)], _LEAST_SCORE)
        starts = [square for square, _ in found if _holds(box, square.centre)]
        seen = [self._settled(image, square) for square in starts]
        if not any(_fit(one, box) >= _GOOD_FIT for one in seen):
            seen.append(self._settled(image, square_around(box, _BOX_SCALE)))
        best = self._present(max(seen, key=lambda one: _fit(one, box)))
        return best and dataclasses.replace(best.keypoints, box=box)

    def _settled(self, image: Picture, square: Square) -> Seen:
        """Return what the network sees in the square that it chooses itself."""
        return self.landmarks_in(image, self.landmarks_in(image, square).square)

    def _present(self, seen: Seen) -> Seen | None:
        box = _box(seen)
        is_good = seen.presence >= _LEAST_PRESENCE and (box[2:] - box[:2]).min() > 0
        return seen if is_good else None


def _levels(width: int, height: int, tile_shares: Sequence[float]) -> list[list[Square]]:
    """Return the whole photograph as a square, then its tiles of each side."""
    shorter, longer = sorted((height, width))
    levels = [tiles(width, height, float(longer), _TILE_OVERLAP)]
    for side in (share * shorter for share in tile_shares):
        if _LEAST_TILE <= side < 0.9 * longer:
            level = tiles(width, height, side, _TILE_OVERLAP)
            levels += [level] * (len(level) <= _MOST_TILES)
    return levels


def _reduced(image: Picture, most: int) -> tuple[Picture, int]:
    """Return a photograph reduced by a whole number, which is fast, and this number."""
    height, width = image.shape[:2]
    factor = max(1, min(most, height, width))
    if factor == 1:
        return image, 1
    whole = image[: height // factor * factor, : width // factor * factor]
    size = (width // factor, height // factor)
    return cv2.resize(whole, size, interpolation=cv2.INTER_AREA), factor


def _box(seen: Seen) -> Float[np.ndarray, "4"]:
    assert seen.keypoints.box is not None
    return seen.keypoints.box


def _fit(seen: Seen, box: Float[np.ndarray, "4"]) -> float:
    """Return how likely the person is the one in a box, 0 to 1."""
    return seen.presence * overlap(_box(seen), box)


def _holds(box: Float[np.ndarray, "4"], point: Float[np.ndarray, "2"]) -> bool:
    return bool((point >= box[:2]).all() and (point <= box[2:]).all())


def _share_filled(tile: Square, box: Float[np.ndarray, "4"]) -> float:
    """Return the share of an upright tile that a box fills."""
    low = np.maximum(tile.centre - tile.side / 2, box[:2])
    high = np.minimum(tile.centre + tile.side / 2, box[2:])
    return float(np.maximum(high - low, 0.0).prod() / tile.side**2)
