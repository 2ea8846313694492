"""A run's folder: which configs and bodies it accepts."""

import json
import os
import shutil

import numpy as np
import pytest

from configs.common import get_base
from pare_jax.body.io import load_body_data
from pare_jax.errors import UserError
from pare_jax.training import config as config_lib
from pare_jax.training import trained_run
from pare_jax.training import workdir as workdir_lib
from tests.body.small_bodies import random_body_fields
from tests.fakes import tiny_config, train_on
from tests.io.legacy_pickle_writer import smpl_file


@pytest.fixture(name="run")
def run_fixture(tmp_path):
    """Return a workdir whose body is tmp_path/body.npz, and its config."""
    np.savez(tmp_path / "body.npz", **random_body_fields())
    config = tiny_config()
    config.body_model = str(tmp_path / "body.npz")
    workdir_lib.write_config(tmp_path, config)
    return tmp_path, config


def test_work_that_comes_to_nothing_leaves_no_empty_folder(tmp_path):
    def fail(workdir, content):
        with workdir_lib.left_as_found(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            for name in content:
                (workdir / name).write_text("{}")
            raise UserError("no data")

    workdir = tmp_path / "runs" / "new"
    for content in ([], ["config.json"]):
        with pytest.raises(UserError, match="no data"):
            fail(workdir, content)
        assert workdir.exists() == bool(content)
        assert (tmp_path / "runs").exists() == bool(content)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError):
        fail(tmp_path / "mine", [])
    assert (tmp_path / "mine").is_dir()


def test_a_body_that_was_moved_or_converted_is_the_same(run, tmp_path):
    workdir, config = run
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "body.npz", tmp_path / "elsewhere" / "SMPL.npz")
    (tmp_path / "SMPL.pkl").write_bytes(smpl_file(random_body_fields()))
    for path in (tmp_path / "elsewhere" / "SMPL.npz", tmp_path / "SMPL.pkl"):
        workdir_lib.load_run_body(workdir, config, path)


def test_another_body_is_noticed_under_the_same_path(run):
    workdir, config = run
    np.savez(workdir / "body.npz", **random_body_fields(seed=1))
    with pytest.raises(UserError, match=r"body with 60 vertices"):
        workdir_lib.load_run_body(workdir, config, None)
    with pytest.raises(UserError, match=r"free_body with \d+ vertices"):
        workdir_lib.check_same_body(workdir, load_body_data(None))


def test_a_body_that_has_moved_is_named_with_its_run(run, tmp_path):
    workdir, config = run
    (tmp_path / "body.npz").unlink()
    with pytest.raises(UserError) as caught:
        workdir_lib.load_run_body(workdir, config, None, "--config.body_model")
    for text in (str(tmp_path / "body.npz"), str(workdir), "--config.body_model=FILE"):
        assert text in str(caught.value)


@pytest.mark.parametrize("name", ["v_template", "shapedirs", "posedirs", "weights", "f"])
def test_every_array_of_a_body_decides(tmp_path, name):
    fields = random_body_fields()
    np.savez(tmp_path / "one.npz", **fields)
    fields[name] = fields[name][::-1]
    np.savez(tmp_path / "other.npz", **fields)
    digests = {load_body_data(tmp_path / f"{file}.npz").digest for file in ("one", "other")}
    assert len(digests) == 2


def test_a_run_of_the_free_body_with_details_accepts_the_neutral_figure_alone(run):
    """Their joints and coefficients are the same."""
    workdir, _ = run
    earlier = {"name": "free_body", "vertices": 12272, "digest": "6b651e02b17eece0"}
    (workdir / "body.json").write_text(json.dumps(earlier))
    workdir_lib.check_same_body(workdir, load_body_data())
    with pytest.raises(UserError, match="free_body with 12272 vertices"):
        workdir_lib.check_same_body(workdir, load_body_data(workdir / "body.npz"))
    (workdir / "body.json").write_text(json.dumps(earlier | {"digest": "6b651e02b17eece1"}))
    with pytest.raises(UserError, match="free_body with 12272 vertices"):
        workdir_lib.check_same_body(workdir, load_body_data())


def test_a_damaged_note_is_named(run):
    workdir, config = run
    (workdir / "body.json").write_text("{}")
    with pytest.raises(UserError, match=r"body\.json"):
        workdir_lib.load_run_body(workdir, config, None)


def test_a_missing_note_is_named(run):
    workdir, config = run
    (workdir / "body.json").unlink()
    with pytest.raises(UserError, match=r"body\.json"):
        workdir_lib.load_run_body(workdir, config, None)


def with_checkpoint(workdir, name):
    (workdir / "checkpoints" / name).mkdir(parents=True)
    return workdir


def test_an_interrupted_first_save_is_no_run(run):
    workdir, config = run
    assert workdir_lib.check(workdir, config) is None
    with_checkpoint(workdir, "1000.orbax-checkpoint-tmp-7")
    assert workdir_lib.check(workdir, config) is None
    assert workdir_lib.check(with_checkpoint(workdir, "1000"), config) is not None


def test_converted_weights_may_be_frozen_but_not_replaced(run):
    """A save of the training itself that was interrupted does not change that."""
    workdir, config = run
    with_checkpoint(workdir, "0")
    with_checkpoint(workdir, "1000.orbax-checkpoint-tmp-7")
    config.pretrained.freeze_epochs = 2.0
    config.loss.pose = 1.0
    workdir_lib.check(workdir, config)
    config.pretrained.path = "other.pth"
    with pytest.raises(UserError, match=r"pretrained\.path: '' -> 'other\.pth'"):
        workdir_lib.check(workdir, config)


def test_checkpoints_without_their_config_are_not_overwritten(run):
    workdir, config = run
    with_checkpoint(workdir, "7")
    (workdir / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json"):
        workdir_lib.check(workdir, config)


def test_a_key_newer_than_the_run_matters_only_when_it_is_on(run):
    workdir, config = run
    with_checkpoint(workdir, "7")
    old = json.loads((workdir / "config.json").read_text())
    del old["loss"]["parts"]
    (workdir / "config.json").write_text(json.dumps(old))
    config.loss.parts = 0.0
    workdir_lib.check(workdir, config)
    config.loss.parts = 60.0
    with pytest.raises(UserError, match=r"loss\.parts"):
        workdir_lib.check(workdir, config)


def without_key(tree, path):
    *sections, key = path.split(".")
    for section in sections:
        tree = tree[section]
    del tree[key]


def test_a_run_without_a_newer_key_has_its_default(run):
    """For every key: none may stop an earlier run from being read, evaluated or resumed."""
    workdir, _ = run
    config = get_base()
    config.body_model = str(workdir / "body.npz")
    workdir_lib.write_config(workdir, config)
    with_checkpoint(workdir, "7")
    whole = json.loads((workdir / "config.json").read_text())
    for key in config_lib.flat(whole):
        if key.split(".")[0] in ("model", "eval") or key in ("body_model", "data.root"):
            continue  # checked below, all at once
        stored = json.loads(json.dumps(whole))
        without_key(stored, key)
        (workdir / "config.json").write_text(json.dumps(stored))
        found = workdir_lib.check(workdir, config, get_base())
        assert config_lib.differences(found, config) == [], key
    minimal = {"model": {}, "eval": {}, "body_model": config.body_model}
    (workdir / "config.json").write_text(json.dumps(minimal))
    found = workdir_lib.check(workdir, config, get_base())
    assert config_lib.plain(found) == whole
    config_lib.validate(found)


def test_a_key_that_no_longer_exists_changes_nothing_if_it_was_off(run):
    workdir, config = run
    with_checkpoint(workdir, "7")
    old = json.loads((workdir / "config.json").read_text())
    for weight in (0.0, 5.0):
        old["loss"]["given_up"] = weight
        (workdir / "config.json").write_text(json.dumps(old))
        if not weight:
            workdir_lib.check(workdir, config)
    with pytest.raises(UserError, match=r"loss\.given_up: 5\.0"):
        workdir_lib.check(workdir, config)
    kept = config_lib.without_unknown(trained_run.load_config(workdir), get_base())
    assert "given_up" not in kept.loss
    assert kept.loss.pose == config.loss.pose


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[]", "not a run's config"),
        ('{"model": {}}', "not a run's config"),
        ('{"model": {}, "eval": {}, "batch_size": "many"}', "batch_size"),
        ('{"model": {}, "eval": {}, "loss": 3}', "loss"),
        ('{"model": {}, "eval": {}, "data": {"synthetic": 3}}', "data.synthetic"),
        ("{", "config.json"),
    ],
)
def test_a_damaged_config_is_named_in_one_line(run, content, named):
    workdir, _ = run
    (workdir / "config.json").write_text(content)
    with pytest.raises(UserError, match=named) as caught:
        trained_run.load_config(workdir)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_runs_in_one_folder_are_kept_apart(tmp_path):
    with workdir_lib.claimed(tmp_path):
        with pytest.raises(UserError, match=str(os.getpid())):
            train_on(tiny_config(), tmp_path)
        assert not (tmp_path / "config.json").exists()
    with workdir_lib.claimed(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
