"""Cameras, photographs and crops: where a person stands and what the edges of a picture cut.

A photograph's long side is 1920 pixels and stands for 36 mm of film. Its edges are placed around
the person: near enough to cut limbs off for some, anywhere beyond them for the others.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from data_pipelines.example import CROP_MARGIN
from data_pipelines.synthetic import angles
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.crop import BOX_SCALE

_PHOTO_SIDE, _FILM_SIDE = 1920.0, 36.0
_PERSON_PIXELS = (350.0, 1500.0)  # height a person of mean stature has in the photograph
_MEAN_STATURE = 1.7
_NEAREST = 2.0  # metres
_NEAR_EDGE = 0.08  # share of people who stand near an edge of the photograph, for each edge
_LEAST_JOINTS = 8  # that the photograph's edges leave inside


@dataclasses.dataclass(frozen=True)
class SyntheticCamera:
    """A camera that looks at a person.

    Attributes:
        rotation: from the person's upright world (y up, the camera in the direction +z) into the
            camera frame.
        translation: the pelvis in the camera frame, metres.
        focal_length: pixels of the photograph.
    """

    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    focal_length: float

    def project(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 2"]:
        """Project points of the camera frame; pixels from the optical axis, x right and y down."""
        return points[:, :2] / points[:, 2:] * self.focal_length


@dataclasses.dataclass(frozen=True)
class SyntheticCrop:
    """A square cut out of a photograph.

    Attributes:
        corner: its top-left corner, pixels from the optical axis.
        scale: pixels of the crop for one pixel of the photograph.
        size: its side in its own pixels.
        photo: left, top, right and bottom edges of the photograph, pixels from the optical axis.
    """

    corner: Float[np.ndarray, "2"]
    scale: float
    size: int
    photo: Float[np.ndarray, "4"]

    def points(self, pixels: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Move points from pixels about the optical axis to the crop's."""
        return (pixels - self.corner) * self.scale

    def to_photo(self) -> Float[np.ndarray, "2 3"]:
        """Return the affine from the crop's pixels to the photograph's."""
        shift = self.corner - self.photo[:2]
        return np.array([[1 / self.scale, 0, shift[0]], [0, 1 / self.scale, shift[1]]])

    def shows(self, points: Float[np.ndarray, "points 2"]) -> Bool[np.ndarray, " points"]:
        """Tell which points of the crop's plane lie in both the crop and the photograph."""
        low, high = self.points(self.photo.reshape(2, 2))
        good = (points >= np.maximum(low, 0)) & (points < np.minimum(high, self.size))
        return good.all(axis=1)

    def on_photo(self, side: int) -> Bool[np.ndarray, "side side"]:
        """Tell which pixels of the crop, drawn with this side, have their centre on the photo."""
        centres = (np.arange(side) + 0.5)[:, None] * (self.size / side)
        low, high = self.points(self.photo.reshape(2, 2))
        good = (centres >= low) & (centres < high)
        return good[:, 1][:, None] & good[:, 0][None]

    @property
    def box_side(self) -> float:
        """Longer side of the person's box in the crop's pixels."""
        return self.size / (BOX_SCALE * CROP_MARGIN)


def sample_camera(rng: np.random.Generator, settings: SyntheticSettings) -> SyntheticCamera:
    """Draw a camera and where it sees the person."""
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
        settings: how often and how deep edges cut, and the crop's size.
        joints: projected joints, pixels from the optical axis.
        surface: projected vertices, in the same pixels.

    Returns:
        The crop around the tight box of the surface, as far as it is on the photograph: the box
        a detector, or a person who draws it by hand, would give.
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
    """Move one edge, sometimes two, of the photograph into the person's box."""
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
