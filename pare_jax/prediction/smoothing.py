"""Smooths a track: the 1-euro filter on rotations and translation, and one shape for all frames.

The filter (Casiez, Roussel and Vogel, "1 € Filter", CHI 2012) is a low-pass whose cutoff rises
with speed: slow motion is steadied, fast motion lags little. Time is in seconds, so that the result
does not depend on the frame rate and frames may be missing.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

# Cutoff for the speed itself, Hz, as in the paper.
_SPEED_CUTOFF = 1.0
# Seconds without an observation after which a filter restarts.
LONGEST_GAP = 0.5
# Robust shape: frames farther than this many times the median distance have less weight.
_TUNING, _ROUNDS = 1.5, 10
# Most frames, spread over all past ones, that the shape of a track so far is computed from.
_SHAPES = 128


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """Settings of the smoothing.

    Attributes:
        rotations: whether to smooth the joints' rotations, on SO(3).
        shape: whether a track has one shape for all frames.
        camera: whether to smooth the translation.
        min_cutoff: cutoff at rest, Hz. Lower is steadier.
        beta: rise of the cutoff, Hz for each radian (for the camera: metre) a second. Higher
            follows fast motion with less lag.
    """

    rotations: bool = True
    shape: bool = True
    camera: bool = True
    min_cutoff: float = 1.5
    beta: float = 1.5

    def __post_init__(self):
        if not self.min_cutoff > 0 or not self.beta >= 0:
            raise ValueError("expected min_cutoff > 0 and beta >= 0")


class VectorFilter:
    """The 1-euro filter on each row of an array; a row's cutoff depends on the row's speed."""

    def __init__(self, min_cutoff: float, beta: float):
        """Start without a value; see `Smoothing` for the arguments."""
        self._min_cutoff, self._beta = min_cutoff, beta
        self._time = -np.inf
        self._value = np.zeros(0)
        self._speed = np.zeros(0)

    def __call__(
        self, time: float, value: Float[np.ndarray, "*rows size"]
    ) -> Float[np.ndarray, "*rows size"]:
        """Filter the next value.

        Args:
            time: seconds, later than the last.
            value: of the same shape each time.
        """
        value = np.asarray(value, np.float64)
        step = _step(time, self._time)
        self._time = time
        if step is None:
            self._value, self._speed = value, np.zeros_like(value)
            return value
        change = value - self._value
        self._speed = self._speed + _gain(_SPEED_CUTOFF, step) * (change / step - self._speed)
        cutoff = self._min_cutoff + self._beta * np.linalg.norm(self._speed, axis=-1, keepdims=True)
        self._value = self._value + _gain(cutoff, step) * change
        return self._value


class RotationFilter:
    """The 1-euro filter on SO(3), for each rotation separately.

    The difference of two rotations is the rotation vector from one to the other (the logarithm of
    R_old^T R_new); its length per second is the speed. The step towards the new rotation follows
    the geodesic (slerp). The result therefore does not depend on the frame of the rotations.
    """

    def __init__(self, min_cutoff: float, beta: float):
        """Start without a value; see `Smoothing` for the arguments."""
        self._min_cutoff, self._beta = min_cutoff, beta
        self._time = -np.inf
        self._value = Rotation.identity(0)
        self._speed = np.zeros((0, 3))

    def __call__(
        self, time: float, rotations: Float[np.ndarray, "joints 3 3"]
    ) -> Float[np.ndarray, "joints 3 3"]:
        """Filter the next rotations.

        Args:
            time: seconds, later than the last.
            rotations: as many each time.
        """
        new = Rotation.from_matrix(np.asarray(rotations, np.float64))
        step = _step(time, self._time)
        self._time = time
        if step is None:
            self._value, self._speed = new, np.zeros((len(new), 3))
        else:
            change = (self._value.inv() * new).as_rotvec()
            self._speed = self._speed + _gain(_SPEED_CUTOFF, step) * (change / step - self._speed)
            speed = np.linalg.norm(self._speed, axis=-1, keepdims=True)
            gain = _gain(self._min_cutoff + self._beta * speed, step)
            self._value = self._value * Rotation.from_rotvec(gain * change)
        return self._value.as_matrix()


class CameraFilter:
    """The 1-euro filter on a body's translation, for frames with different cameras.

    A prediction's focal length, principal point and depth jump with its crop; the pixel of the
    body's origin and the body's size in pixels do not. The filter works on these: the pixel in
    metres at the person's first distance, and the logarithm of the size.
    """

    def __init__(self, min_cutoff: float, beta: float):
        """Start without a value; see `Smoothing` for the arguments."""
        self._filter = VectorFilter(min_cutoff, beta)
        self._unit = 0.0
        self._time = -np.inf
        self._filtered: np.ndarray | None = None  # x, y and logarithm of the size

    def __call__(
        self,
        time: float,
        translation: Float[np.ndarray, "3"],
        focal_length: float,
        principal_point: Float[np.ndarray, "2"],
    ) -> Float[np.ndarray, "3"]:
        """Filter the next translation.

        A body behind the camera, or a translation that is not finite, is no observation: the
        last filtered place and size are kept.

        Args:
            time: seconds, later than the last.
            translation: camera frame, metres.
            focal_length: this frame's, pixels.
            principal_point: this frame's, pixels.

        Returns:
            The translation for the same focal length and principal point; the input, if there
            was no observation yet.
        """
        if np.isfinite(translation).all() and translation[2] > 0:
            scale = focal_length / translation[2]  # pixels a metre
            if _step(time, self._time) is None:
                self._unit = scale
            self._time = time
            place = principal_point + translation[:2] * scale
            self._filtered = self._filter(time, np.array([*(place / self._unit), np.log(scale)]))
        if self._filtered is None:
            return np.asarray(translation, np.float64)
        x, y, log_scale = self._filtered
        depth = focal_length / np.exp(log_scale)
        across = (np.array([x, y]) * self._unit - principal_point) * depth / focal_length
        return np.array([*across, depth])


def robust_shape(
    betas: Float[np.ndarray, "frames 10"], scores: Float[np.ndarray, " frames"] | None = None
) -> Float[np.ndarray, "10"]:
    """Return one shape for all frames of a person.

    It is the mean weighted by the scores, with Huber's weights: frames far from it have less
    weight, and the limit follows the median distance. Hidden limbs give wrong shapes in single
    frames.

    Args:
        betas: one shape for each frame.
        scores: of the frames' detections, NaN for boxes from the user, which have full weight;
            None or all zero: equal weights.
    """
    betas = np.asarray(betas, np.float64)
    weights = np.ones(len(betas)) if scores is None else np.nan_to_num(scores, nan=1.0)
    if not weights.any():
        weights = np.ones(len(betas))
    shape = np.median(betas[weights > 0], axis=0)
    for _ in range(_ROUNDS):
        distance = np.linalg.norm(betas - shape, axis=-1)
        limit = _TUNING * np.median(distance[weights > 0])
        huber = np.minimum(1.0, limit / np.maximum(distance, 1e-12)) if limit > 0 else distance == 0
        shape = np.average(betas, axis=0, weights=weights * huber)
    return shape


@dataclasses.dataclass(frozen=True)
class Motion:
    """A track's predicted parameters, frame by frame; frames may be missing.

    Attributes:
        times: seconds, increasing.
        rotations: relative to the parent, the root's into the camera frame.
        betas: shape coefficients.
        translations: of the body in the camera frame, metres.
        focal_lengths: pixels.
        principal_points: pixels.
        scores: of the detections, NaN for boxes from the user.
    """

    times: Float[np.ndarray, " frames"]
    rotations: Float[np.ndarray, "frames 24 3 3"]
    betas: Float[np.ndarray, "frames 10"]
    translations: Float[np.ndarray, "frames 3"]
    focal_lengths: Float[np.ndarray, " frames"]
    principal_points: Float[np.ndarray, "frames 2"]
    scores: Float[np.ndarray, " frames"]


class ShapeSoFar:
    """One shape for the past frames of a track, at a cost that does not grow.

    It uses all of the first 128 frames, then every second frame, every fourth, and so on: 64 to
    128 frames, evenly spread.
    """

    def __init__(self):
        """Start without a frame."""
        self._betas: list[np.ndarray] = []
        self._scores: list[float] = []
        self._frames, self._stride = 0, 1
        self._shape = np.zeros(0)

    def __call__(self, betas: Float[np.ndarray, "10"], score: float) -> Float[np.ndarray, "10"]:
        """Add the next frame's shape, and return `robust_shape` of the frames in use.

        Args:
            betas: shape coefficients.
            score: of the detection, NaN for a box from the user.
        """
        if self._frames % self._stride == 0:
            self._betas.append(np.asarray(betas, np.float64))
            self._scores.append(score)
            self._shape = robust_shape(np.stack(self._betas), np.array(self._scores))
            if len(self._betas) == _SHAPES:
                del self._betas[1::2], self._scores[1::2]
                self._stride *= 2
        self._frames += 1
        return self._shape


class MotionSmoother:
    """Smooths one track frame by frame; the shape is that of the past frames."""

    def __init__(self, smoothing: Smoothing | None = None):
        """Start without a frame."""
        self.smoothing = smoothing or Smoothing()
        cutoffs = self.smoothing.min_cutoff, self.smoothing.beta
        self._rotations, self._camera = RotationFilter(*cutoffs), CameraFilter(*cutoffs)
        self._shape = ShapeSoFar()

    def __call__(
        self,
        time: float,
        rotations: Float[np.ndarray, "24 3 3"],
        betas: Float[np.ndarray, "10"],
        translation: Float[np.ndarray, "3"],
        focal_length: float,
        principal_point: Float[np.ndarray, "2"],
        score: float = 1.0,
    ) -> tuple[Float[np.ndarray, "24 3 3"], Float[np.ndarray, "10"], Float[np.ndarray, "3"]]:
        """Return the next frame's rotations, betas and translation, smoothed.

        Args:
            time: seconds, later than the last.
            rotations: relative to the parent, the root's into the camera frame.
            betas: shape coefficients.
            translation: camera frame, metres.
            focal_length: pixels.
            principal_point: pixels.
            score: of the detection.
        """
        if self.smoothing.rotations:
            rotations = self._rotations(time, rotations)
        if self.smoothing.shape:
            betas = self._shape(betas, score)
        if self.smoothing.camera:
            translation = self._camera(time, translation, focal_length, principal_point)
        return rotations, betas, translation


def smooth_motion(motion: Motion, smoothing: Smoothing | None = None) -> Motion:
    """Smooth a whole track; the shape is the same in every frame.

    Args:
        motion: as predicted.
        smoothing: the settings.

    Returns:
        The motion with smoothed rotations, betas and translations.
    """
    smoothing = smoothing or Smoothing()
    frame_by_frame = MotionSmoother(dataclasses.replace(smoothing, shape=False))
    rotations, translations = np.array(motion.rotations), np.array(motion.translations)
    for index, time in enumerate(motion.times):
        rotations[index], _, translations[index] = frame_by_frame(
            float(time),
            motion.rotations[index],
            motion.betas[index],
            motion.translations[index],
            float(motion.focal_lengths[index]),
            motion.principal_points[index],
        )
    betas = motion.betas
    if smoothing.shape:
        betas = np.broadcast_to(robust_shape(betas, motion.scores), np.shape(betas)).copy()
    return dataclasses.replace(motion, rotations=rotations, betas=betas, translations=translations)


def _step(time: float, last: float) -> float | None:
    """Return the seconds since the last observation; None if the filter must restart."""
    step = time - last
    if not step > 0:
        raise ValueError(f"time {time} must be later than {last}")
    return step if step <= LONGEST_GAP else None


def _gain(cutoff, step: float):
    """Return the share of a change that a first-order low-pass of this cutoff (Hz) passes."""
    turns = 2.0 * np.pi * cutoff * step
    return turns / (turns + 1.0)
