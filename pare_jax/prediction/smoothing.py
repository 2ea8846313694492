"""Steadier motion: the 1-euro filter on numbers and on rotations, and one shape for a person.

The filter (Casiez, Roussel and Vogel, "1 € Filter", CHI 2012) is a low-pass whose cutoff rises
with speed: what rests is held still, what moves fast lags little. Time enters in seconds, so that
a frame rate changes nothing and frames may be missing.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

# Cutoff of the filtered speed, Hz, as in the paper.
_SPEED_CUTOFF = 1.0
# Seconds without an observation after which a filter starts anew.
LONGEST_GAP = 0.5
# Robust shape: observations farther than this many times the median distance count less.
_TUNING, _ROUNDS = 1.5, 10
# Of how many frames, spread over all that have come, a shape is made while more come.
_SHAPES = 128


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """What is smoothed, and how much.

    Attributes:
        rotations: of the joints, on SO(3).
        shape: one shape for all of a person's frames.
        camera: where the body stands.
        min_cutoff: Hz; what rests is smoothed with this cutoff. Lower is steadier.
        beta: by how many Hz the cutoff rises with each radian (for the camera: metre) a second.
            Higher follows faster motion with less lag.
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
    """The 1-euro filter on each row of an array; a row's cutoff follows the row's speed."""

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
    """The 1-euro filter on SO(3), each rotation for itself.

    The difference of two rotations is the rotation vector from one to the other (the logarithm of
    R_old^T R_new), its length per second the speed; the step towards the new one is along the
    geodesic (slerp). So the result does not depend on the frame rotations are given in.
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
    """The 1-euro filter on where a body stands, whatever camera each frame was read with.

    A prediction's focal length and principal point follow its crop, and its depth the focal
    length; what does not jump with the crop is where the picture shows the body's origin and how
    large. These are filtered, size by its logarithm, in metres at the person's first distance.
    """

    def __init__(self, min_cutoff: float, beta: float):
        """Start without a value; see `Smoothing` for the arguments."""
        self._filter = VectorFilter(min_cutoff, beta)
        self._unit = 0.0
        self._time = -np.inf
        self._seen: np.ndarray | None = None  # the last frame's, filtered

    def __call__(
        self,
        time: float,
        translation: Float[np.ndarray, "3"],
        focal_length: float,
        principal_point: Float[np.ndarray, "2"],
    ) -> Float[np.ndarray, "3"]:
        """Filter the next translation.

        A network may answer with a body behind the camera, or with no number at all. That is no
        observation: the body stays where the frames before saw it.

        Args:
            time: seconds, later than the last.
            translation: camera frame, metres.
            focal_length: this frame's, pixels.
            principal_point: this frame's, pixels.

        Returns:
            The translation for the same focal length and principal point; what came in, where no
            frame has been observed yet.
        """
        if np.isfinite(translation).all() and translation[2] > 0:
            scale = focal_length / translation[2]  # pixels a metre
            if _step(time, self._time) is None:
                self._unit = scale
            self._time = time
            place = principal_point + translation[:2] * scale
            self._seen = self._filter(time, np.array([*(place / self._unit), np.log(scale)]))
        if self._seen is None:
            return np.asarray(translation, np.float64)
        x, y, log_scale = self._seen
        depth = focal_length / np.exp(log_scale)
        across = (np.array([x, y]) * self._unit - principal_point) * depth / focal_length
        return np.array([*across, depth])


def robust_shape(
    betas: Float[np.ndarray, "frames 10"], scores: Float[np.ndarray, " frames"] | None = None
) -> Float[np.ndarray, "10"]:
    """Return the one shape that fits a person's frames best.

    It is the mean weighted by the scores in which frames far from it count less (Huber's weights,
    the limit following the median distance): hidden limbs make for odd shapes in single frames.

    Args:
        betas: one shape a frame.
        scores: of the frames' detections, NaN for boxes that were given, which are sure; None or
            all zero: all alike.
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
    """What the network said of one person, frame by frame; a gap is a step in `times`.

    Attributes:
        times: seconds, increasing.
        rotations: relative to the parent, the root's into the camera frame.
        betas: shape coefficients.
        translations: of the body in the camera frame, metres.
        focal_lengths: pixels.
        principal_points: pixels.
        scores: of the detections, NaN for boxes that were given.
    """

    times: Float[np.ndarray, " frames"]
    rotations: Float[np.ndarray, "frames 24 3 3"]
    betas: Float[np.ndarray, "frames 10"]
    translations: Float[np.ndarray, "frames 3"]
    focal_lengths: Float[np.ndarray, " frames"]
    principal_points: Float[np.ndarray, "frames 2"]
    scores: Float[np.ndarray, " frames"]


class ShapeSoFar:
    """The one shape of a person whose frames are still coming, at a cost that does not grow.

    The first 128 frames all count. From then on it is every second of all that have come, every
    fourth, and so on: between 64 and 128 frames, evenly spread.
    """

    def __init__(self):
        """Start without a frame."""
        self._betas: list[np.ndarray] = []
        self._scores: list[float] = []
        self._frames, self._stride = 0, 1
        self._shape = np.zeros(0)

    def __call__(self, betas: Float[np.ndarray, "10"], score: float) -> Float[np.ndarray, "10"]:
        """Take the next frame's shape; returns `robust_shape` of the frames that are kept.

        Args:
            betas: shape coefficients.
            score: of the detection, NaN for a box that was given.
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
    """Smooths one person as the frames come; the shape is that of the frames so far."""

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
    """Smooth a person's whole motion; the shape is the same in every frame.

    Args:
        motion: as predicted.
        smoothing: what and how much.

    Returns:
        The motion with rotations, betas and translations replaced as `smoothing` says.
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
    """Seconds since the last observation; None where the filter has to start anew."""
    step = time - last
    if not step > 0:
        raise ValueError(f"time {time} does not come after {last}")
    return step if step <= LONGEST_GAP else None


def _gain(cutoff, step: float):
    """The share of a change that a first-order low-pass with this cutoff (Hz) lets through."""
    turns = 2.0 * np.pi * cutoff * step
    return turns / (turns + 1.0)
