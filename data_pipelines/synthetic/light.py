"""Random light on people, and a camera's faults: blur, noise, colour cast, compression."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.synthetic.settings import SyntheticSettings

_LEAST_BLUR = 0.25  # pixels; a smaller standard deviation changes nothing


@dataclasses.dataclass(frozen=True)
class Light:
    """Ambient light, stronger from above, and one lamp.

    Attributes:
        around: colour of the ambient light.
        lamp: colour of the lamp or sun.
        direction: unit vector towards the lamp, camera frame.
    """

    around: Float[np.ndarray, "3"]
    lamp: Float[np.ndarray, "3"]
    direction: Float[np.ndarray, "3"]

    def shine(self, normals: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
        """Return the colour of a white surface with these normals (camera frame)."""
        from_above = 0.8 - 0.2 * normals[:, 1]
        facing = np.maximum(normals @ self.direction.astype(np.float32), 0.0)
        both = np.stack([from_above, facing], axis=1)
        return both @ np.stack([self.around, self.lamp]).astype(np.float32)


def sample_light(rng: np.random.Generator, settings: SyntheticSettings) -> Light:
    """Draw a light, mostly from above and in front."""
    strength = settings.light * rng.uniform(0.4, 1.0)
    direction = np.array([rng.normal(0, 0.8), -rng.uniform(0.1, 1.2), rng.normal(-0.7, 0.5)])
    brightness = rng.uniform(0.95, 1.3)
    tint = rng.normal(0, 0.05, (2, 3))
    return Light(
        around=brightness * (1.0 - 0.75 * strength) * (1 + tint[0]),
        lamp=brightness * 1.1 * strength * (1 + tint[1]),
        direction=direction / np.linalg.norm(direction),
    )


def degrade(
    rng: np.random.Generator, settings: SyntheticSettings, picture: UInt8[np.ndarray, "size size 3"]
) -> UInt8[np.ndarray, "size size 3"]:
    """Blur, tint, grain and compress a clean picture.

    Args:
        rng: the example's random numbers.
        settings: the strength, `degradation`.
        picture: sRGB.

    Returns:
        The degraded picture, sRGB.
    """
    amount = settings.degradation
    size = len(picture)
    gain = 1 + amount * (rng.normal(0, 0.15) + rng.normal(0, 0.08, 3))
    offset = amount * rng.normal(0, 15)
    sigma = amount * rng.uniform(0, 1.5) * max(size / 192, 0.5)
    noise = amount * rng.uniform(0, 14)
    quality = round(95 - amount * rng.uniform(0, 75))
    if sigma > _LEAST_BLUR:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    levels = np.arange(256.0)[:, None]
    picture = cv2.LUT(picture, np.clip(levels * gain + offset, 0, 255).astype(np.uint8)[None])
    # Map uniform random bytes to grey noise about 128; 73.6 is the bytes' standard deviation.
    spread = np.clip((levels - 127.5) * noise / 73.6 + 128, 0, 255).astype(np.uint8)
    grain = cv2.LUT(np.frombuffer(rng.bytes(size * size), np.uint8).reshape(size, size), spread)
    picture = cv2.addWeighted(picture, 1.0, cv2.merge([grain] * 3), 1.0, -128.0)
    if quality < 95 and rng.random() < 0.5:
        _, file = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        picture = cv2.imdecode(file, cv2.IMREAD_COLOR)
    return picture
