"""People with pixels and keypoints for `measure_pixels.py`: drawn ones, and in photographs."""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from photo_labels import PhotoPerson
from photo_methods import source_of

from data_pipelines.bodies.body_settings import BodySettings
from data_pipelines.bodies.corruption import corrupt
from data_pipelines.example import CROP_MARGIN
from data_pipelines.synthetic.scenery import draw_scene
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.io.images import cut_crop, read_image
from pare_jax.keypoints.body_points import PointBody
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.network_points import network_points
from pare_jax.keypoints.sets import BODY_POINTS, COCO17
from pare_jax.prediction.boxes import crop_of_box

# Settings that spoil keypoints where the picture shows nothing of it.
_UNSEEN = dict.fromkeys(("truncation", "occlusion", "missing", "annotated"), 0.0)
# Drawn people whom no training has: they follow those of the split "test".
_FIRST = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class SeenPeople:
    """People as both networks see them.

    Attributes:
        crops: what the network on pixels sees.
        crop_squares: centre x and y and side of the crops, pixels of the photograph.
        keypoints: what the network on keypoints sees.
        squares: of the keypoints, as `crop_squares`.
        joints: true joints, metres, pelvis at the origin; None: unknown.
        points: true body points, metres, any origin, or the depths that the keypoints' source
            tells; NaN: unknown.
        labels: of people in photographs; empty for drawn ones.
    """

    crops: UInt8[np.ndarray, "n side side 3"]
    crop_squares: Float[np.ndarray, "n 3"]
    keypoints: Float[np.ndarray, "n points 5"]
    squares: Float[np.ndarray, "n 3"]
    joints: Float[np.ndarray, "n 24 3"] | None
    points: Float[np.ndarray, "n points 3"]
    labels: Sequence[PhotoPerson] = ()

    def without_depths(self) -> "SeenPeople":
        """Return the same people with keypoints in 2D alone."""
        keypoints = self.keypoints.copy()
        keypoints[..., 3:] = 0.0
        return dataclasses.replace(self, keypoints=keypoints)


def drawn_people(
    settings: SyntheticSettings, body: PointBody, count: int, side: int, exact: bool, first: int = 0
) -> SeenPeople:
    """Draw people, with keypoints as annotators or as a detector would find them.

    Args:
        settings: of the drawings.
        body: of the keypoints.
        count: number of people.
        side: of the crops, pixels.
        exact: COCO's points without errors; else a detector's errors, with depths.
        first: number of the first person; others are other people.
    """
    scenes = [draw_scene(settings, "test", _FIRST + first + k) for k in range(count)]
    pose = [np.array([getattr(s.person, k) for s in scenes], np.float32) for k in _POSE]
    placed, joints = (np.asarray(x) for x in jax.jit(body.place)(*pose))
    points = placed - joints[:, :1]
    pelvis = np.array([scene.person.surface.joints[0] for scene in scenes])
    pairs = zip(scenes, points + pelvis[:, None], strict=True)
    pixels = np.array([s.crop.points(s.camera.project(x)) for s, x in pairs], np.float32)
    if exact:
        chosen = np.isin(np.arange(pixels.shape[1]), COCO17.indices)
        rows = np.zeros((*pixels.shape[:2], 5), np.float32)
        rows[:, chosen, :2], rows[:, chosen, 2] = pixels[:, chosen], 1.0
    else:
        errors = dataclasses.replace(BodySettings(), depth=1.0, **_UNSEEN)
        depths = points[..., 2] - points[..., 2].mean(1, keepdims=True)
        key, places = jax.random.key(first), jnp.asarray(pixels)
        rows = np.array(corrupt(key, places, jnp.asarray(depths), body.known, errors))
    keypoints, squares = _in_squares([_body_keypoints(rows[k]) for k in range(count)])
    middle = settings.image_size / 2.0
    square = np.array([middle, middle, settings.image_size / CROP_MARGIN])
    crops = [cut_crop(scene.image, square[:2], square[2], side) for scene in scenes]
    return SeenPeople(
        np.stack(crops),
        np.tile(square, (count, 1)),
        keypoints,
        squares,
        joints - joints[:, :1],
        points,
    )


def photographed_people(
    people: Sequence[PhotoPerson], source: str, side: int, crop_scale: float
) -> SeenPeople:
    """Return people whom a source of keypoints sees in the annotators' boxes.

    Args:
        people: in the order of their photographs.
        source: of the keypoints, as `make_method` knows them.
        side: of the crops, pixels.
        crop_scale: side of a crop over the longer side of its box.
    """
    look = source_of(source)
    kept, seen, crops, squares = [], [], [], []
    for photo, group in itertools.groupby(people, lambda one: one.photo):
        image, own = read_image(photo), list(group)
        for person, found in zip(own, look(image, own), strict=True):
            if found is None or found.known < 2:
                continue
            centre, length = crop_of_box(person.box, crop_scale)
            crops.append(cut_crop(image, centre, length, side))
            squares.append([*centre, length])
            kept.append(person)
            seen.append(found)
    keypoints, own_squares = _in_squares(seen)
    return SeenPeople(
        np.stack(crops),
        np.array(squares),
        keypoints,
        own_squares,
        None,
        np.stack([one.body_world() for one in seen]),
        kept,
    )


_POSE = ("rotations", "betas")


def _body_keypoints(rows: Float[np.ndarray, "points 5"]) -> Keypoints:
    """Return corrupted points as keypoints."""
    depth = np.where(rows[:, 4] > 0, rows[:, 3], np.nan)
    world = np.stack([depth, depth, depth], 1)  # only depths are read
    return Keypoints(BODY_POINTS, rows[:, :2].astype(float), rows[:, 2].astype(float), world)


def _in_squares(people: Sequence[Keypoints]) -> tuple[np.ndarray, np.ndarray]:
    found = [network_points(one) for one in people]
    squares = [[*centre, side] for _, centre, side in found]
    return np.stack([rows for rows, *_ in found]), np.array(squares)
