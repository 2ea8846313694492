"""Fits of a prepared split: files, verdicts, resuming, replacing; starts; refusals."""

import numpy as np
import pytest

from data_pipelines.fits.fit_file import VERDICTS, fits_path, read_fits
from data_pipelines.fits.fit_people import fit_split
from data_pipelines.fits.label_points import moved_camera, points_of
from data_pipelines.fits.label_starts import NetworkStarts
from pare_jax.errors import UserError
from pare_jax.fitting.fitter import FitSettings
from pare_jax.geometry import camera_translation, project
from pare_jax.keypoints.sets import point_index
from pare_jax.skeleton import joint_index
from tests.data_pipelines.fits.made_up_fits import SIDE, DrawnSplit, TrueStarts
from tests.fitting.drawn_points import drawn_pose, free_points

QUICK = FitSettings(starts=2, kept=1, first_steps=3, steps=3, refine_steps=4, batch=2)


def test_a_killed_fit_goes_on_and_another_network_replaces_the_fits(tmp_path):
    source = DrawnSplit(tmp_path)
    source[1]["points_2d_weight"] = 0 * source[1]["points_2d_weight"]
    source[1]["joints_2d_weight"] = 0 * source[1]["joints_2d_weight"]
    source[1]["head_top_weight"] = np.float32(0)
    few = np.arange(len(source[2]["points_2d"])) == point_index("nose")
    source[2]["points_2d_weight"] = few.astype(np.float32)
    killed = TrueStarts(deadly=1)
    with pytest.raises(KeyboardInterrupt):
        fit_split(source, killed, QUICK, people_a_piece=2)
    assert killed.asked == [[0]]
    resumed = TrueStarts()
    fits = fit_split(source, resumed, QUICK, people_a_piece=2)
    assert resumed.asked == [[3]]
    assert [VERDICTS[k] for k in fits.columns.verdict] == [
        "good",
        "no points",
        "few points",
        "good",
    ]
    assert fits.columns.error[[0, 3]].max() < 0.02
    assert fits.columns.plausibility[[0, 3]].min() > 0
    assert np.isfinite(fits.columns.agreement[[0, 3]]).all()
    # Finished fits are not made again, and no scratch files are left.
    again = TrueStarts()
    assert fit_split(source, again, QUICK, people_a_piece=2).digest == fits.digest
    assert again.asked == []
    assert [p.name for p in fits_path(tmp_path, "train").parent.glob("[!.]*")] == ["train.npz"]
    other = TrueStarts(digest="second", deadly=1)
    with pytest.raises(KeyboardInterrupt):
        fit_split(source, other, QUICK, people_a_piece=2)
    assert read_fits(fits_path(tmp_path, "train")).header == fits.header
    replaced = fit_split(source, TrueStarts(digest="second"), QUICK, people_a_piece=2)
    assert replaced.header["network"]["digest"] == "second"


def test_damaged_fits_are_refused_by_name(tmp_path):
    path = tmp_path / "train.npz"
    path.write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"train\.npz"):
        read_fits(path)
    np.savez(path, verdict=np.zeros(3, np.uint8))
    with pytest.raises(UserError, match="rotations"):
        read_fits(path)


def test_a_dataset_without_body_points_gives_those_of_its_joints(tmp_path):
    example = DrawnSplit(tmp_path)[0]
    example["points_2d_weight"] = 0 * example["points_2d_weight"]
    points = points_of(example)
    for joint, point in (("left_knee", "left_knee"), ("neck", "upper_neck")):
        own = example["joints_2d"][joint_index(joint)]
        np.testing.assert_array_equal(points[point_index(point)], (*own, 1.0))
    np.testing.assert_array_equal(points[point_index("head_top"), :2], example["head_top"])
    assert not points[point_index("nose")].any()


def test_a_moved_camera_sees_the_same_pixels():
    pose = drawn_pose(2)
    placed, _ = free_points().place(pose.rotations, pose.betas)
    old = np.array([[50.0, 40.0]] * 2), np.array([60.0, 80.0])
    new = np.array([[58.0, 35.0]] * 2), np.array([90.0, 50.0])
    pixels = [
        centre[:, None]
        + np.asarray(project(placed, camera_translation(camera))) * side[:, None, None] / 2
        for camera, (centre, side) in (
            (pose.camera, old),
            (moved_camera(np.asarray(pose.camera), old, new), new),
        )
    ]
    # The squares' cameras look in slightly different directions.
    np.testing.assert_allclose(*pixels, atol=0.5)


def test_the_network_of_this_package_answers_in_the_square_of_the_example(tmp_path):
    source = DrawnSplit(tmp_path)
    points = np.stack([points_of(example) for example in source])
    answer = NetworkStarts()(source, points)
    placed, _ = free_points().place(answer.rotations, answer.betas)
    seen = np.asarray(project(placed, camera_translation(answer.camera)))
    pixels = SIDE / 2 + seen * SIDE / 3
    known = points[..., 2] > 0
    assert np.linalg.norm(pixels - points[..., :2], axis=-1)[known].mean() < 0.05 * SIDE
