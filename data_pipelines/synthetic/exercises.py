"""Lifting, climbing, yoga, gymnastics, martial arts and dance.

As actions.py. Points are ankles and wrists in a frame at the pelvis with y up and the person facing
+z, metres (limb_targets.py).
"""

import numpy as np

from data_pipelines.synthetic.actions import LEAN, TIP, Action, Angles, any_arms, dance
from data_pipelines.synthetic.gestures import about, flung, gesture
from data_pipelines.synthetic.limb_targets import Figure

_SIDES = (("left", 1.0), ("right", -1.0))


def kick_high(rng: np.random.Generator) -> Angles:
    """Kick to the front or the side, as in martial arts and dance."""
    tip, aside = rng.uniform(0, 45), rng.uniform(0, 1)
    leg = {
        "left_hip_flex": rng.uniform(50, 115) * (1 - 0.6 * aside),
        "left_hip_abduct": 45 * aside + rng.uniform(0, 10),
        "left_hip_rotate": rng.uniform(-30, 30),
        "left_knee": rng.uniform(0, 1) ** 2 * 110,
        "left_ankle": rng.uniform(-10, 45),
        "right_hip_abduct": tip * 0.6 * aside,
        "right_knee": rng.uniform(0, 25),
    }
    arms = flung(rng) if rng.random() < 0.5 else any_arms(rng)
    lean = -rng.uniform(0, 25) * (1 - aside) + rng.normal(0, 4)
    return {**arms, **leg, "spine_side": tip * 0.3 * aside, LEAN: lean, TIP: -tip * aside}


def lift_barbell(rng: np.random.Generator) -> Angles:
    """Squat or lunge with a bar on the shoulders, or press it over the head."""
    lean = rng.uniform(0, 35)
    figure = Figure(lean, rng.uniform(-5, 15))
    if rng.random() < 0.5:  # squat
        drop = rng.uniform(-0.84, -0.25)
        foot = (rng.uniform(0.14, 0.34), drop, 0.1 * (1 + drop))
        figure.feet(foot, (0.5, 0.2, 1.0))
    else:  # lunge
        drop = rng.uniform(-0.75, -0.42)
        figure.foot("left", about(rng, (0.12, drop, rng.uniform(0.3, 0.45)), 0.03))
        figure.foot("right", (-0.12, drop + 0.06, -rng.uniform(0.3, 0.5)), (-0.1, -1, 0.6), False)
        figure.set(right_ankle=0, right_toes=45)
    kind = rng.random()
    grip = rng.uniform(0.25, 0.48)
    level = 0.42 * np.array([0.0, np.cos(np.radians(lean)), np.sin(np.radians(lean))])
    if kind < 0.6:  # on the shoulders
        x, y, z = level + np.array([grip, rng.uniform(0.0, 0.08), rng.uniform(-0.02, 0.05)])
        figure.hands((x, y, z), (0.4, -1.0, -0.5))
    elif kind < 0.8:  # overhead
        figure.hands((grip, 0.85, 0.05 + level[2]), (1.0, 0.0, 0.3))
    else:  # before the throat
        x, y, z = level + np.array([0.22, 0.02, 0.18])
        figure.hands((x, y, z), (0.4, -0.6, 1.0))
    return {**figure.angles, "neck_flex": -0.5 * lean + rng.normal(0, 8)}


def lift_from_floor(rng: np.random.Generator) -> Angles:
    """Lift a bar or a box from the floor, row, or pull a rope."""
    lean, drop = rng.uniform(15, 70), rng.uniform(-0.8, -0.45)
    figure = Figure(lean, rng.uniform(-5, 30))
    figure.feet((rng.uniform(0.1, 0.3), drop, rng.uniform(0.0, 0.15)), (0.4, 0.0, 1.0))
    low = rng.uniform(drop + 0.1, 0.0)
    figure.hands((rng.uniform(0.05, 0.35), low, rng.uniform(0.3, 0.5)), (0.8, 0.0, -1.0))
    return {**figure.angles, "neck_flex": -0.5 * lean}


def climb(rng: np.random.Generator) -> Angles:
    """Climb a wall, a ladder or stairs."""
    figure = Figure(rng.uniform(-10, 30), rng.uniform(-5, 20), rng.normal(0, 8), rng.normal(0, 8))
    for side, sign in _SIDES:
        ankle = (sign * rng.uniform(0.05, 0.4), rng.uniform(-0.85, -0.3), rng.uniform(0.05, 0.35))
        figure.foot(side, ankle, (sign * 0.6, 0.3, 1.0))
        wrist = (sign * rng.uniform(0.05, 0.45), rng.uniform(0.3, 0.95), rng.uniform(0.3, 0.5))
        figure.hand(side, wrist, (sign * 1.0, -0.7, 0.0))
    return {**figure.angles, "neck_flex": rng.uniform(-45, 10)}


def hang_or_swing(rng: np.random.Generator) -> Angles:
    """Hang from a bar or rings, or hold the ropes of a swing."""
    figure = Figure(rng.normal(0, 12), rng.normal(0, 8), rng.normal(0, 4))
    figure.hands((rng.uniform(0.12, 0.4), rng.uniform(0.5, 0.95), 0.08), (1.0, -0.2, 0.3))
    bent = rng.uniform(0, 1)
    for side, sign in _SIDES:
        ankle = (sign * 0.1, -0.84 + 0.5 * bent, rng.uniform(-0.3, 0.5) * bent)
        figure.foot(side, ankle, (sign * 0.2, 0.3, 1.0), flat=False)
    return {**figure.angles, "left_ankle": 30, "right_ankle": 30}


def yoga(rng: np.random.Generator) -> Angles:
    """Warrior, triangle, tree and one-legged balances."""
    kind = rng.integers(4)
    figure = Figure(rng.normal(0, 4), rng.normal(0, 5))
    if kind == 0:  # warrior: wide stride sideways, one knee bent, arms level or up
        figure.foot("left", about(rng, (0.48, rng.uniform(-0.7, -0.5), 0.05), 0.04), (1, 0, 0.3))
        figure.foot("right", (-0.6, -0.55, 0.0), (-0.4, 0.0, 1.0))
        arms = {"arm_plane": 10, "arm_raise": rng.choice([90, 170]), "elbow": 5, "arm_rotate": 10}
        both = {f"{side}_{name}": v for side in ("left", "right") for name, v in arms.items()}
        return {**figure.angles, **both, "neck_twist": 50}
    if kind == 1:  # triangle: a hand at one foot, the other up
        raised = {"right_arm_plane": 5, "right_arm_raise": rng.uniform(80, 140), "right_elbow": 5}
        lower = {"left_arm_plane": 20, "left_arm_raise": rng.uniform(40, 90), "left_elbow": 5}
        wide = {"left_hip_abduct": 10, "right_hip_abduct": 45, "spine_side": rng.uniform(10, 35)}
        return {**raised, **lower, **wide, LEAN: rng.normal(0, 5), TIP: rng.uniform(15, 50)}
    if kind == 2:  # tree: a foot at the other knee
        figure.foot("right", (-0.04, -0.86, -0.02))
        figure.foot("left", (-0.02, rng.uniform(-0.55, -0.3), 0.1), (1.0, 0.0, 0.4), flat=False)
        if rng.random() < 0.5:
            figure.hands((0.08, rng.uniform(0.75, 0.95), 0.05), (1.0, 0.0, 0.2))
            return figure.angles
        return {**gesture(rng), **figure.angles}
    lean = rng.uniform(20, 85)  # scales, arabesque: one leg behind
    leg = {"left_hip_flex": -28, "left_knee": rng.uniform(0, 1) ** 2 * 100, "left_ankle": 40}
    right = {"right_hip_flex": lean + rng.normal(0, 4), "right_knee": rng.uniform(0, 15)}
    return {**flung(rng), **leg, **right, "neck_flex": -0.4 * lean, LEAN: lean}


def upside_down(rng: np.random.Generator) -> Angles:
    """Stand on the hands, turn a cartwheel, dive."""
    arms = {"arm_plane": rng.uniform(20, 90), "arm_raise": rng.uniform(145, 178), "elbow": 10}
    both = {f"{side}_{name}": value for side in ("left", "right") for name, value in arms.items()}
    legs = {}
    for side in ("left", "right"):
        legs[f"{side}_hip_abduct"] = rng.uniform(0, 45)
        legs[f"{side}_hip_flex"] = rng.normal(5, 25)
        legs[f"{side}_knee"] = rng.uniform(0, 1) ** 2 * 90
        legs[f"{side}_ankle"] = 35
    turn = {LEAN: rng.normal(0, 15), TIP: rng.uniform(70, 180)}
    return {**both, **legs, **turn, "spine_flex": rng.normal(0, 12)}


def dance_freely(rng: np.random.Generator) -> Angles:
    arms = flung(rng) if rng.random() < 0.5 else gesture(rng)
    return {**dance(rng), **arms, "neck_side": rng.normal(0, 10)}


# Exercise -> weight.
EXERCISES: dict[Action, float] = {
    kick_high: 0.7,
    lift_barbell: 1.0,
    lift_from_floor: 0.6,
    climb: 0.8,
    hang_or_swing: 0.4,
    yoga: 0.8,
    upside_down: 0.4,
    dance_freely: 1.0,
}
