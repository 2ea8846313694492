"""Draws the page's examples: synthetic people, free to share."""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float

from data_pipelines.synthetic.clip import ClipSettings, draw_clip
from data_pipelines.synthetic.scenery import draw_scene
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.io.images import Picture

_ONE_PERSON = SyntheticSettings(
    image_size=512,
    mesh="full",
    yaw=60.0,
    pitch=8.0,
    roll=2.0,
    occluders=0.0,
    other_people=0.0,
    truncation=0.0,
    degradation=0.1,
)
# Split and index of an image with a fully visible person, and of one with a person behind a post.
_VISIBLE = ("test", 6)
_OCCLUDED = ("test_occluded", 8)
# Time at which the two people of the clip do not overlap, seconds.
_APART = 0.8


@dataclasses.dataclass(frozen=True)
class Example:
    """An image to try the page with.

    Attributes:
        name: a description of the image.
        image: RGB.
        boxes: boxes of the people, x0, y0, x1, y1 in pixels.
    """

    name: str
    image: Picture
    boxes: Float[np.ndarray, "people 4"]


def draw_examples() -> list[Example]:
    """Draw the examples, the same in every call; takes a few seconds."""
    clip = draw_clip(ClipSettings(seed=3, frame_rate=1.0 / _APART))
    pair = next(itertools.islice(clip, 1, None))
    return [
        _one_person("a fully visible person", *_VISIBLE),
        _one_person("a person behind a post", *_OCCLUDED),
        Example("two people", pair.image, np.round(pair.boxes)),
    ]


def _one_person(name: str, split: str, index: int) -> Example:
    scene = draw_scene(_ONE_PERSON, split, index)
    outline = scene.crop.points(scene.camera.project(scene.person.surface.vertices))
    box = np.concatenate([outline.min(0), outline.max(0)])
    return Example(name, scene.image, np.round(box)[None])
