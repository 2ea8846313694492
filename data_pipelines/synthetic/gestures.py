"""Poses of arms: gestures, holding things, hands at the body.

Each gesture maps a random generator to the angles of both arms. Points are the wrists' in the
chest's axes, from the middle of the shoulders, metres (limb_targets.py). The numbers are ours,
chosen by looking at pictures. An arm that a gesture does not set hangs.
"""

from collections.abc import Mapping

import numpy as np

from data_pipelines.synthetic.actions import Action, Angles, stance, walk
from data_pipelines.synthetic.limb_targets import Point, mirrored, reach

_OUT, _DOWN, _BACK = (1.0, -0.5, -0.3), (0.3, -1.0, -0.2), (0.5, -0.4, -1.0)


def about(rng: np.random.Generator, point: Point, spread: float = 0.03) -> Point:
    """Return a random point about another; `spread` is the standard deviation, metres."""
    x, y, z = rng.normal(point, spread)
    return float(x), float(y), float(z)


def _both(rng: np.random.Generator, wrist: Point, elbow: Point, spread: float = 0.03) -> Angles:
    left, right = about(rng, wrist, spread), mirrored(about(rng, wrist, spread))
    return reach("left", left, elbow) | reach("right", right, mirrored(elbow))


def _forearms(pronation: float, flex: float = 0.0) -> Angles:
    names = {"forearm": pronation, "wrist_flex": flex}
    return {f"{s}_{name}": value for s in ("left", "right") for name, value in names.items()}


def hang(rng: np.random.Generator) -> Angles:
    return {}


def clasp_low(rng: np.random.Generator) -> Angles:
    return _both(rng, (0.05, -0.38, 0.18), _OUT) | _forearms(40)


def clasp_behind(rng: np.random.Generator) -> Angles:
    arms = {}
    for side in ("left", "right"):  # at the edge of the shoulder's range
        arms[f"{side}_arm_plane"] = rng.uniform(-60, -50)
        arms[f"{side}_arm_raise"] = rng.uniform(38, 52)
        arms[f"{side}_arm_rotate"] = rng.uniform(-70, -60)
        arms[f"{side}_elbow"] = rng.uniform(70, 92)
    return arms | _forearms(60)


def clasp_high(rng: np.random.Generator) -> Angles:
    return _both(rng, (0.06, rng.uniform(-0.25, -0.02), 0.24), _DOWN)


def pockets(rng: np.random.Generator) -> Angles:
    return _both(rng, (0.24, -0.41, 0.02), _BACK, 0.02) | _forearms(30)


def hold_low(rng: np.random.Generator) -> Angles:
    """Hold a box, a tray, a ball or a bar in front of the belly."""
    wrist = (rng.uniform(0.08, 0.25), rng.uniform(-0.4, -0.2), rng.uniform(0.25, 0.38))
    return _both(rng, wrist, _DOWN) | _forearms(rng.uniform(-70, 60))


def hold_high(rng: np.random.Generator) -> Angles:
    """Hold something with both hands before chest or face: a telephone, a book, a camera."""
    wrist = (rng.uniform(0.05, 0.18), rng.uniform(-0.25, 0.14), rng.uniform(0.2, 0.4))
    return _both(rng, wrist, (0.6, -1.0, 0.0)) | _forearms(rng.uniform(-60, 30))


def push(rng: np.random.Generator) -> Angles:
    """Hold a handle, a rail or a wheel with both hands."""
    wrist = (rng.uniform(0.12, 0.3), rng.uniform(-0.4, 0.05), rng.uniform(0.35, 0.47))
    return _both(rng, wrist, _OUT) | _forearms(60)


def overhead(rng: np.random.Generator) -> Angles:
    wrist = (rng.uniform(0.05, 0.4), rng.uniform(0.3, 0.55), rng.uniform(-0.1, 0.25))
    return _both(rng, wrist, (1.0, 0.0, 0.4))


def straps(rng: np.random.Generator) -> Angles:
    """Hold the straps of a rucksack, or hands at the shoulders."""
    return _both(rng, (0.16, rng.uniform(-0.16, 0.0), 0.16), _DOWN, 0.02)


def face(rng: np.random.Generator) -> Angles:
    """Hold both hands before face or head."""
    wrist = (rng.uniform(0.08, 0.16), rng.uniform(0.0, 0.25), rng.uniform(0.12, 0.22))
    return _both(rng, wrist, (0.8, -1.0, 0.3), 0.02)


def cross(rng: np.random.Generator) -> Angles:
    """Cross the arms before the chest or the belly."""
    low = rng.uniform(-0.26, -0.12)
    left = reach("left", about(rng, (-0.08, low, 0.23), 0.02), _OUT)
    right = reach("right", about(rng, (0.08, low + 0.06, 0.17), 0.02), mirrored(_OUT))
    return left | right | _forearms(20)


def two_hands_aside(rng: np.random.Generator) -> Angles:
    """Hold a long thing with both hands close together: a bat, a club, a broom, a rod."""
    x, y, z = rng.uniform((-0.3, -0.4, 0.15), (0.5, 0.25, 0.42))
    near, far = (x + 0.05, y, z), (x - 0.05, y + rng.uniform(-0.1, 0.1), z)
    return reach("left", near, _OUT) | reach("right", far, mirrored(_OUT))


# One arm: wrist, spread (metres), direction of the elbow.
_ONE_ARM: tuple[tuple[float, Point, Point, Point], ...] = (
    (1.0, (0.24, -0.42, 0.02), (0.02, 0.02, 0.02), _BACK),  # in a pocket
    (1.0, (0.23, -0.31, 0.03), (0.02, 0.03, 0.03), (1.0, 0.0, -0.4)),  # at the hip
    (1.0, (0.12, 0.13, 0.08), (0.02, 0.03, 0.04), _OUT),  # at the ear
    (1.0, (0.06, 0.05, 0.20), (0.03, 0.04, 0.03), _DOWN),  # at chin or mouth
    (1.0, (-0.05, -0.22, 0.22), (0.05, 0.06, 0.03), _OUT),  # across the belly
    (0.6, (-0.02, -0.05, 0.20), (0.05, 0.05, 0.03), _OUT),  # at the chest
    (1.0, (0.15, -0.15, 0.32), (0.08, 0.10, 0.05), _DOWN),  # holding something
    (0.6, (0.15, 0.20, 0.22), (0.05, 0.05, 0.05), _OUT),  # shading the eyes, saluting
    (0.5, (0.12, 0.28, -0.05), (0.05, 0.05, 0.04), (1.0, 0.3, 0.2)),  # at the back of the head
    (0.6, (0.55, -0.05, 0.10), (0.07, 0.12, 0.10), (0.0, -1.0, -0.5)),  # about someone, leaning
    (0.8, (0.30, 0.42, 0.10), (0.12, 0.06, 0.12), (1.0, 0.0, 0.3)),  # up
    (0.6, (0.18, 0.02, 0.48), (0.10, 0.12, 0.03), _DOWN),  # forwards
    (0.4, (0.10, -0.33, -0.20), (0.04, 0.05, 0.02), _BACK),  # behind the back
    (1.0, (0.30, -0.44, 0.05), (0.06, 0.03, 0.10), _BACK),  # carrying a bag
    (2.5, (0.22, -0.05, 0.25), (0.20, 0.22, 0.15), _DOWN),  # anywhere in front
)
_ONE_ARM_WEIGHTS = np.array([arm[0] for arm in _ONE_ARM])


def one_arm(rng: np.random.Generator, side: str) -> Angles:
    """Return the angles of one arm: at the body, holding something, or anywhere in front."""
    edges = np.cumsum(_ONE_ARM_WEIGHTS)
    number = int(np.searchsorted(edges, rng.random() * edges[-1]))
    _, wrist, spread, elbow = _ONE_ARM[number]
    x, y, z = rng.normal(wrist, spread)
    if side == "right":
        x, elbow = -x, mirrored(elbow)
    return {f"{side}_forearm": rng.normal(15, 30), **reach(side, (x, y, z), elbow)}


def one_hand(rng: np.random.Generator) -> Angles:
    return one_arm(rng, "left")


def two_hands(rng: np.random.Generator) -> Angles:
    return one_arm(rng, "left") | one_arm(rng, "right")


def swung(rng: np.random.Generator) -> Angles:
    """Return arms that balance: one forwards, one back, or both out."""
    return {
        "left_arm_plane": rng.uniform(-60, 20),
        "left_arm_raise": rng.uniform(15, 100),
        "left_arm_rotate": rng.normal(0, 20),
        "left_elbow": rng.uniform(0, 90),
        "right_arm_plane": rng.uniform(0, 100),
        "right_arm_raise": rng.uniform(15, 100),
        "right_arm_rotate": rng.normal(0, 20),
        "right_elbow": rng.uniform(0, 110),
    }


def flung(rng: np.random.Generator) -> Angles:
    """Return arms that are raised anywhere."""
    arms = {}
    for side in ("left", "right"):
        arms[f"{side}_arm_plane"] = rng.uniform(-40, 110)
        arms[f"{side}_arm_raise"] = rng.uniform(40, 178)
        arms[f"{side}_arm_rotate"] = rng.normal(10, 30)
        arms[f"{side}_elbow"] = rng.uniform(0, 1) ** 2 * 120
        arms[f"{side}_forearm"] = rng.normal(0, 30)
    return arms


# Gesture -> weight.
GESTURES: dict[Action, float] = {
    hang: 1.0,
    clasp_low: 1.0,
    clasp_behind: 0.7,
    clasp_high: 0.7,
    pockets: 0.7,
    hold_low: 1.0,
    hold_high: 1.5,
    push: 0.7,
    overhead: 0.5,
    straps: 0.4,
    face: 0.4,
    cross: 1.0,
    two_hands_aside: 0.7,
    one_hand: 2.5,
    two_hands: 4.0,
}


def pick(rng: np.random.Generator, choices: Mapping[Action, float]) -> Angles:
    """Draw from one of several distributions of angles, given with their weights."""
    edges = np.cumsum([*choices.values()])
    number = int(np.searchsorted(edges, rng.random() * edges[-1]))
    return tuple(choices)[number](rng)


def gesture(rng: np.random.Generator) -> Angles:
    """Draw both arms and where the person looks."""
    return {
        "neck_flex": rng.normal(5, 10),
        "neck_twist": rng.normal(0, 15),
        **pick(rng, GESTURES),
    }


def stand_with_gesture(rng: np.random.Generator) -> Angles:
    return {"spine_flex": rng.normal(2, 4), **stance(rng), **gesture(rng)}


def walk_with_gesture(rng: np.random.Generator) -> Angles:
    return {**walk(rng), **gesture(rng)}


# Action -> weight.
GESTURING: dict[Action, float] = {stand_with_gesture: 6.0, walk_with_gesture: 2.5}
