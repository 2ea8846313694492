"""Augmentation on the device, inside the jitted step: colour, noise, occluders and normalisation.

Images come in as uint8 and leave as normalised float32. An operation of strength 0 is not in the
compiled program.

Random numbers are drawn for the whole batch at once, with the samples on the leading axis. JAX's
default generator (partitionable Threefry) computes each number from the key and its position. So a
sample's numbers do not depend on the size of the batch or on the number of devices.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from pare_jax.models.inference import input_field, standardise
from pare_jax.skeleton import PART_BACKGROUND

# Luma of ITU-R BT.601, the grey that saturation moves towards.
_LUMA = (0.299, 0.587, 0.114)

# An occluded image gets one to this many occluders.
MAX_OCCLUDERS = 3
# Bounds of half an occluder's length and width, in crop units.
OCCLUDER_HALF_LENGTHS = (0.1, 0.4)

# Random numbers of each sample: for colour three strengths and three gains; for occluders their
# number, and the place, size, angle, kind, colour and roughness of each.
_COLOUR_NUMBERS = 6
_OCCLUDER_NUMBERS = 1 + 10 * MAX_OCCLUDERS


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    """The part of config.augment that runs on the device; `data_pipelines` moves the crop.

    Attributes:
        colour: largest change of brightness, contrast, saturation and each channel's gain from 1.
        noise: standard deviation of pixel noise; 1 is the full range.
        occlusion: probability that an image gets occluders.
    """

    colour: float = 0.0
    noise: float = 0.0
    occlusion: float = 0.0


def augment(batch: Mapping[str, Array], key: Array, settings: AugmentSettings) -> dict[str, Array]:
    """Change colours of a batch's images, add noise and occluders, and normalise.

    Occluders are random rectangles and ellipses of one colour with some grain, after Zhong et al.
    (random erasing, arXiv:1708.04896) and Sárándi et al. (arXiv:1808.09316). Part labels under them
    become background. A batch of keypoints is not changed: its points are drawn with errors.

    Args:
        batch: reads image and, for occluders, part_labels.
        key: random key of this step.
        settings: strengths.

    Returns:
        The changed fields: image in float32, normalised; part_labels if there are occluders.
    """
    if input_field(batch) != "image":
        return {}
    count, size = batch["image"].shape[:2]
    numbers_key, grain_key = jax.random.split(key)
    numbers = jax.random.uniform(numbers_key, (count, _COLOUR_NUMBERS + _OCCLUDER_NUMBERS))
    for_colour, for_occluders = jnp.split(numbers, [_COLOUR_NUMBERS], axis=1)
    grain = _grain(grain_key, count, size)
    images = batch["image"].astype(jnp.float32) / 255.0
    changed = {}
    if settings.colour > 0:
        images = jax.vmap(_jitter_colour, (0, 0, None))(images, for_colour, settings.colour)
    if settings.occlusion > 0:
        images, changed["part_labels"] = jax.vmap(_occlude, (0, 0, 0, 0, None))(
            images, batch["part_labels"], grain, for_occluders, settings.occlusion
        )
    if settings.noise > 0:
        images = jnp.clip(images + settings.noise * math.sqrt(3.0) * grain, 0.0, 1.0)
    return {**changed, "image": standardise(images)}


def _grain(key: Array, count: int, size: int) -> Float[Array, "b s s 3"]:
    """Return noise, uniform in [-1, 1]: one random word per pixel, one of its bytes per channel.

    Uniform noise is cheaper than normal noise, and as good for this purpose.
    """
    words = jax.random.bits(key, (count, size, size, 1), jnp.uint32)
    octets = (words >> jnp.array([0, 8, 16], jnp.uint32)) & jnp.uint32(0xFF)
    return octets.astype(jnp.float32) / 127.5 - 1.0


def _jitter_colour(
    image: Float[Array, "s s 3"], uniforms: Float[Array, "n"], strength: float
) -> Float[Array, "s s 3"]:
    """Change brightness, contrast, saturation and channel gains, each by up to 1 -+ strength.

    All four are linear in the pixel, so they are one 3x3 matrix and an offset. Contrast is taken
    about mid-grey; the image's mean would cost a pass over the image.

    Args:
        image: RGB in [0, 1].
        uniforms: `_COLOUR_NUMBERS` numbers in [0, 1).
        strength: in [0, 1].

    Returns:
        The image, clipped to [0, 1].
    """
    factors = 1.0 + strength * (2.0 * uniforms - 1.0)
    brightness, contrast, saturation, gains = factors[0], factors[1], factors[2], factors[3:]
    to_grey = jnp.ones((3, 1)) * jnp.array(_LUMA)
    matrix = saturation * jnp.eye(3) + (1.0 - saturation) * to_grey
    matrix = contrast * brightness * gains[:, None] * matrix
    offset = 0.5 * (1.0 - contrast)
    # Written out per channel, because the compiler fuses this but not a matrix product.
    mixed = sum(image[..., c : c + 1] * matrix[:, c] for c in range(3))
    return jnp.clip(mixed + offset, 0.0, 1.0)


def _occlude(
    image: Float[Array, "s s 3"],
    part_labels: UInt8[Array, "p p"],
    grain: Float[Array, "s s 3"],
    uniforms: Float[Array, "n"],
    probability: float,
) -> tuple[Float[Array, "s s 3"], UInt8[Array, "p p"]]:
    """Draw occluders into an image and its part labels.

    Args:
        image: RGB in [0, 1].
        part_labels: labels of the same crop at a lower resolution.
        grain: noise in [-1, 1], the occluders' texture.
        uniforms: `_OCCLUDER_NUMBERS` numbers in [0, 1).
        probability: of any occluder.

    Returns:
        The image and the part labels with the occluders in front.
    """
    # One number decides whether there are occluders and, stretched again to [0, 1), how many.
    spread = uniforms[0] / probability
    number = jnp.where(spread < 1.0, 1 + jnp.floor(MAX_OCCLUDERS * spread), 0)
    pixels, cells = _centres(image.shape[0]), _centres(part_labels.shape[0])
    for order, row in enumerate(uniforms[1:].reshape(MAX_OCCLUDERS, -1)):
        drawn = order < number
        fill = jnp.clip(row[6:9] + 0.5 * row[9] * grain, 0.0, 1.0)
        image = jnp.where((drawn & _covers(row, pixels))[..., None], fill, image)
        part_labels = jnp.where(
            drawn & _covers(row, cells), jnp.uint8(PART_BACKGROUND), part_labels
        )
    return image, part_labels


def _centres(size: int) -> Float[Array, "n n 2"]:
    """Return the centres of a crop's pixels in crop units, indexed (y, x)."""
    line = (jnp.arange(size) + 0.5) * (2.0 / size) - 1.0
    return jnp.stack(jnp.meshgrid(line, line), axis=-1)


def _covers(uniforms: Float[Array, "n"], points: Float[Array, "*n 2"]) -> Bool[Array, "*n"]:
    """Return which points a random, rotated rectangle or ellipse covers.

    Args:
        uniforms: numbers in [0, 1): centre x and y, two half-lengths, angle, kind.
        points: crop units.

    Returns:
        True where covered.
    """
    centre = 2.0 * uniforms[0:2] - 1.0
    low, high = OCCLUDER_HALF_LENGTHS
    half_lengths = low + (high - low) * uniforms[2:4]
    angle, is_ellipse = jnp.pi * uniforms[4], uniforms[5] < 0.5
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = points[..., 0] - centre[0], points[..., 1] - centre[1]
    a = jnp.abs(cos * x + sin * y) / half_lengths[0]
    b = jnp.abs(cos * y - sin * x) / half_lengths[1]
    return jnp.where(is_ellipse, a * a + b * b, jnp.maximum(a, b)) <= 1.0
