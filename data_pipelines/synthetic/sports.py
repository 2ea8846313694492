"""Sports and riding.

As actions.py. Points are ankles and wrists in a frame at the pelvis with y up and the person facing
+z, metres (limb_targets.py).
"""

import numpy as np

from data_pipelines.synthetic.actions import LEAN, TIP, Action, Angles, any_arms, lunge, run
from data_pipelines.synthetic.gestures import about, flung, gesture, swung, two_hands
from data_pipelines.synthetic.limb_targets import Figure

_SIDES = (("left", 1.0), ("right", -1.0))


def ride_bicycle(rng: np.random.Generator) -> Angles:
    lean, turn = rng.uniform(5, 55), rng.uniform(0, 2 * np.pi)
    figure = Figure(lean, rng.uniform(5, 30))
    for side, sign in _SIDES:
        pedal = (
            sign * 0.11,
            -0.62 - 0.17 * sign * np.cos(turn),
            0.2 + 0.17 * sign * np.sin(turn),
        )
        figure.foot(side, pedal, (sign * 0.1, 0.2, 1.0))
    reach = rng.uniform(0.45, 0.6) + 0.003 * lean
    figure.hands((rng.uniform(0.16, 0.28), rng.uniform(0.0, 0.3), reach), (1.0, -0.8, -0.2))
    grip = {"left_forearm": 50, "right_forearm": 50}
    return {**figure.angles, **grip, "neck_flex": -0.6 * lean + rng.normal(5, 10)}


def ride_motorbike(rng: np.random.Generator) -> Angles:
    """Ride a motorbike, a horse or a scooter: legs astride, hands before the belly."""
    lean = rng.uniform(-5, 35)
    figure = Figure(lean, rng.uniform(0, 25))
    foot = (rng.uniform(0.16, 0.32), -rng.uniform(0.4, 0.7), rng.uniform(-0.1, 0.3))
    figure.feet(foot, (rng.uniform(0.4, 1.0), 0.3, 1.0))
    wrist = (rng.uniform(0.04, 0.35), rng.uniform(0.08, 0.3), rng.uniform(0.3, 0.5))
    figure.hands(about(rng, wrist), (1.0, -0.6, -0.2))
    grip = {"left_forearm": 50, "right_forearm": 50}
    return {
        **figure.angles,
        **grip,
        "neck_flex": -0.6 * lean + rng.normal(5, 10),
        TIP: rng.normal(0, 8),
    }


def ski(rng: np.random.Generator) -> Angles:
    lean, drop = rng.uniform(5, 45), rng.uniform(-0.84, -0.5)
    figure = Figure(lean, rng.uniform(5, 30), rng.normal(0, 6), rng.normal(0, 10))
    apart = rng.uniform(0.08, 0.25)
    for side, sign in _SIDES:
        ankle = about(rng, (sign * apart + rng.normal(0, 0.05), drop, -0.05), 0.05)
        figure.foot(side, ankle, (sign * 0.1, 0.0, 1.0))
        wrist = about(rng, (sign * 0.32, rng.uniform(0.0, 0.4), rng.uniform(0.15, 0.5)), 0.06)
        figure.hand(side, wrist, (sign * 1.0, -0.5, -0.5))
    looks = {"neck_flex": -0.7 * lean + rng.normal(0, 8), TIP: rng.normal(0, 9)}
    return {**figure.angles, **looks}


def skate(rng: np.random.Generator) -> Angles:
    """Push off with one leg, as in cross-country skiing, skating and inline skating."""
    lean = rng.uniform(10, 60)
    figure = Figure(lean, rng.uniform(5, 30), 0, rng.normal(0, 10))
    figure.foot("left", about(rng, (0.08, rng.uniform(-0.82, -0.6), 0.03), 0.05))
    back = (-rng.uniform(0.2, 0.5), rng.uniform(-0.75, -0.45), -rng.uniform(0.1, 0.55))
    figure.foot("right", back, (-0.3, -0.3, 1.0), flat=False)
    arms = two_hands(rng) if rng.random() < 0.5 else swung(rng)
    return {**arms, **figure.angles, "right_ankle": 15, "neck_flex": -0.6 * lean}


def ride_board(rng: np.random.Generator) -> Angles:
    """Snowboard, surf or skateboard: feet apart, knees bent, arms out."""
    lean, drop = rng.uniform(0, 45), rng.uniform(-0.82, -0.42)
    figure = Figure(lean, rng.uniform(0, 35), rng.normal(0, 10), rng.normal(0, 20))
    apart = rng.uniform(0.2, 0.36)
    for side, sign in _SIDES:
        figure.foot(side, about(rng, (sign * apart, drop, 0.0), 0.05), (sign * 0.5, 0.0, 1.0))
    turned = {"neck_twist": rng.uniform(-10, 60), TIP: rng.normal(0, 14)}
    return {**any_arms(rng), **figure.angles, **turned}


def swing_bat(rng: np.random.Generator) -> Angles:
    """Swing a bat, a club or a racket with both hands: from behind the shoulder to the other."""
    phase = rng.uniform(-1, 1)
    lean = rng.uniform(0, 30)
    figure = Figure(lean, rng.uniform(0, 15), rng.normal(0, 5), 40 * phase + rng.normal(0, 5))
    apart = rng.uniform(0.14, 0.4)
    drop = -np.sqrt(0.80**2 - apart**2) + rng.uniform(0.0, 0.15)
    for side, sign in _SIDES:
        ankle = about(rng, (sign * apart, drop, 0.0), 0.05)
        figure.foot(side, ankle, (sign * 0.4, 0.0, 1.0))
    lowest = rng.uniform(-0.1, 0.35)
    turn = 1.9 * phase
    x, z = 0.42 * np.sin(turn), 0.1 + 0.35 * np.cos(turn)
    y = lowest + (0.55 - lowest) * phase**2
    wrist = about(rng, (x, y, z), 0.02)
    figure.hand("left", wrist, (1.0, -0.5, 0.0))
    figure.hand("right", (wrist[0] - 0.06, wrist[1] + 0.04, wrist[2]), (-1.0, -0.5, 0.0))
    return {**figure.angles, "neck_twist": rng.normal(20, 20), "neck_flex": rng.uniform(-10, 25)}


def swing_racket(rng: np.random.Generator) -> Angles:
    """Hit with one hand: forehand, backhand, smash or serve."""
    legs = lunge(rng) if rng.random() < 0.4 else run(rng) if rng.random() < 0.3 else _ready(rng)
    kind = rng.random()
    figure = Figure(None, rng.uniform(-10, 20), rng.normal(0, 8), rng.uniform(-35, 35))
    if kind < 0.35:  # over the head
        wrist = (rng.uniform(0.05, 0.5), rng.uniform(0.55, 0.95), rng.uniform(-0.2, 0.3))
        elbow = (1.0, 0.3, 0.0)
    elif kind < 0.7:  # forehand
        wrist = (rng.uniform(0.3, 0.65), rng.uniform(0.0, 0.5), rng.uniform(-0.2, 0.45))
        elbow = (0.5, -1.0, -0.5)
    else:  # backhand
        wrist = (rng.uniform(-0.35, 0.1), rng.uniform(0.0, 0.5), rng.uniform(0.3, 0.5))
        elbow = (1.0, -0.4, 0.0)
    figure.hand("left", wrist, elbow)
    x, y, z = rng.uniform((-0.55, 0.0, 0.0), (-0.1, 0.7, 0.5))
    figure.hand("right", (x, y, z), (-1.0, -0.6, -0.3))
    legs.pop(LEAN, None)
    return {**legs, **figure.angles, "neck_flex": rng.normal(-8, 15)}


def pitch(rng: np.random.Generator) -> Angles:
    """Throw or bowl with a long stride: arm cocked behind to arm across the knee."""
    phase, stride = rng.uniform(0, 1), rng.uniform(0.25, 0.5)
    figure = Figure(10 + 40 * phase, 20 * phase, rng.normal(-6, 6), 35 - 70 * phase)
    drop = -np.sqrt(0.8**2 - stride**2)
    figure.foot("right", about(rng, (-0.12, drop, stride), 0.05))
    figure.foot("left", about(rng, (0.1, drop + 0.1, -stride), 0.06), flat=False)
    start, end = np.array([0.45, 0.6, -0.3]), np.array([-0.05, 0.1, 0.6])
    over = np.array([0.25, 0.95, 0.3])
    x, y, z = (1 - phase) ** 2 * start + 2 * phase * (1 - phase) * over + phase**2 * end
    figure.hand("left", (x, y, z), (1.0, 0.2, -0.2))
    other = (-rng.uniform(0.15, 0.5), rng.uniform(0.1, 0.5), 0.45 - 0.6 * phase)
    figure.hand("right", other, (-1.0, -0.5, -0.5))
    return {**figure.angles, "neck_flex": -15, "left_ankle": 30, "left_toes": 30}


def kick_ball(rng: np.random.Generator) -> Angles:
    """Kick, dribble or trap a ball, from the back swing to the follow-through."""
    phase = rng.uniform(-1, 1)
    lean = rng.uniform(-25, 15)
    legs = {
        "left_hip_flex": 30 + 60 * phase + rng.normal(0, 8),
        "left_hip_abduct": rng.uniform(0, 35),
        "left_hip_rotate": rng.uniform(-10, 40),
        "left_knee": rng.uniform(60, 110) if phase < -0.3 else rng.uniform(5, 60),
        "left_ankle": rng.uniform(0, 40),
        "right_hip_flex": rng.uniform(-5, 30),
        "right_knee": rng.uniform(5, 50),
        "right_hip_abduct": rng.uniform(-5, 15),
    }
    trunk = {"spine_twist": -15 * phase, "spine_flex": rng.uniform(0, 30), LEAN: lean}
    return {**trunk, **swung(rng), **legs, "neck_flex": rng.uniform(0, 35), TIP: rng.normal(0, 10)}


def jump(rng: np.random.Generator) -> Angles:
    """Jump, leap, head or catch a ball."""
    legs = {}
    for side in ("left", "right"):
        bent = rng.uniform(0, 1)
        legs[f"{side}_hip_flex"] = rng.uniform(-25, 90) * bent
        legs[f"{side}_knee"] = rng.uniform(0, 120) * bent
        legs[f"{side}_hip_abduct"] = rng.uniform(0, 40) * rng.random()
        legs[f"{side}_ankle"] = rng.uniform(10, 45)
    arms = gesture(rng) if rng.random() < 0.3 else flung(rng)
    trunk = {"spine_flex": rng.normal(3, 12), "spine_twist": rng.normal(0, 12)}
    return {**arms, **trunk, **legs, LEAN: rng.normal(2, 12), TIP: rng.normal(0, 8)}


def shoot(rng: np.random.Generator) -> Angles:
    """Shoot, block, spike or catch a ball over the head."""
    figure = Figure(rng.normal(0, 6), rng.uniform(-12, 8), rng.normal(0, 5), rng.normal(0, 10))
    drop = rng.uniform(-0.86, -0.7)
    for side, sign in _SIDES:
        figure.foot(side, about(rng, (sign * 0.12, drop, -0.03), 0.07))
    x, y, z = rng.uniform((-0.05, 0.55, 0.05), (0.3, 0.95, 0.35))
    figure.hand("left", (x, y, z), (1.0, 0.0, 0.6))
    figure.hand("right", about(rng, (x - 0.15, y - 0.05, z), 0.06), (-1.0, -0.2, 0.4))
    return {**figure.angles, "neck_flex": rng.uniform(-40, 0), "left_toes": 10, "right_toes": 10}


def receive(rng: np.random.Generator) -> Angles:
    """Wait with bent knees: a goalkeeper, a defender, a volleyball player, a tennis player."""
    figure = Figure(rng.uniform(10, 45), rng.uniform(0, 25), 0, rng.normal(0, 8))
    drop = rng.uniform(-0.75, -0.45)
    for side, sign in _SIDES:
        ankle = about(rng, (sign * rng.uniform(0.15, 0.38), drop, 0.02), 0.06)
        figure.foot(side, ankle, (sign * 0.5, 0.0, 1.0))
        wrist = (sign * rng.uniform(0.0, 0.5), rng.uniform(-0.15, 0.5), rng.uniform(0.25, 0.6))
        figure.hand(side, wrist, (sign * 1.0, -0.6, -0.3))
    return {**figure.angles, "neck_flex": rng.uniform(-40, 0)}


def box(rng: np.random.Generator) -> Angles:
    """Guard or punch."""
    figure = Figure(rng.uniform(0, 20), rng.uniform(0, 20), rng.normal(0, 6), rng.uniform(-30, 30))
    drop = rng.uniform(-0.82, -0.65)
    figure.foot("left", about(rng, (0.14, drop, 0.2), 0.06))
    figure.foot("right", about(rng, (-0.16, drop, -0.25), 0.06))
    for side, sign in _SIDES:
        punch = rng.uniform(0.45, 0.75) if rng.random() < 0.35 else rng.uniform(0.2, 0.4)
        wrist = (sign * rng.uniform(0.0, 0.25), rng.uniform(0.25, 0.6), punch)
        figure.hand(side, wrist, (sign * 0.8, -1.0, -0.2))
    return {**figure.angles, "left_forearm": 40, "right_forearm": 40, "neck_flex": 5}


def dive(rng: np.random.Generator) -> Angles:
    """Fly or slide flat with the arms ahead: goalkeepers, swimmers, base runners."""
    lean, tip = rng.uniform(50, 100), rng.uniform(-60, 60)
    legs = {}
    for side in ("left", "right"):
        legs[f"{side}_hip_flex"] = rng.uniform(-20, 45)
        legs[f"{side}_knee"] = rng.uniform(0, 80)
        legs[f"{side}_ankle"] = 30
    return {
        **flung(rng),
        **legs,
        "spine_flex": rng.normal(0, 10),
        "neck_flex": -25,
        LEAN: lean,
        TIP: tip,
    }


def run_freely(rng: np.random.Generator) -> Angles:
    """Run with the arms of games: a ball, a racket, pointing, balancing."""
    return {**run(rng), **(gesture(rng) if rng.random() < 0.5 else swung(rng))}


def _ready(rng: np.random.Generator) -> Angles:
    """Return legs apart with bent knees."""
    figure = Figure()
    drop = rng.uniform(-0.82, -0.6)
    for side, sign in _SIDES:
        ankle = about(rng, (sign * rng.uniform(0.12, 0.35), drop, 0.0), 0.1)
        figure.foot(side, ankle, (sign * 0.4, 0.0, 1.0))
    return figure.angles


# Sport -> weight.
SPORTS: dict[Action, float] = {
    ride_bicycle: 1.0,
    ride_motorbike: 1.0,
    ski: 1.2,
    skate: 0.8,
    ride_board: 1.2,
    swing_bat: 1.2,
    swing_racket: 1.5,
    pitch: 0.8,
    kick_ball: 1.2,
    run_freely: 1.2,
    jump: 1.0,
    shoot: 0.7,
    receive: 1.0,
    box: 0.6,
    dive: 0.4,
}
