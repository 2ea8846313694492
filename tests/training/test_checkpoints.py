"""Checkpoints that are missing, damaged, of another network, or that no longer fit on the disk."""

import re
import resource
import shutil

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.models import build_model
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.step import create_state
from pare_jax.training.trained_run import load_model
from pare_jax.training.workdir import write_config
from tests.fakes import TINY_MODEL, FakeData, tiny_config, train_on


def make_state(seed=0, optimizer=None, **changes):
    model = build_model(ConfigDict(TINY_MODEL | changes), rngs=nnx.Rngs(seed))
    return create_state(model, optimizer or optax.adam(1e-3), average=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("saved")
    write_config(workdir, tiny_config())
    state = make_state(seed=1)
    store = Checkpoints(workdir, keep=5)
    store.save(state.replace(step=np.int32(1)), {"mpjpe": 5.0})
    store.save(state.replace(step=np.int32(2)))
    store.close()
    return workdir, state


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    return tmp_path / "run"


def _save_and_wait(store, state):
    store.save(state)
    store.wait()


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_everything_comes_back_bit_for_bit(saved):
    workdir, state = saved
    restored = Checkpoints(workdir, read_only=True).restore(make_state(seed=2), 2)
    wanted = jax.tree.leaves(state.replace(step=np.int32(2)))
    for ours, theirs in zip(jax.tree.leaves(restored), wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_no_checkpoint_says_so(tmp_path):
    write_config(tmp_path, tiny_config())
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as caught:
        load_model(tmp_path)
    one_line(caught)


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as caught:
        load_model(tmp_path)
    one_line(caught)


def test_a_file_is_no_run(tmp_path):
    (tmp_path / "README.md").write_text("hello")
    with pytest.raises(UserError, match=r"README\.md") as caught:
        load_model(tmp_path / "README.md")
    assert "Errno" not in one_line(caught)


def test_another_architecture_is_told_by_the_first_parameter_that_differs(saved):
    workdir, _ = saved
    store = Checkpoints(workdir, read_only=True)
    with pytest.raises(UserError, match="branch") as caught:
        store.restore(make_state(branch_features=16))
    assert "branch" in one_line(caught)


def test_the_state_of_another_optimizer_is_told_from_another_network(saved):
    workdir, _ = saved
    store = Checkpoints(workdir, read_only=True)
    with pytest.raises(UserError, match=r"opt_state\.") as caught:
        store.restore(make_state(optimizer=optax.sgd(1e-3, momentum=0.9)))
    one_line(caught)


def damage(workdir, step, how):
    folder = workdir / "checkpoints" / str(step)
    largest = max(
        (p for p in (folder / "model").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    size = largest.stat().st_size
    if how == "truncated":
        largest.write_bytes(largest.read_bytes()[: size // 2])
    elif how == "zeroed":
        largest.write_bytes(bytes(size))
    elif how == "missing":
        largest.unlink()
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    return folder


@pytest.mark.parametrize("how", ["truncated", "zeroed", "missing", "empty"])
def test_the_checkpoint_before_a_damaged_one_is_used(copy, how):
    folder = damage(copy, 2, how)
    lines = []
    load_model(copy, weights="last", say=lines.append)
    assert [str(folder) in line for line in lines] == [True]
    with pytest.raises(UserError, match=re.escape(str(folder))) as caught:
        load_model(folder, weights="last")
    one_line(caught)
    # A run that resumes makes it again, so that the damaged one is moved.
    store = Checkpoints(copy)
    state = store.restore(make_state(seed=3))
    (line,) = store.take_notes()
    assert str(copy / "damaged_checkpoints" / "2") in line
    assert int(state.step) == 1
    store.save(state.replace(step=np.int32(2)))
    assert store.is_saved()
    assert int(Checkpoints(copy, read_only=True).restore(make_state(seed=3)).step) == 2


def test_a_run_whose_checkpoints_are_all_damaged_says_so(copy):
    for step in (1, 2):
        folder = damage(copy, step, "truncated")
    with pytest.raises(UserError, match=re.escape(str(folder))) as caught:
        Checkpoints(copy).restore(make_state())
    assert "and so is 1:" in one_line(caught)
    assert folder.is_dir()


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(copy):
    store = Checkpoints(copy, keep=5)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses writes past this size, as it does when the disk is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(UserError, match=re.escape(str(copy / "checkpoints"))) as caught:
            _save_and_wait(store, make_state(seed=4).replace(step=np.int32(3)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one_line(caught)
    fresh = Checkpoints(copy, read_only=True)
    assert fresh.latest_step() == 2
    restored = fresh.restore(make_state(seed=2))
    assert int(restored.step) == 2
    # As soon as there is space, the next save succeeds.
    assert not store.take_notes()
    store.save(make_state(seed=4).replace(step=np.int32(4)))
    assert store.is_saved()
    assert Checkpoints(copy, read_only=True).latest_step() == 4


def test_a_run_goes_on_while_its_disk_is_full(tmp_path, capsys):
    """The kernel refuses writes past a file size, as it does when the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Fills(FakeData):
        def train(self, start):
            for step, batch in enumerate(super().train(start), start):
                if step in (5, 9):
                    limit = 4096 if step == 5 else before[0]
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
                yield batch

    try:
        state = train_on(tiny_config(), tmp_path, Fills())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert int(state.step) == 10
    assert str(tmp_path / "checkpoints") in capsys.readouterr().out
    assert Checkpoints(tmp_path, read_only=True).latest_step() == 10


def test_the_best_outlives_the_latest_and_a_resumed_run_knows_it(tmp_path):
    write_config(tmp_path, tiny_config())
    store = Checkpoints(tmp_path, keep=2)
    state = make_state()
    for step, error in enumerate([9.0, 3.0, 5.0, 6.0, 7.0], start=1):
        store.save(state.replace(step=np.int32(step)), {"mpjpe": error})
        if step == 3:
            store.close()
            store = Checkpoints(tmp_path, keep=2)
    store.close()
    kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert kept == {2, 4, 5}
