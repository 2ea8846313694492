"""Everyday actions as distributions of joint angles.

Each action maps a random generator to angles in degrees (see angles.py). Angles that it does not
set keep the relaxed stance. The numbers are ours, chosen by looking at people and pictures. Half of
the poses are mirrored afterwards (poses.py), so each action is written for one side.
"""

from collections.abc import Callable

import numpy as np

# Angles of the whole body, degrees. Without LEAN, a body leans so that it keeps its balance.
LEAN = "lean"  # forwards; -90: on the back
TIP = "tip"  # to the left, after the lean

Angles = dict[str, float]
Action = Callable[[np.random.Generator], Angles]


def _legs(both: Angles | None = None, left: Angles | None = None, right: Angles | None = None):
    """Prefix angles with their side; `both` applies to left and right."""
    result = {}
    for side, own in (("left", left), ("right", right)):
        for name, value in {**(both or {}), **(own or {})}.items():
            result[f"{side}_{name}"] = value
    return result


_arms = _legs


def stance(rng: np.random.Generator) -> Angles:
    """Return standing legs, with the weight on both or on one and the other knee slack."""
    wide = rng.uniform(0, 10)
    slack = max(0.0, rng.normal(0, 12))
    return _legs(
        left={"hip_abduct": wide, "hip_flex": slack * 0.6, "knee": slack, "hip_rotate": 6.0},
        right={"hip_abduct": wide, "hip_rotate": 6.0, "knee": 2.0},
    )


def stand(rng: np.random.Generator) -> Angles:
    return stance(rng)


def walk(rng: np.random.Generator) -> Angles:
    stride, swing = rng.uniform(0.6, 1.3), rng.uniform(0.3, 1.4)
    return {
        "spine_flex": rng.normal(4, 3),
        "spine_twist": 6 * swing,
        **_legs(
            left={"hip_flex": 26 * stride, "knee": rng.uniform(2, 25), "ankle": -4},
            right={
                "hip_flex": -16 * stride,
                "knee": rng.uniform(8, 45),
                "ankle": 14,
                "toes": 18 * stride,
            },
        ),
        **_arms(
            left={"arm_plane": -50, "arm_raise": 22 * swing, "elbow": rng.uniform(5, 30)},
            right={"arm_plane": 85, "arm_raise": 22 * swing, "elbow": rng.uniform(10, 45)},
        ),
    }


def run(rng: np.random.Generator) -> Angles:
    stride = rng.uniform(0.7, 1.2)
    return {
        "spine_flex": rng.normal(12, 4),
        "spine_twist": 10,
        **_legs(
            left={"hip_flex": 55 * stride, "knee": rng.uniform(40, 100), "ankle": -5},
            right={"hip_flex": -20 * stride, "knee": rng.uniform(15, 95), "ankle": 25, "toes": 20},
        ),
        **_arms(
            {"elbow": rng.uniform(75, 105)},
            left={"arm_plane": -50, "arm_raise": 45 * stride, "arm_rotate": -10},
            right={"arm_plane": 80, "arm_raise": 35 * stride, "arm_rotate": -20},
        ),
    }


def sit(rng: np.random.Generator) -> Angles:
    hips = rng.uniform(75, 100)
    legs = {"hip_abduct": rng.uniform(2, 18), "hip_rotate": rng.uniform(0, 15)}
    angles = {
        LEAN: -5.0,
        "spine_flex": rng.normal(12, 12),
        **_legs(
            legs,
            left={"hip_flex": hips + rng.normal(0, 4), "knee": rng.uniform(60, 105)},
            right={"hip_flex": hips + rng.normal(0, 4), "knee": rng.uniform(60, 105)},
        ),
    }
    if rng.random() < 0.6:  # hands on the thighs
        raised = rng.uniform(25, 42)
        angles |= _arms(
            {
                "arm_plane": 75,
                "arm_raise": raised,
                "elbow": rng.uniform(35, 60),
                "arm_rotate": rng.uniform(-15, 10),
                "forearm": 50,
            }
        )
    return angles


def squat(rng: np.random.Generator) -> Angles:
    depth = rng.uniform(0.5, 1.0)
    reach = rng.uniform(20, 95)
    return {
        "spine_flex": 35 * depth,
        "neck_flex": -20 * depth,
        **_legs(
            {
                "hip_flex": 115 * depth,
                "knee": 125 * depth,
                "ankle": -20 * depth,
                "hip_abduct": rng.uniform(8, 25),
                "hip_rotate": rng.uniform(8, 25),
            }
        ),
        **_arms({"arm_plane": 80, "arm_raise": reach, "elbow": rng.uniform(5, 80)}),
    }


def lunge(rng: np.random.Generator) -> Angles:
    front = rng.uniform(40, 85)
    back = 18.0
    # The hind knee bends until both feet are level.
    drop = np.cos(np.deg2rad(front)) + 1.0 - np.cos(np.deg2rad(back))
    hind = np.rad2deg(np.arccos(np.clip(drop, -0.2, 1.0))) - back
    return {
        "spine_flex": rng.normal(8, 8),
        **_legs(
            left={"hip_flex": front, "knee": front, "ankle": -2},
            right={"hip_flex": -back, "knee": max(hind, 3), "ankle": 5, "toes": 35},
        ),
        **any_arms(rng),
    }


def kneel(rng: np.random.Generator) -> Angles:
    return {
        "spine_flex": rng.normal(12, 10),
        **_legs(
            left={"hip_flex": rng.uniform(75, 95), "knee": rng.uniform(85, 105)},
            right={"hip_flex": rng.normal(-5, 6), "knee": rng.uniform(85, 110), "ankle": 20},
        ),
        **any_arms(rng),
    }


def crouch_reach(rng: np.random.Generator) -> Angles:
    """Bend down to an object on the floor or a low table."""
    depth = rng.uniform(0.4, 1.0)
    return {
        "spine_flex": 60 * depth,
        "neck_flex": -25 * depth,
        **_legs(
            {
                "hip_flex": 65 * depth,
                "knee": rng.uniform(5, 60) * depth,
                "hip_abduct": rng.uniform(0, 15),
            }
        ),
        **_arms(
            left={"arm_plane": 80, "arm_raise": rng.uniform(40, 95), "elbow": rng.uniform(5, 50)},
            right={"arm_plane": 80, "arm_raise": rng.uniform(20, 95), "elbow": rng.uniform(5, 60)},
        ),
    }


def reach(rng: np.random.Generator) -> Angles:
    raised = rng.uniform(60, 170)
    return {
        **stance(rng),
        "neck_flex": -0.25 * (raised - 90),
        "spine_side": rng.normal(0, 8),
        **_arms(
            left={
                "arm_plane": rng.uniform(20, 100),
                "arm_raise": raised,
                "elbow": rng.uniform(2, 45),
                "arm_rotate": rng.normal(0, 20),
            },
        ),
    }


def arms_up(rng: np.random.Generator) -> Angles:
    return {
        **stance(rng),
        "neck_flex": rng.normal(-8, 8),
        **_arms(
            {
                "arm_plane": rng.uniform(0, 60),
                "arm_raise": rng.uniform(110, 175),
                "elbow": rng.uniform(0, 60),
                "arm_rotate": rng.uniform(0, 50),
            }
        ),
    }


def arms_out(rng: np.random.Generator) -> Angles:
    return {
        **stance(rng),
        **_arms(
            {
                "arm_plane": rng.uniform(-10, 40),
                "arm_raise": rng.uniform(60, 105),
                "elbow": rng.uniform(0, 35),
            }
        ),
    }


def wave(rng: np.random.Generator) -> Angles:
    return {
        **stance(rng),
        **_arms(
            left={
                "arm_plane": rng.uniform(0, 45),
                "arm_raise": rng.uniform(55, 120),
                "arm_rotate": rng.uniform(55, 90),
                "elbow": rng.uniform(50, 110),
                "forearm": rng.uniform(20, 70),
            },
        ),
    }


def point(rng: np.random.Generator) -> Angles:
    return {
        **stance(rng),
        "neck_twist": rng.uniform(0, 40),
        **_arms(
            left={
                "arm_plane": rng.uniform(-10, 100),
                "arm_raise": rng.uniform(70, 110),
                "elbow": rng.uniform(0, 15),
                "forearm": rng.uniform(0, 60),
            },
        ),
    }


def _crossed() -> tuple[Angles, Angles]:
    upper = {"arm_plane": 62, "arm_raise": 34, "arm_rotate": -62, "elbow": 98, "forearm": 20}
    lower = {"arm_plane": 66, "arm_raise": 26, "arm_rotate": -58, "elbow": 90, "forearm": 40}
    return upper, lower


def cross_arms(rng: np.random.Generator) -> Angles:
    upper, lower = _crossed()
    return {**stance(rng), **_arms(left=upper, right=lower)}


def hands_on_hips(rng: np.random.Generator) -> Angles:
    return {**stance(rng), **_arms(akimbo(rng))}


def akimbo(rng: np.random.Generator) -> Angles:
    return {
        "arm_plane": rng.uniform(-45, -20),
        "arm_raise": rng.uniform(42, 52),
        "arm_rotate": rng.uniform(-62, -48),
        "elbow": rng.uniform(88, 105),
        "forearm": 40,
        "wrist_flex": -25,
    }


def phone(rng: np.random.Generator) -> Angles:
    """Hold a hand to the ear."""
    return {
        **stance(rng),
        "neck_side": -rng.uniform(0, 12),
        **_arms(
            left={
                "arm_plane": rng.uniform(35, 60),
                "arm_raise": rng.uniform(40, 65),
                "arm_rotate": rng.uniform(5, 25),
                "elbow": rng.uniform(125, 140),
            },
        ),
    }


def read(rng: np.random.Generator) -> Angles:
    """Hold both hands in front of the chest, as with a book, a telephone or a plate."""
    return {
        **stance(rng),
        "neck_flex": rng.uniform(5, 30),
        **_arms(
            {
                "arm_plane": rng.uniform(65, 85),
                "arm_raise": rng.uniform(18, 45),
                "arm_rotate": rng.uniform(-35, -10),
                "elbow": rng.uniform(75, 110),
                "forearm": rng.uniform(-60, 20),
            }
        ),
    }


def carry(rng: np.random.Generator) -> Angles:
    return {
        **walk(rng),
        "spine_flex": rng.normal(-3, 4),
        **_arms(
            {
                "arm_plane": 75,
                "arm_raise": rng.uniform(10, 40),
                "arm_rotate": rng.uniform(-15, 10),
                "elbow": rng.uniform(60, 95),
            }
        ),
    }


def think(rng: np.random.Generator) -> Angles:
    """Hold a hand to the chin, the other arm across the belly or hanging."""
    return {
        **stance(rng),
        "neck_flex": rng.uniform(0, 15),
        **_arms(
            left={"arm_plane": 78, "arm_raise": 36, "arm_rotate": -14, "elbow": 128},
            right=_crossed()[1] if rng.random() < 0.5 else {},
        ),
    }


def hands_behind_head(rng: np.random.Generator) -> Angles:
    return {
        **stance(rng),
        **_arms(
            {
                "arm_plane": rng.uniform(10, 35),
                "arm_raise": rng.uniform(105, 125),
                "arm_rotate": rng.uniform(75, 90),
                "elbow": rng.uniform(112, 128),
            }
        ),
    }


def kick(rng: np.random.Generator) -> Angles:
    height = rng.uniform(25, 100)
    return {
        "spine_flex": rng.normal(-4, 8),
        **_legs(
            left={"hip_flex": height, "knee": rng.uniform(0, 70), "ankle": 20},
            right={"knee": rng.uniform(0, 20)},
        ),
        **any_arms(rng),
    }


def throw(rng: np.random.Generator) -> Angles:
    return {
        "spine_twist": rng.uniform(0, 30),
        **lunge(rng),
        **_arms(
            left={
                "arm_plane": rng.uniform(-30, 30),
                "arm_raise": rng.uniform(80, 115),
                "arm_rotate": rng.uniform(40, 90),
                "elbow": rng.uniform(50, 110),
            },
            right={"arm_plane": 70, "arm_raise": rng.uniform(40, 90), "elbow": 20},
        ),
    }


def stretch_side(rng: np.random.Generator) -> Angles:
    return {
        **stance(rng),
        "spine_side": -rng.uniform(10, 32),
        **_arms(
            left={"arm_plane": 10, "arm_raise": rng.uniform(140, 178), "elbow": 20},
            right=akimbo(rng),
        ),
    }


def dance(rng: np.random.Generator) -> Angles:
    return {
        "spine_side": rng.normal(0, 10),
        "spine_twist": rng.normal(0, 15),
        **_legs(
            {"hip_abduct": rng.uniform(2, 25)},
            left={"hip_flex": rng.uniform(0, 60), "knee": rng.uniform(5, 90)},
            right={"hip_flex": rng.uniform(0, 25), "knee": rng.uniform(0, 40)},
        ),
        **any_arms(rng),
    }


def any_arms(rng: np.random.Generator) -> Angles:
    """Return two independent arms that balance or gesture."""

    def arm() -> Angles:
        return {
            "arm_plane": rng.uniform(-10, 90),
            "arm_raise": rng.triangular(5, 35, 130),
            "arm_rotate": rng.normal(-10, 20),
            "elbow": rng.triangular(0, 30, 120),
            "forearm": rng.normal(0, 25),
        }

    return _arms(left=arm(), right=arm())


# Action -> weight; the weights need not sum to 1.
ACTIONS: dict[Action, float] = {
    stand: 3.0,
    walk: 3.0,
    run: 1.5,
    sit: 2.0,
    squat: 1.0,
    lunge: 1.0,
    kneel: 0.7,
    crouch_reach: 1.0,
    reach: 1.3,
    arms_up: 1.0,
    arms_out: 0.8,
    wave: 1.0,
    point: 0.8,
    cross_arms: 0.8,
    hands_on_hips: 0.8,
    phone: 0.6,
    read: 0.8,
    carry: 0.7,
    think: 0.5,
    hands_behind_head: 0.4,
    kick: 0.7,
    throw: 0.7,
    stretch_side: 0.4,
    dance: 1.0,
}
