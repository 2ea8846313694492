"""Random cameras, photographs' edges and crops for synthetic people.

A photograph's long side is 1920 pixels, which stand for 36 mm of film. Its edges are placed around
the person. Some edges cut limbs off; most lie beyond them.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from data_pipelines.example import CROP_MARGIN
from data_pipelines.synthetic import angles
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.crop import BOX_SCALE

_PHOTO_SIDE, _FILM_SIDE = 1920.0, 36.0
_PERSON_PIXELS = (350.0, 1500.0)  # height of a person of mean stature in the photograph
_MEAN_STATURE = 1.7
_NEAREST = 2.0  # metres
_NEAR_EDGE = 0.08  # for each edge, the share of people near it
_LEAST_JOINTS = 8  # joints that must stay inside the photograph's edges


@dataclasses.dataclass(frozen=True)
class SyntheticCamera:
    """A perspective camera that looks at a person.

    Attributes:
        rotation: from the upright world (y up, +z towards the camera) into the camera frame.
        translation: the pelvis in the camera frame, metres.
        focal_length: in pixels of the photograph.
    """

    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    focal_length: float

    def project(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 2"]:
        """Project the camera frame's points to pixels from the optical axis, x right, y down."""
        return points[:, :2] / points[:, 2:] * self.focal_length


@dataclasses.dataclass(frozen=True)
class SyntheticCrop:
    """A square cut out of a photograph.

    Attributes:
        corner: the crop's top-left corner, pixels from the optical axis.
        scale: the crop's pixels per pixel of the photograph.
        size: the crop's side in its own pixels.
        photo: left, top, right and bottom edges of the photograph, pixels from the optical axis.
    """

    corner: Float[np.ndarray, "2"]
    scale: float
    size: int
    photo: Float[np.ndarray, "4"]

    def points(self, pixels: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Move points from pixels about the optical axis to the crop's pixels."""
        return (pixels - self.corner) * self.scale

    def to_photo(self) -> Float[np.ndarray, "2 3"]:
        """Return the affine from the crop's pixels to the photograph's."""
        shift = self.corner - self.photo[:2]
        return np.array([[1 / self.scale, 0, shift[0]], [0, 1 / self.scale, shift[1]]])

    def shows(self, points: Float[np.ndarray, "points 2"]) -> Bool[np.ndarray, " points"]:
        """Return which points, in the crop's pixels, lie in both the crop and the photograph."""
        low, high = self.points(self.photo.reshape(2, 2))
        good = (points >= np.maximum(low, 0)) & (points < np.minimum(high, self.size))
        return good.all(axis=1)

    def on_photo(self, side: int) -> Bool[np.ndarray, "side side"]:
        """Return which pixels of the crop, drawn with this side, are centred on the photograph."""
        centres = (np.arange(side) + 0.5)[:, None] * (self.size / side)
        low, high = self.points(self.photo.reshape(2, 2))
        good = (centres >= low) & (centres < high)
        return good[:, 1][:, None] & good[:, 0][None]

    @property
    def box_side(self) -> float:
        """Longer side of the person's box in the crop's pixels."""
        return self.size / (BOX_SCALE * CROP_MARGIN)


def sample_camera(rng: np.random.Generator, settings: SyntheticSettings) -> SyntheticCamera:
    """Draw a camera and the person's position in front of it."""
    film = np.exp(rng.uniform(np.log(settings.focal_min), np.log(settings.focal_max)))
    focal_length = film / _FILM_SIDE * _PHOTO_SIDE
    height = np.exp(rng.uniform(*np.log(_PERSON_PIXELS)))
    depth = max(focal_length * _MEAN_STATURE / height, _NEAREST)
    off_axis = rng.uniform(-0.3, 0.3, 2) * [_PHOTO_SIDE, 0.5 * _PHOTO_SIDE]
    pitch = np.clip(rng.normal(0.2, 0.45), -0.6, 1.0) * settings.pitch
    roll = rng.uniform(-1, 1) * settings.roll
    # At pitch 0 the camera's x is the world's, its y and z are opposite.
    rotation = angles.about_z(np.deg2rad(roll)) @ angles.about_x(np.pi + np.deg2rad(pitch))
    translation = np.array([*(off_axis / focal_length * depth), depth])
    return SyntheticCamera(rotation, translation, focal_length)


def frame_person(
    rng: np.random.Generator,
    settings: SyntheticSettings,
    joints: Float[np.ndarray, "24 2"],
    surface: Float[np.ndarray, "vertices 2"],
) -> SyntheticCrop:
    """Place the photograph's edges and cut out the person.

    Args:
        rng: the example's random numbers.
        settings: the crop's size; frequency and depth of the cuts.
        joints: projected joints, pixels from the optical axis.
        surface: projected vertices, pixels from the optical axis.

    Returns:
        The crop around the tight box of the surface inside the photograph, which is the box that a
        detector or an annotator would give.
    """
    low, high = surface.min(0), surface.max(0)
    side = (high - low).max()
    # Distance from the person to each edge, in lengths of the person's box.
    room = np.where(rng.random(4) < _NEAR_EDGE, rng.random(4), 1 + rng.exponential(1.0, 4)) * side
    photo = np.concatenate([low - room[:2], high + room[2:]])
    if rng.random() < settings.truncation:
        cut = _cut_off(rng, settings.truncation_depth, photo, low, high)
        inside = (joints > cut[:2]).all(1) & (joints < cut[2:]).all(1)
        if inside.sum() >= _LEAST_JOINTS:
            photo = cut
            low, high = np.maximum(low, photo[:2]), np.minimum(high, photo[2:])
            side = (high - low).max()
    full_side = CROP_MARGIN * BOX_SCALE * side
    return SyntheticCrop(
        corner=0.5 * (low + high) - 0.5 * full_side,
        scale=settings.image_size / full_side,
        size=settings.image_size,
        photo=photo,
    )


def _cut_off(rng, depth: float, photo, low, high) -> np.ndarray:
    """Move one or two of the photograph's edges into the person's box."""
    cut = photo.copy()
    edges = rng.choice(4, size=1 + int(rng.random() < 0.2), replace=False, p=[0.2, 0.12, 0.2, 0.48])
    for edge, limit in zip(edges, (depth, 0.5 * depth), strict=False):
        share = rng.uniform(0.12, 1.0) * limit
        extent = (high - low)[edge % 2]
        if edge < 2:
            cut[edge] = low[edge] + share * extent
        else:
            cut[edge] = high[edge - 2] - share * extent
    return cut
