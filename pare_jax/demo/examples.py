"""Pictures of synthetic people that the page offers to begin with; anybody may pass them on."""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float

from data_pipelines.synthetic.clip import ClipSettings, draw_clip
from data_pipelines.synthetic.scenery import draw_scene
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.io.images import Picture

_ALONE = SyntheticSettings(
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
# The split and number of a picture in which somebody is seen whole, and of one behind a post.
_WHOLE = ("test", 6)
_HIDDEN = ("test_occluded", 8)
# When in the clip the two people are still apart, seconds.
_APART = 0.8


@dataclasses.dataclass(frozen=True)
class Example:
    """A picture to try.

    Attributes:
        name: what it shows.
        image: RGB.
        boxes: of the people in it, x0, y0, x1, y1 in pixels.
    """

    name: str
    image: Picture
    boxes: Float[np.ndarray, "people 4"]


def draw_examples() -> list[Example]:
    """Draw the examples, always the same; this takes a few seconds."""
    clip = draw_clip(ClipSettings(seed=3, frame_rate=1.0 / _APART))
    pair = next(itertools.islice(clip, 1, None))
    return [
        _alone("somebody seen whole", *_WHOLE),
        _alone("somebody behind a post", *_HIDDEN),
        Example("two people", pair.image, np.round(pair.boxes)),
    ]


def _alone(name: str, split: str, index: int) -> Example:
    scene = draw_scene(_ALONE, split, index)
    outline = scene.crop.points(scene.camera.project(scene.person.surface.vertices))
    box = np.concatenate([outline.min(0), outline.max(0)])
    return Example(name, scene.image, np.round(box)[None])
