"""Finds the set of keypoints from the names that a file gives to its points."""

import re
from collections.abc import Sequence

from pare_jax.keypoints.sets import HALPE26, SETS, KeypointSet

# Names of points as other people write them, in small letters without anything between.
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_LIMB = {
    name.replace("_", ""): name
    for name in (
        *("eye", "ear", "mouth", "shoulder", "elbow", "wrist", "index", "pinky", "thumb"),
        *("hip", "knee", "ankle", "heel", "big_toe", "small_toe", "foot_index"),
    )
}
_MIDDLE = {
    **{name: name for name in ("nose", "pelvis", "spine", "thorax", "neck", "jaw")},
    **dict.fromkeys(("headtop", "tophead", "topofhead"), "head_top"),
    **dict.fromkeys(("upperneck", "bottomhead", "headbottom"), "upper_neck"),
    **dict.fromkeys(("root", "hip", "midhip"), "pelvis"),
    "midshoulder": "thorax",
    "neckbase": "jaw",
}
_FEET = {f"{written}foot": f"{side}_ankle" for written, side in _SIDES.items()}


def set_of_names(names: Sequence[str]) -> KeypointSet | None:
    """Return the set whose points have these names; a new one where no set of ours has them.

    "Right Shoulder", "right_shoulder", "RShoulder" and "r_shoulder" are one point. "head" is the
    top of the head, unless the list has a top of the head or a jaw. A foot is the ankle in lists
    without ankles but with a jaw, as MMPose names Human3.6M's points.

    Args:
        names: of the points, in the file's order.

    Returns:
        The set; points with other names have no body point. None if fewer than two have one.
    """
    found = [_body_point(name) for name in names]
    if "jaw" in found and "neck" not in found:  # Human3.6M's head and thorax, as MMPose names them
        found = ["neck" if point == "thorax" else point for point in found]
        if not {"left_ankle", "right_ankle"} & set(found):
            found = [
                _FEET.get(_plain(name), point) for name, point in zip(names, found, strict=True)
            ]
    elif not {"head_top", "jaw"} & set(found):
        found = ["head_top" if point == "head" else point for point in found]
        if len(found) == len(HALPE26.points) and "left_big_toe" in found:
            found = ["thorax" if point == "neck" else point for point in found]
    known = [point for point in found if point]
    if len(known) < 2 or len(set(known)) != len(known):
        return None
    points = tuple(found)
    same = (own for own in SETS.values() if own.points == points)
    return next(same, KeypointSet("own names", points))


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _body_point(name: str) -> str:
    """Return the body point of a name; an empty text if there is none."""
    plain = _plain(name)
    for written, side in _SIDES.items():
        for rest in (plain.removeprefix(written), plain.removesuffix(written)):
            if rest != plain and rest in _LIMB:
                return f"{side}_{_LIMB[rest]}"
    return "head" if plain == "head" else _MIDDLE.get(plain, "")
