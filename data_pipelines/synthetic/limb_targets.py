"""Joint angles of arms and legs whose wrists and ankles are at given points.

Lengths are those of the free body's mean shape, metres. Points and directions are (x to the
person's left, y up, z forwards). The direction of an elbow or a knee says to which side it bends
where the limb is not straight. Plain Python, because NumPy is slow with a single point.
"""

import functools
import math

from data_pipelines.synthetic.actions import LEAN, Angles
from data_pipelines.synthetic.angles import SIDE_RANGES, SPINE_SHARES

Point = tuple[float, float, float]

_UPPER_ARM, _FOREARM, _THIGH, _SHIN = 0.260, 0.233, 0.385, 0.436
_HIP = (0.111, -0.044, -0.009)  # from the pelvis
# From the middle of the shoulders to the collar bone's end at the chest, then to the shoulder.
_COLLAR, _CLAVICLE = (0.062, 0.063, -0.003), (0.113, -0.063, 0.003)
# From the pelvis to the spine's joints one by one, then to the middle of the shoulders.
_SPINE = ((0.0, 0.103, 0.007), (0.0, 0.106, -0.013), (0.0, 0.121, -0.031), (0.0, 0.086, 0.047))
_ELBOW, _KNEE = (0.4, -1.0, -0.3), (0.15, 0.0, 1.0)
# Other directions of a left elbow.
_BENDS = ((0.4, -1.0, 0.0), (1.0, -0.3, 0.3), (1.0, 0.5, 0.5), (0.3, -0.3, -1.0), (0.3, 0.3, 1.0))
_TOLERANCE = 20.0  # degrees by which an arm may leave its ranges before another is tried
_NEVER = 1e-9


class Figure:
    """A trunk to which hands and feet are added; `angles` is the pose so far.

    The origin of points is the pelvis; y is up after the lean. With `lean` None, a body leans as
    its balance needs, and points count from the pelvis' own axes.
    """

    def __init__(
        self, lean: float | None = None, flex: float = 0.0, side: float = 0.0, twist: float = 0.0
    ):
        self.angles: Angles = {"spine_flex": flex, "spine_side": side, "spine_twist": twist}
        if lean is not None:
            self.angles[LEAN] = lean
        self._lean = math.radians(lean or 0.0)
        self._spine = tuple(math.radians(angle) for angle in (flex, side, twist))

    def hand(self, side: str, wrist: Point, elbow: Point = _ELBOW) -> "Figure":
        """Put a wrist at a point; the elbow bends towards a direction."""
        shoulders, *axes = self._chest
        from_shoulders = _minus(wrist, shoulders)
        x, y, z = (_dot(axis, from_shoulders) for axis in axes)
        bend = _dot(axes[0], elbow), _dot(axes[1], elbow), _dot(axes[2], elbow)
        self.angles |= reach(side, (x, y, z), bend)
        return self

    def foot(self, side: str, ankle: Point, knee: Point = _KNEE, flat: bool = True) -> "Figure":
        """Put an ankle at a point; the knee bends towards a direction; `flat`: level the foot."""
        leg = step(side, _turn_x(ankle, -self._lean), _turn_x(knee, -self._lean))
        if flat:
            level = leg[f"{side}_hip_flex"] - leg[f"{side}_knee"] - math.degrees(self._lean)
            leg[f"{side}_ankle"] = min(max(level, -20.0), 50.0)
        self.angles |= leg
        return self

    def hands(self, wrist: Point, elbow: Point = _ELBOW) -> "Figure":
        """Put the left wrist at a point and the right one at its mirror image."""
        return self.hand("left", wrist, elbow).hand("right", mirrored(wrist), mirrored(elbow))

    def feet(self, ankle: Point, knee: Point = _KNEE, flat: bool = True) -> "Figure":
        """Put the left ankle at a point and the right one at its mirror image."""
        self.foot("left", ankle, knee, flat)
        return self.foot("right", mirrored(ankle), mirrored(knee), flat)

    def set(self, **angles: float) -> "Figure":
        """Set angles by name, degrees."""
        self.angles |= angles
        return self

    @functools.cached_property
    def _chest(self) -> tuple[Point, Point, Point, Point]:
        """The middle of the shoulders, and the chest's axes x, y, z."""

        def place(point: Point) -> Point:
            for share, bone in zip(reversed(SPINE_SHARES), reversed(_SPINE[1:]), strict=True):
                flex, side, twist = (share * angle for angle in self._spine)
                point = _turn_x(_plus(point, bone), flex)
                point = _turn_y(_turn_z(point, -side), twist)
            return _turn_x(_plus(point, _SPINE[0]), self._lean)

        middle = place((0.0, 0.0, 0.0))
        x, y, z = place((1.0, 0.0, 0.0)), place((0.0, 1.0, 0.0)), place((0.0, 0.0, 1.0))
        return middle, _minus(x, middle), _minus(y, middle), _minus(z, middle)


def mirrored(point: Point) -> Point:
    """Return the mirror image of a point or direction."""
    x, y, z = point
    return -x, y, z


def reach(side: str, wrist: Point, elbow: Point = _ELBOW) -> Angles:
    """Return the angles of an arm.

    Args:
        side: "left" or "right".
        wrist: the wrist in the chest's axes, from the middle of the shoulders.
        elbow: direction to which the elbow bends; another one if the shoulder cannot turn so far.
    """
    if side == "right":
        wrist, elbow = mirrored(wrist), mirrored(elbow)
    angles, excess = _arm(wrist, elbow)
    if excess > _TOLERANCE:
        angles, _ = min((_arm(wrist, bend) for bend in (elbow, *_BENDS)), key=lambda arm: arm[1])
    return {f"{side}_{name}": angle for name, angle in angles.items()}


def _arm(wrist: Point, elbow: Point) -> tuple[Angles, float]:
    """Return a left arm's angles, and by how many degrees they leave their ranges."""
    lift, plane, raised, rotate, bend = 0.0, 0.0, 0.0, 0.0, 0.0
    for _ in range(2):  # the collar bone moves the shoulder with the arm's raise
        shoulder = _plus(_COLLAR, _turn_z(_CLAVICLE, lift))
        upper, bend, lower = _two_bones(_minus(wrist, shoulder), elbow, _UPPER_ARM, _FOREARM)
        plane = math.atan2(upper[2], upper[0])
        if plane < math.radians(-145.0):  # nearer to the upper end of the range
            plane += 2 * math.pi
        raised = math.acos(min(max(-upper[1], -1.0), 1.0))
        front = _turn_z(_turn_y(lower, plane), -raised)
        rotate = math.degrees(math.atan2(front[0], front[2]) - plane)
        lift = min(max((raised - math.radians(40.0)) / 3.0, 0.0), math.radians(35.0))
    angles = {
        "arm_plane": math.degrees(plane),
        "arm_raise": math.degrees(raised),
        "arm_rotate": (rotate + 180.0) % 360.0 - 180.0,
        "elbow": math.degrees(bend),
    }
    excess = 0.0
    for name, angle in angles.items():
        lowest, highest = SIDE_RANGES[name]
        excess += max(lowest - angle, angle - highest, 0.0)
    return angles, excess


def step(side: str, ankle: Point, knee: Point = _KNEE) -> Angles:
    """Return the angles of a leg.

    Args:
        side: "left" or "right".
        ankle: the ankle in the pelvis' axes, from the pelvis.
        knee: direction to which the knee bends.
    """
    if side == "right":
        ankle, knee = mirrored(ankle), mirrored(knee)
    upper, bend, lower = _two_bones(_minus(ankle, _HIP), knee, _THIGH, _SHIN)
    flex = math.atan2(upper[2], -upper[1])
    if flex < math.radians(-90.0):  # a knee drawn up beyond the shoulder, not one far behind
        flex += 2 * math.pi
    abduct = math.asin(min(max(upper[0], -1.0), 1.0))
    back = _turn_z(_turn_x(lower, flex), -abduct)
    return {
        f"{side}_hip_flex": math.degrees(flex),
        f"{side}_hip_abduct": math.degrees(abduct),
        f"{side}_hip_rotate": math.degrees(math.atan2(-back[0], -back[2])),
        f"{side}_knee": math.degrees(bend),
    }


def _two_bones(
    offset: Point, hint: Point, first: float, second: float
) -> tuple[Point, float, Point]:
    """Return the first bone's direction, the bend (radians), and the direction of the bend.

    Targets out of reach are moved along the line to them. The direction of the bend is at right
    angles to the first bone.
    """
    distance = math.sqrt(_dot(offset, offset))
    ahead = _scaled(offset, 1.0 / max(distance, _NEVER))
    distance = min(max(distance, 0.3 * (first + second)), 0.998 * (first + second))
    aside = _minus(hint, _scaled(ahead, _dot(hint, ahead)))
    aside = _scaled(aside, 1.0 / max(math.sqrt(_dot(aside, aside)), _NEVER))
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    sine = math.sqrt(max(1.0 - cosine**2, 0.0))
    bend = math.acos((distance**2 - first**2 - second**2) / (2 * first * second))
    upper = _plus(_scaled(ahead, cosine), _scaled(aside, sine))
    return upper, bend, _minus(_scaled(ahead, sine), _scaled(aside, cosine))


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _plus(a: Point, b: Point) -> Point:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _scaled(a: Point, factor: float) -> Point:
    return a[0] * factor, a[1] * factor, a[2] * factor


def _turn_x(a: Point, angle: float) -> Point:
    c, s = math.cos(angle), math.sin(angle)
    return a[0], c * a[1] - s * a[2], s * a[1] + c * a[2]


def _turn_y(a: Point, angle: float) -> Point:
    c, s = math.cos(angle), math.sin(angle)
    return c * a[0] + s * a[2], a[1], c * a[2] - s * a[0]


def _turn_z(a: Point, angle: float) -> Point:
    c, s = math.cos(angle), math.sin(angle)
    return c * a[0] - s * a[1], s * a[0] + c * a[1], a[2]
