"""Poses from fits: the gate, what is replaced, and fits of another body or dataset."""

import dataclasses

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines.fits.fit_file import empty_columns, fits_path, make_header, write_fits
from data_pipelines.reading.fitted_split import FittedSplit, with_fits
from pare_jax.body.io import load_body_data
from pare_jax.body.numpy_body import joints_of
from pare_jax.errors import UserError
from pare_jax.training.base_config import base_config
from tests.data_pipelines.fits.made_up_fits import PEOPLE, DrawnSplit
from tests.fitting.drawn_points import drawn_pose


@pytest.fixture(name="settings")
def settings_fixture():
    settings = base_config().data.fits
    settings.use, settings.weight = True, 0.5
    return settings


def write(path, network="a network", body=None, **changes):
    """Write fits of the drawn people: good but for the changed columns."""
    pose, columns = drawn_pose(PEOPLE), empty_columns(PEOPLE)
    columns.rotations[:], columns.betas[:] = pose.rotations, pose.betas
    columns.error[:], columns.agreement[:], columns.plausibility[:] = 0.01, 20.0, 0.5
    columns.verdict[:] = 0
    body = body or load_body_data()
    header = make_header(
        path, {"name": body.name, "digest": body.digest}, {"name": network, "digest": network}, {}
    )
    fits_path(path, "train").parent.mkdir(exist_ok=True)
    write_fits(fits_path(path, "train"), header, dataclasses.replace(columns, **changes))


def test_people_without_a_pose_get_it_from_fits_that_pass(tmp_path, settings):
    source = DrawnSplit(tmp_path)
    source[1]["pose_weight"] = np.float32(1)
    source[2]["joints_3d_weight"] = np.float32(1)
    error = np.float32([0.01, 0.01, 0.01, 0.5])
    write(tmp_path, error=error, posed=np.arange(PEOPLE) == 1)
    split, line = with_fits(source, settings, None)
    assert "a network" in line
    assert "3 pass" in line
    assert "2 are used" in line
    assert "error 1" in line
    pose = drawn_pose(PEOPLE)
    joints = joints_of(load_body_data(), pose.betas, np.asarray(pose.rotations))
    first, second, third, fourth = (split[row] for row in range(PEOPLE))
    assert first["pose_weight"] == first["betas_weight"] == first["joints_3d_weight"] == 0.5
    np.testing.assert_array_equal(first["rotations"], pose.rotations[0])
    np.testing.assert_allclose(first["joints_3d"], joints[0] - joints[0, :1], atol=1e-6)
    assert not first["rotations_known"][[10, 11, 22, 23]].any()  # feet and hands
    assert first["rotations_known"].sum() == 20
    # A true pose, true joints, and a fit that does not pass.
    assert second is source[1]
    np.testing.assert_array_equal(third["joints_3d"], source[2]["joints_3d"])
    assert (third["joints_3d_weight"], third["pose_weight"]) == (1, 0.5)
    assert fourth is source[3]
    assert split.names() == "names"


def test_every_criterion_of_the_gate_refuses(tmp_path, settings):
    bad, source = np.arange(PEOPLE) == 2, DrawnSplit(tmp_path)
    for name, value in (("error", 1.0), ("agreement", np.nan), ("plausibility", 0.0)):
        kept = {"error": 0.01, "agreement": 20.0, "plausibility": 0.5}[name]
        write(tmp_path, **{name: np.where(bad, value, kept).astype(np.float32)})
        split, line = with_fits(source, settings, None)
        assert f"{name} 1" in line
        assert [split[row]["pose_weight"] > 0 for row in range(PEOPLE)] == list(~bad)


def test_fits_of_another_body_or_dataset_are_refused(tmp_path, settings):
    source = DrawnSplit(tmp_path)
    assert with_fits(source, settings, None)[0] is source
    body = load_body_data()
    write(tmp_path, body=dataclasses.replace(body, template=body.template + 1, name="theirs"))
    with pytest.raises(UserError, match="theirs"):
        with_fits(source, settings, None)
    write(tmp_path)
    (tmp_path / "dataset_info.json").write_text('{"splits": []}')
    with pytest.raises(UserError, match=r"fits.train\.npz"):
        with_fits(source, settings, None)


def test_a_run_says_what_passes_and_whether_fits_were_replaced(tmp_path, monkeypatch):
    from configs.common import get_base

    config, workdir = get_base(), tmp_path / "run"
    workdir.mkdir()
    config.image_size, config.batch_size, config.data.root = 64, 2, str(tmp_path)
    config.data.train, config.data.eval = (("mine", 1.0),), ("mine/train",)
    (tmp_path / "mine" / "1").mkdir(parents=True)
    source = DrawnSplit(tmp_path / "mine" / "1")
    monkeypatch.setattr(datasets, "_open", lambda *_, **__: source)
    assert list(datasets.load(config, workdir).notes) == []
    config.data.fits.use = True
    with pytest.raises(UserError, match=r"config\.data\.fits\.use"):
        datasets.load(config, workdir)
    write(source.path)
    for _ in range(2):
        data = datasets.load(config, workdir)
        (line,) = data.notes
        assert line.startswith("mine/train: ")
        assert next(data.train(0))["pose_weight"].all()
    assert np.isfinite(data.held_out.mean_joints).all()
    # Evaluation has true labels alone.
    assert not next(iter(data.held_out.evals["mine/train"]()))["pose_weight"].any()
    write(source.path, network="a better network")
    _, replaced = datasets.load(config, workdir).notes
    assert "replaced" in replaced
    assert isinstance(with_fits(source, config.data.fits, None)[0], FittedSplit)
