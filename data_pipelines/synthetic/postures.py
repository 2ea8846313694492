"""Sitting, kneeling, lying, bending, leaning and crawling, with arms that fit.

As actions.py. Points are ankles and wrists in a frame at the pelvis with y up and the person facing
+z, metres (limb_targets.py).
"""

import numpy as np

from data_pipelines.synthetic.actions import LEAN, TIP, Action, Angles, stance
from data_pipelines.synthetic.gestures import about, gesture
from data_pipelines.synthetic.limb_targets import Figure, mirrored


def _add_seat(rng: np.random.Generator, figure: Figure) -> Figure:
    """Add legs that hang or stand before a seat: parallel, apart, stretched or crossed."""
    seat, ahead = rng.uniform(0.34, 0.50), rng.uniform(0.22, 0.55)
    apart = rng.uniform(0.05, 0.25)
    knee = (rng.uniform(-0.05, 0.45), 0.6, 1.0)
    drop = -seat - 0.02
    kind = rng.random()
    if kind < 0.15:  # an ankle on the other knee
        figure.foot("right", about(rng, (-0.12, drop, 0.32), 0.04), mirrored(knee))
        return figure.foot("left", about(rng, (-0.12, 0.08, 0.38), 0.04), (1.0, 0.1, 0.6), False)
    if kind < 0.35:  # one thigh over the other
        figure.foot("right", about(rng, (0.0, drop, 0.38), 0.04), (-0.05, 0.6, 1.0))
        over = about(rng, (-0.12, drop + 0.16, 0.48), 0.05)
        return figure.foot("left", over, (-0.1, 1.0, 1.0), flat=False)
    if kind < 0.5:  # crossed ankles
        figure.foot("left", (-0.03, drop, ahead + 0.06), (0.5, 0.7, 1.0))
        return figure.foot("right", (0.03, drop, ahead - 0.04), (-0.5, 0.7, 1.0))
    figure.foot("left", about(rng, (apart, drop, ahead), 0.03), knee)
    back = (-apart, drop, ahead + rng.normal(0, 0.08))
    return figure.foot("right", back, mirrored(knee))


def sit_on_chair(rng: np.random.Generator) -> Angles:
    figure = Figure(rng.uniform(-22, 15), rng.normal(12, 10), rng.normal(0, 5), rng.normal(0, 8))
    return {**gesture(rng), **_add_seat(rng, figure).angles}


def sit_at_table(rng: np.random.Generator) -> Angles:
    """Sit with hands on a table, a keyboard, a plate, a wheel or a child."""
    figure = _add_seat(rng, Figure(rng.uniform(-15, 20), rng.uniform(5, 35), 0, rng.normal(0, 6)))
    height, ahead = rng.uniform(0.12, 0.32), rng.uniform(0.28, 0.48)
    for side, sign in (("left", 1), ("right", -1)):
        wrist = about(rng, (sign * rng.uniform(0.02, 0.28), height, ahead), 0.04)
        figure.hand(side, wrist, (sign * 1.0, -0.5, -0.3))
    looks = {"neck_flex": rng.uniform(-5, 35), "left_forearm": 60, "right_forearm": 60}
    return {**figure.angles, **looks}


def sit_hands_on_legs(rng: np.random.Generator) -> Angles:
    figure = _add_seat(rng, Figure(rng.uniform(-15, 25), rng.uniform(0, 30)))
    ahead = rng.uniform(0.2, 0.42)
    for side, sign in (("left", 1), ("right", -1)):
        wrist = about(rng, (sign * rng.uniform(0.05, 0.22), 0.14, ahead), 0.03)
        figure.hand(side, wrist, (sign * 1.0, -0.3, -0.3))
    return {**figure.angles, "left_forearm": 50, "right_forearm": 50}


def sit_cross_legged(rng: np.random.Generator) -> Angles:
    figure = Figure(rng.uniform(-18, 5), rng.uniform(5, 45), rng.normal(0, 4))
    figure.foot("left", about(rng, (-0.12, -0.06, 0.26), 0.03), (1.0, 0.15, 0.7), flat=False)
    figure.foot("right", about(rng, (0.12, -0.06, 0.34), 0.03), (-1.0, 0.15, 0.7), flat=False)
    return {**_resting(rng, figure, 0.28, 0.10), "left_ankle": 30, "right_ankle": 30}


def sit_on_floor(rng: np.random.Generator) -> Angles:
    """Sit with legs stretched, or with one or both knees up."""
    figure = Figure(rng.uniform(-30, 5), rng.uniform(0, 60), 0, rng.normal(0, 10))
    for side, sign in (("left", 1), ("right", -1)):
        ahead = rng.uniform(0.3, 0.82)
        ankle = (sign * rng.uniform(0.05, 0.35), -0.05, ahead)
        figure.foot(side, ankle, (sign * rng.uniform(-0.1, 0.6), 1.0, 0.3))
    return _resting(rng, figure, 0.4, 0.2)


def sit_sideways(rng: np.random.Generator) -> Angles:
    """Sit on the floor with both shins to one side."""
    figure = Figure(rng.uniform(-10, 10), rng.uniform(5, 20), rng.normal(-6, 5), rng.normal(0, 8))
    figure.foot("left", about(rng, (-0.16, -0.06, 0.22), 0.04), (0.9, 0.0, 1.0), flat=False)
    figure.foot("right", about(rng, (-0.46, -0.06, -0.08), 0.04), (-0.3, 0.0, 1.0), flat=False)
    return _resting(rng, figure, 0.3, 0.1)


def _resting(rng: np.random.Generator, figure: Figure, ahead: float, height: float) -> Angles:
    """Add arms to someone on the floor: behind for support, on or along the legs, a gesture."""
    kind = rng.random()
    if kind < 0.3:
        return {**gesture(rng), **figure.angles}
    for side, sign in (("left", 1), ("right", -1)):
        if kind < 0.55:  # on the floor beside or behind
            wrist = (sign * rng.uniform(0.2, 0.38), -0.02, rng.uniform(-0.4, 0.05))
            figure.hand(side, wrist, (sign * 0.5, 0.2, -1.0))
        else:
            along = ahead + rng.uniform(-0.1, 0.3)
            wrist = about(rng, (sign * rng.uniform(0.03, 0.3), height, along), 0.06)
            figure.hand(side, wrist, (sign * 1.0, -0.3, -0.2))
    return {**figure.angles, "neck_flex": rng.normal(0, 15)}


def kneel_on_both(rng: np.random.Generator) -> Angles:
    """Kneel upright or sit on the heels."""
    flex = rng.choice([rng.uniform(0, 20), rng.uniform(35, 60)])
    knee = min(90.0 + flex + rng.normal(0, 5), 135.0)
    lean = rng.normal(5, 8)
    legs = {"hip_flex": flex + lean, "knee": knee, "hip_abduct": rng.uniform(2, 18), "ankle": 45}
    both = {f"{side}_{name}": value for side in ("left", "right") for name, value in legs.items()}
    return {LEAN: lean, "spine_flex": rng.uniform(0, 30), **both, **gesture(rng)}


def squat_low(rng: np.random.Generator) -> Angles:
    """Squat on the feet or the toes: catchers, gardeners, children."""
    lean, apart = rng.uniform(-15, 20), rng.uniform(0.12, 0.32)
    figure = Figure(lean, rng.uniform(10, 55), 0, rng.normal(0, 8))
    drop = -rng.uniform(0.2, 0.38)
    for side, sign in (("left", 1), ("right", -1)):
        ankle = about(rng, (sign * apart, drop, 0.12), 0.04)
        figure.foot(side, ankle, (sign * rng.uniform(0.3, 1.0), 0.2, 1.0))
        wrist = (sign * rng.uniform(-0.05, 0.3), rng.uniform(-0.3, 0.3), rng.uniform(0.4, 0.6))
        figure.hand(side, wrist, (sign * 1.0, -0.5, 0.0))
    return {**figure.angles, "neck_flex": rng.uniform(-30, 10)}


def bend_hands_on_knees(rng: np.random.Generator) -> Angles:
    lean = rng.uniform(25, 60)
    figure = Figure(lean, rng.uniform(10, 35))
    drop = rng.uniform(-0.78, -0.66)
    figure.feet((rng.uniform(0.14, 0.25), drop, rng.uniform(-0.02, 0.08)), (0.3, 0.0, 1.0))
    figure.hands(about(rng, (0.2, 0.52 * drop + 0.08, 0.22), 0.03), (1.0, -0.2, -0.2))
    return {**figure.angles, "neck_flex": rng.uniform(-40, 10)}


def bend_down(rng: np.random.Generator) -> Angles:
    """Bend to the floor, a shoe or a low table, with straight or bent legs, also in a stride."""
    lean, flex = rng.uniform(35, 105), rng.uniform(15, 50)
    stride = rng.uniform(0.05, 0.25)
    figure = Figure(lean, flex, rng.normal(0, 6), rng.normal(0, 10))
    for side, sign in (("left", 1), ("right", -1)):
        ankle = (sign * rng.uniform(0.06, 0.3), rng.uniform(-0.84, -0.6), rng.normal(0.05, stride))
        figure.foot(side, ankle, (sign * 0.2, 0.0, 1.0))
        wrist = (sign * rng.uniform(-0.05, 0.3), rng.uniform(-0.7, 0.0), rng.uniform(0.3, 0.6))
        figure.hand(side, wrist, (sign * 1.0, -0.3, 0.0))
    return {**figure.angles, "neck_flex": rng.normal(-5, 20)}


def lean_on_table(rng: np.random.Generator) -> Angles:
    """Stand with one or both hands on a table, a rail or a bar."""
    figure = Figure(rng.uniform(5, 40), rng.uniform(0, 20), rng.normal(0, 5), rng.normal(0, 8))
    arms = gesture(rng)
    for side, sign in (("left", 1), ("right", -1)):
        figure.foot(side, about(rng, (sign * 0.13, -0.84, -0.05), 0.06))
        if side == "left" or rng.random() < 0.6:
            wrist = (sign * rng.uniform(0.1, 0.4), rng.uniform(0.0, 0.25), rng.uniform(0.3, 0.55))
            figure.hand(side, wrist, (sign * 1.0, -0.2, -0.6))
    return {**arms, **figure.angles}


def lean_aside(rng: np.random.Generator) -> Angles:
    """Lean against a wall, a tree or a friend, with a hand up at it."""
    tip = rng.uniform(3, 14)
    raised = {"left_arm_plane": rng.uniform(0, 40), "left_arm_raise": rng.uniform(60, 130)}
    bent = {"left_elbow": rng.uniform(5, 90), "left_arm_rotate": rng.uniform(20, 90)}
    return {**stance(rng), **gesture(rng), **raised, **bent, TIP: tip, LEAN: rng.normal(0, 3)}


def crawl(rng: np.random.Generator) -> Angles:
    """Go on hands and knees, or on hands and feet."""
    height = rng.choice([0.40, rng.uniform(0.5, 0.75)])
    lean = 90.0 - rng.uniform(-10, 15) + (30.0 if height > 0.45 else 0.0)
    figure = Figure(lean, rng.uniform(-10, 25), rng.normal(0, 5))
    for side, sign in (("left", 1), ("right", -1)):
        stride = rng.normal(0, 0.1)
        if height < 0.45:  # the thigh hangs, the shin lies on the floor
            ankle = (sign * rng.uniform(0.06, 0.2), -height + 0.04, -0.42 + stride)
            figure.foot(side, ankle, (sign * 0.15, -1.0, 0.4), flat=False)
        else:
            figure.foot(side, (sign * rng.uniform(0.08, 0.25), -height, -0.2 + stride), flat=False)
        wrist = (sign * rng.uniform(0.1, 0.28), -height + 0.06, 0.42 - stride)
        figure.hand(side, wrist, (sign * 1.0, 0.0, -1.0))
    wrists = {"left_wrist_flex": -60, "right_wrist_flex": -60}
    return {**figure.angles, **wrists, "neck_flex": rng.uniform(-45, 20)}


def push_up(rng: np.random.Generator) -> Angles:
    """Hold a plank on the hands, straight or low."""
    lean, height = rng.uniform(68, 88), rng.uniform(0.15, 0.42)
    figure = Figure(lean, rng.normal(0, 4))
    figure.feet((rng.uniform(0.05, 0.2), 0.1 - height, -0.84), flat=False)
    figure.hands((rng.uniform(0.18, 0.32), -height, 0.40), (1.0, 0.4, -0.8))
    feet = {"left_ankle": -15, "right_ankle": -15, "left_toes": 50, "right_toes": 50}
    wrists = {"left_wrist_flex": -65, "right_wrist_flex": -65}
    return {**figure.angles, **feet, **wrists, "neck_flex": rng.uniform(-35, 10)}


def lie(rng: np.random.Generator) -> Angles:
    """Lie on the back, the side or the belly, with legs stretched or drawn up."""
    tip = rng.choice([0.0, 90.0, 180.0], p=[0.5, 0.3, 0.2]) + rng.normal(0, 12)
    curl = rng.uniform(0, 1) * (1.0 if abs(tip) < 150 else 0.15)
    legs = {}
    for side in ("left", "right"):
        bent = curl * rng.uniform(0, 1)
        legs |= {f"{side}_hip_flex": 85 * bent, f"{side}_knee": rng.uniform(70, 130) * bent}
        legs |= {f"{side}_hip_abduct": rng.uniform(0, 15), f"{side}_hip_rotate": rng.normal(5, 15)}
    arms = gesture(rng)
    spine = {"spine_flex": rng.uniform(-5, 30) * curl, "spine_twist": rng.normal(0, 8)}
    return {**arms, **spine, **legs, "left_ankle": 25, "right_ankle": 25, LEAN: -90, TIP: tip}


def recline(rng: np.random.Generator) -> Angles:
    """Lie back on a sofa, a deck chair or a slope."""
    lean = rng.uniform(-70, -25)
    figure = _add_seat(rng, Figure(lean, rng.uniform(0, 30)))
    if rng.random() < 0.6:
        for side, sign in (("left", 1), ("right", -1)):
            ankle = (sign * rng.uniform(0.0, 0.25), rng.uniform(-0.3, 0.1), rng.uniform(0.6, 0.84))
            figure.foot(side, ankle, (sign * 0.2, 1.0, 0.0), flat=False)
    return {**gesture(rng), **figure.angles}


# Posture -> weight.
POSTURES: dict[Action, float] = {
    sit_on_chair: 3.0,
    sit_at_table: 2.0,
    sit_hands_on_legs: 1.2,
    sit_cross_legged: 0.7,
    sit_on_floor: 1.0,
    sit_sideways: 0.4,
    kneel_on_both: 0.7,
    squat_low: 0.8,
    bend_hands_on_knees: 0.7,
    bend_down: 1.0,
    lean_on_table: 0.8,
    lean_aside: 0.6,
    crawl: 0.5,
    push_up: 0.4,
    lie: 1.2,
    recline: 0.6,
}
