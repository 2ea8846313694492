"""Keypoint sets: the point of each index, and sets found by the names of points."""

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.keypoints.point_names import set_of_names
from pare_jax.keypoints.sets import (
    COCO17,
    LIMB_POINTS,
    POINT_MIRROR,
    POINT_NAMES,
    SETS,
    find_set,
    point_index,
)

# As published, with l and r for the sides; - is a point without a body point.
ORDERS = {
    "coco17": """nose l_eye r_eye l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist
        l_hip r_hip l_knee r_knee l_ankle r_ankle""",
    "halpe26": """nose l_eye r_eye l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist
        l_hip r_hip l_knee r_knee l_ankle r_ankle head_top thorax pelvis
        l_big_toe r_big_toe l_small_toe r_small_toe l_heel r_heel""",
    "openpose25": """nose thorax r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist pelvis
        r_hip r_knee r_ankle l_hip l_knee l_ankle r_eye l_eye r_ear l_ear
        l_big_toe l_small_toe l_heel r_big_toe r_small_toe r_heel""",
    "openpose18": """nose thorax r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist
        r_hip r_knee r_ankle l_hip l_knee l_ankle r_eye l_eye r_ear l_ear""",
    "mpii16": """r_ankle r_knee r_hip l_hip l_knee l_ankle pelvis thorax upper_neck head_top
        r_wrist r_elbow r_shoulder l_shoulder l_elbow l_wrist""",
    "blazepose33": """nose - l_eye - - r_eye - l_ear r_ear l_mouth r_mouth l_shoulder r_shoulder
        l_elbow r_elbow l_wrist r_wrist l_pinky r_pinky l_index r_index l_thumb r_thumb
        l_hip r_hip l_knee r_knee l_ankle r_ankle l_heel r_heel l_foot_index r_foot_index""",
    "spin24": """r_ankle r_knee r_hip l_hip l_knee l_ankle r_wrist r_elbow r_shoulder
        l_shoulder l_elbow l_wrist neck head_top pelvis thorax spine jaw head
        nose l_eye r_eye l_ear r_ear""",
    "lsp14": """r_ankle r_knee r_hip l_hip l_knee l_ankle r_wrist r_elbow r_shoulder
        l_shoulder l_elbow l_wrist neck head_top""",
    "aic14": """r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist r_hip r_knee r_ankle
        l_hip l_knee l_ankle head_top neck""",
    "h36m17": """pelvis r_hip r_knee r_ankle l_hip l_knee l_ankle spine neck jaw head
        l_shoulder l_elbow l_wrist r_shoulder r_elbow r_wrist""",
    "mpi_inf_3dhp17": """head_top neck r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist
        r_hip r_knee r_ankle l_hip l_knee l_ankle pelvis spine head""",
}


def written_out(order):
    sides = {"l": "left_", "r": "right_"}
    parts = (name.partition("_") for name in order.split())
    return [
        "" if first == "-" else sides[first] + rest if first in sides else first + line + rest
        for first, line, rest in parts
    ]


@pytest.mark.parametrize("name", ORDERS)
def test_every_index_has_its_published_point(name):
    assert list(find_set(name).points) == written_out(ORDERS[name])


def test_wholebody_has_feet_mouth_and_knuckles():
    points = find_set("wholebody133").points
    assert len(points) == 133
    assert points[:17] == COCO17.points
    assert list(points[17:23]) == written_out(
        "l_big_toe l_small_toe l_heel r_big_toe r_small_toe r_heel"
    )
    # The face starts at 23, its right corner of the mouth is 48; the hands start at 91 and 112.
    others = {71: "right_mouth", 77: "left_mouth", 96: "left_index", 117: "right_index"}
    assert {number: points[number] for number in others} == others


def test_every_set_is_listed_and_names_no_point_twice():
    assert ORDERS.keys() | {"wholebody133"} == SETS.keys()
    for own in SETS.values():
        known = [name for name in own.points if name]
        assert len(set(known)) == len(known)
        assert set(known) <= set(POINT_NAMES)
        assert set(LIMB_POINTS) <= set(own.indices)


def test_mirroring_swaps_sides():
    for point, other in enumerate(POINT_MIRROR):
        assert POINT_MIRROR[other] == point
    assert POINT_MIRROR[point_index("left_big_toe")] == point_index("right_big_toe")
    assert POINT_MIRROR[point_index("head_top")] == point_index("head_top")


def test_values_move_to_their_body_points():
    spread = COCO17.spread(np.arange(34.0).reshape(17, 2), fill=-1)
    assert spread.shape == (len(POINT_NAMES), 2)
    np.testing.assert_array_equal(spread[point_index("left_ankle")], [30, 31])
    np.testing.assert_array_equal(spread[point_index("pelvis")], [-1, -1])
    with pytest.raises(UserError, match="coco17"):
        COCO17.spread(np.zeros((18, 2)))


@pytest.mark.parametrize("name", [name for name in ORDERS if name != "blazepose33"])
def test_sets_are_found_by_the_names_of_their_points(name):
    assert set_of_names(find_set(name).points) == find_set(name)


def test_names_are_read_as_others_write_them():
    aic = [name.replace("_", " ").title() for name in find_set("aic14").points]
    assert set_of_names(aic) == find_set("aic14")
    halpe = ["head", "neck", "hip"]
    names = [*COCO17.points, *halpe, *find_set("halpe26").points[20:]]
    assert set_of_names(names) == find_set("halpe26")
    h36m = {"pelvis": "root", "neck": "thorax", "jaw": "neck_base"}
    names = [h36m.get(name, name) for name in find_set("h36m17").points]
    assert set_of_names(names) == find_set("h36m17")
    assert set_of_names([name.replace("ankle", "foot") for name in names]) == find_set("h36m17")
    assert set_of_names(["left_foot", "left_knee", "nose"]).points[0] == ""
    own = set_of_names(["RShoulder", "l_shoulder", "wrist_left", "tail", "head"])
    assert own is not None
    assert own.points == ("right_shoulder", "left_shoulder", "left_wrist", "", "head_top")
    assert set_of_names(["tail", "front paw", "nose"]) is None
    assert set_of_names(["nose", "Nose", "neck"]) is None
