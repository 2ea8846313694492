"""The real loop on made-up batches: what it writes, how it goes on, how it stops."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.training import checkpoints, losses, manifest, trained_run
from pare_jax.training import config as config_lib
from pare_jax.training import workdir as workdir_lib
from tests.fakes import FakeData, Recorder, fake_batch, tiny_config, train_on

ROOT = Path(__file__).resolve().parents[2]


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    writer = Recorder()
    state = train_on(tiny_config(), workdir, writer=writer)
    return workdir, writer, state


def test_a_run_leaves_its_config_and_checkpoints(finished):
    workdir, _, state = finished
    config = json.loads((workdir / "config.json").read_text())
    assert config["model"]["backbone_width"] == 4
    assert int(state.step) == 10
    assert checkpoints.Checkpoints(workdir, read_only=True).latest_step() == 10


def test_tensorboard_gets_scalars_pictures_and_texts(finished):
    _, writer, _ = finished
    assert {2, 4, 6, 8, 10} <= writer.scalars.keys()
    wanted = {"loss", "loss/pose", "grad_norm", "learning_rate", "examples_per_second", "epoch"}
    assert {f"train/{name}" for name in wanted} <= writer.scalars[2].keys()
    assert writer.scalars[4]["fake/test/mpjpe"] > 0
    shares = [v for k, v in writer.scalars[10].items() if k.startswith("goodput/")]
    assert sum(shares) == pytest.approx(1.0)
    assert writer.scalars[10]["goodput/training"] > 0
    assert writer.scalars[10]["goodput/compiling"] > 0
    assert sorted(writer.images) == [4, 8, 10]
    pictures = writer.images[10]["fake/test/predictions"]
    assert pictures.dtype == np.uint8
    assert pictures.shape[0] == 2
    # Captions of wider pictures are too small on TensorBoard's cards.
    assert pictures.shape[2] < 500
    assert "kernel" in writer.texts[0]["parameters"]
    assert writer.hparams["optimizer.learning_rate"] == 1e-3


def test_tensorboard_has_the_config_and_no_constants(finished):
    _, writer, _ = finished
    text = writer.texts[0]["config"].strip("`")
    assert json.loads(text) == config_lib.plain(tiny_config())
    evaluated = (4, 8, 10)
    for step in evaluated:
        # The number of people and the baseline's error are in a table.
        assert "fake/test" in writer.texts[step]["evaluation"]
        assert " 11 " in writer.texts[step]["evaluation"]
        endings = {name.rpartition("/")[2] for name in writer.scalars[step]}
        assert not endings & {"count", "non_finite", "mean_pose_mpjpe", "skipped_steps"}


class FakePictures(FakeData):
    """A first evaluation split with 2D labels alone."""

    def __init__(self, *splits):
        super().__init__()
        evals = {"fake/pictures": self._pictures} | dict.fromkeys(splits, self._evaluation)
        names = dict.fromkeys(evals, self.held_out.eval_names["fake/test"])
        self.held_out = dataclasses.replace(self.held_out, evals=evals, eval_names=names)

    def _pictures(self):
        for batch in self._evaluation():
            for name in ("joints_3d_weight", "pose_weight", "betas_weight"):
                batch[name][:] = 0
            yield batch


@pytest.mark.parametrize("splits", [(), ("fake/test",)])
def test_a_split_with_2d_joints_alone_is_told_and_decides_nothing(splits, tmp_path):
    writer, config = Recorder(), tiny_config()
    config.num_steps = 4
    state = train_on(config, tmp_path, FakePictures(*splits), writer)
    assert int(state.step) == 4
    assert 0 <= writer.scalars[4]["fake/pictures/pckh"] <= 100
    assert "fake/pictures/mpjpe" not in writer.scalars[4]
    assert ("fake/test/mpjpe" in writer.scalars[4]) == bool(splits)
    assert checkpoints.Checkpoints(tmp_path, read_only=True).latest_step() == 4


def test_a_stopped_run_goes_on_to_the_same_bits(finished, tmp_path):
    _, _, undisturbed = finished

    class Stops(FakeData):
        def train(self, start):
            for step, batch in zip(range(start, 8), super().train(start), strict=False):
                if step == 7:
                    raise KeyboardInterrupt
                yield batch

    with pytest.raises(KeyboardInterrupt):
        train_on(tiny_config(), tmp_path, Stops())
    assert checkpoints.Checkpoints(tmp_path, read_only=True).latest_step() in (3, 4)
    resumed = train_on(tiny_config(), tmp_path)
    for ours, theirs in zip(leaves(resumed), leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(ours, theirs)


KILLED = """
    import os
    import signal
    import sys

    from pare_jax.training.checkpoints import Checkpoints
    from tests.fakes import FakeData, Recorder, tiny_config, train_on

    class Dies(FakeData):
        def train(self, start):
            for step, batch in enumerate(super().train(start), start):
                if Checkpoints(sys.argv[1], read_only=True).latest_step():
                    os.kill(os.getpid(), signal.SIGKILL)
                yield batch

    train_on(tiny_config(), sys.argv[1], Dies())
"""


def test_a_killed_run_goes_on_to_the_same_bits(finished, tmp_path):
    _, _, undisturbed = finished
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = train_on(tiny_config(), tmp_path)
    for ours, theirs in zip(leaves(resumed), leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(ours, theirs)


STOPPED = """
    import os
    import signal
    import sys

    from pare_jax import main
    from tests.fakes import FakeData, Recorder, tiny_config, train_on

    # A shell's nohup lets its children ignore SIGHUP.
    signal.signal(getattr(signal, sys.argv[2]), signal.SIG_DFL)

    class Stops(FakeData):
        def train(self, start):
            for step, batch in enumerate(super().train(start), start):
                if step == 7:
                    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
                yield batch

    main._train = lambda config, workdir, again: train_on(config, workdir, Stops())
    main.run(main.Request(tiny_config(), main.Path(sys.argv[1]), "train", None))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_to_the_same_bits(finished, tmp_path, name):
    _, _, undisturbed = finished
    command = [sys.executable, "-c", textwrap.dedent(STOPPED), str(tmp_path), name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert name in done.stderr.splitlines()[-1]
    # The next batches are made ahead of their steps.
    assert checkpoints.Checkpoints(tmp_path, read_only=True).latest_step() in (5, 6, 7)
    resumed = train_on(tiny_config(), tmp_path)
    for ours, theirs in zip(leaves(resumed), leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_swa_weights_without_their_statistics_are_not_evaluated(tmp_path, capsys):
    """A checkpoint between two evaluations has none; a run may be shortened to end there."""
    config = tiny_config()
    config.num_steps, config.eval.every_epochs = 20, 3.0  # evaluated at 12, saved every 3

    class Stops(FakeData):
        def train(self, start):
            # Asked for two steps ahead.
            for step, batch in zip(range(start, 18), super().train(start), strict=False):
                if start == 0 and step == 17:
                    raise KeyboardInterrupt
                yield batch

    with pytest.raises(KeyboardInterrupt):
        train_on(config, tmp_path, Stops())
    step = checkpoints.Checkpoints(tmp_path, read_only=True).latest_step()
    assert step == 15
    config.num_steps = step
    train_on(config, tmp_path)
    assert "weights: last" in capsys.readouterr().out
    with pytest.raises(UserError, match="swa"):
        trained_run.load_model(tmp_path, "swa")
    assert trained_run.load_model(tmp_path / "checkpoints" / "12", "swa")


def test_a_finished_run_that_is_started_again_changes_nothing(finished, capsys):
    """With other values too: config.json says how the weights were made."""
    workdir, _, state = finished
    before = (workdir / "config.json").read_bytes()
    config = tiny_config()
    config.optimizer.learning_rate = 0.5
    again = train_on(config, workdir)
    for ours, theirs in zip(leaves(again), leaves(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (workdir / "config.json").read_bytes() == before
    said = capsys.readouterr().out
    assert "nothing to train" in said
    assert "optimizer.learning_rate: 0.001 -> 0.5" in said


def test_a_run_is_trained_again_from_what_it_left(finished, tmp_path, capsys):
    """Its config and its manifest are enough for the same bits, and say what is not the same."""
    workdir, _, state = finished
    (start,) = manifest.read_starts(workdir)
    assert start["config"] == stored(workdir)
    assert start["seed"] == stored(workdir)["seed"]
    config = trained_run.load_config(workdir)
    assert manifest.compare_run(workdir, config, FakeData().fingerprints) == []
    again = train_on(config, tmp_path)
    for ours, theirs in zip(leaves(again), leaves(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (other,) = manifest.read_starts(tmp_path)
    assert other | {"time": start["time"]} == start
    assert "since the last start" not in capsys.readouterr().out
    changed = manifest.compare_run(workdir, config, {"fake/train": "2"})
    assert len(changed) == 1
    assert "fake/train: 1 -> 2" in changed[0]
    config.pretrained.path = str(tmp_path / "weights.npz")
    for content in (b"first", b"other"):
        (tmp_path / "weights.npz").write_bytes(content)
        changed.append(manifest.compare_run(workdir, config, FakeData().fingerprints)[0])
    assert "pretrained.path" in changed[1]
    assert changed[1] != changed[2]
    assert "manifest.json" in manifest.compare_run(tmp_path / "none", config, {})[0]


def stored(workdir):
    return json.loads((workdir / "config.json").read_text())


class StopsAtOnce(FakeData):
    def train(self, start):
        raise KeyboardInterrupt
        yield


def test_an_attempt_that_saves_nothing_leaves_no_trace_in_the_config(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    config = tiny_config()
    config.num_steps, config.optimizer.learning_rate = 20, 0.5
    with pytest.raises(KeyboardInterrupt):
        train_on(config, tmp_path / "run", StopsAtOnce())
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    with pytest.raises(KeyboardInterrupt):
        train_on(config, tmp_path / "new", StopsAtOnce())
    assert not (tmp_path / "new" / "config.json").exists()


def test_keeps_the_latest_and_the_best(finished):
    workdir, _, _ = finished
    kept = {int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()}
    assert {9, 10} <= kept
    assert len(kept) <= 3


def test_another_network_in_the_workdir_is_named(finished):
    workdir, _, _ = finished
    config = tiny_config()
    config.model.branch_features = 16
    with pytest.raises(UserError, match="branch_features: 8 -> 16"):
        train_on(config, workdir)


def test_another_input_in_the_workdir_is_named(finished):
    workdir, _, _ = finished
    config = tiny_config()
    config.image_size = 64
    with pytest.raises(UserError, match=r"image_size: .* -> "):
        workdir_lib.check(workdir, config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 7),
        ("loss.pose", 1.0),
        ("batch_size", 16),
        ("augment.flip", 0.1),
        ("pretrained.path", "other.pth"),
        ("pretrained.mean_parameters", "other.npz"),
        ("pretrained.freeze_epochs", 2.0),
    ],
)
def test_going_on_as_another_experiment_is_refused(finished, key, value):
    workdir, _, _ = finished
    config = tiny_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=f"{key}: "):
        workdir_lib.check(workdir, config)


def test_going_on_with_another_length_and_rate_says_so(tmp_path, capsys):
    config = tiny_config()
    config.num_steps = 4
    train_on(config, tmp_path)
    config.num_steps, config.optimizer.learning_rate = 6, 1e-4
    state = train_on(config, tmp_path)
    assert int(state.step) == 6
    assert "optimizer.learning_rate: 0.001 -> 0.0001" in capsys.readouterr().out
    assert stored(tmp_path)["optimizer"]["learning_rate"] == 1e-4
    first, second = manifest.read_starts(tmp_path)
    assert [start["step"] for start in (first, second)] == [0, 4]
    assert second["config"]["num_steps"] == 6


def knees_loss(posed, batch):
    """A made-up term that reads labels which no other term reads."""
    knees = posed.joints[:, 4:6]
    weight = batch["visible"][:, 4] * batch["visible_weight"][:, 4]
    return losses.squared_error(knees, batch["joints_3d"][:, 4:6], weight)


def test_a_term_is_added_by_one_line(finished, tmp_path, monkeypatch):
    """Its key, its check, its labels and its curve follow; an earlier run goes on."""
    labels = ("joints_3d", "visible", "visible_weight")
    monkeypatch.setitem(losses.TERMS, "knees", losses.Term(knees_loss, 0.0, labels))
    config = tiny_config()
    assert config.loss.knees == 0.0
    assert workdir_lib.check(finished[0], config) is not None
    assert trained_run.load_config(finished[0]).loss.knees == 0.0
    config.loss.knees = -1.0
    with pytest.raises(UserError, match=r"loss\.knees"):
        config_lib.validate(config)
    config.loss.knees = 5.0
    config_lib.validate(config)
    with pytest.raises(UserError, match=r"loss\.knees: 0\.0 -> 5\.0"):
        workdir_lib.check(finished[0], config)
    assert set(labels) <= set(losses.fields_to_read())
    config.num_steps, config.log_every_steps, config.eval.pictures = 2, 1, 0
    writer = Recorder()
    train_on(config, tmp_path, writer=writer)
    assert writer.scalars[2]["train/loss/knees"] > 0
    assert stored(tmp_path)["loss"]["knees"] == 5.0


def test_a_run_too_short_for_averaging_says_so(tmp_path, capsys):
    config = tiny_config()
    config.num_steps, config.swa.start_epoch = 3, 50.0
    train_on(config, tmp_path)
    assert "before swa.start_epoch" in capsys.readouterr().out


def test_a_run_of_no_step_is_refused(tmp_path):
    config = tiny_config()
    config.num_steps, config.num_epochs = 0, 0.01
    with pytest.raises(UserError, match="num_epochs"):
        train_on(config, tmp_path)


def test_a_run_that_cannot_go_on_leaves_the_config_as_it_was(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        shutil.rmtree(folder / "training")
    config = tiny_config()
    config.optimizer.learning_rate = 1e-5
    with pytest.raises(UserError, match="checkpoints"):
        train_on(config, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_loss_that_stays_non_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    class Breaks(FakeData):
        def train(self, start):
            for step, batch in enumerate(super().train(start), start):
                if step >= 4:
                    batch["joints_3d"] = np.full_like(batch["joints_3d"], np.inf)
                yield batch

    config = tiny_config()
    config.num_steps = 40
    config.max_bad_steps = 3
    config.log_every_steps = 30
    writer = Recorder()
    with pytest.raises(UserError, match=r"since step 5 .*batches 4 to 6 of seed"):
        train_on(config, tmp_path, Breaks(), writer)
    # Long before the next line of the log.
    assert not any("train/loss" in scalars for scalars in writer.scalars.values())
    store = checkpoints.Checkpoints(tmp_path, read_only=True)
    assert store.latest_step() is not None
    config_, model = trained_run.load_model(tmp_path)
    assert config_.batch_size == 8
    assert np.isfinite(np.asarray(model(fake_batch(1)["image"].astype(np.float32)).betas)).all()


def test_a_workdir_that_cannot_be_written_is_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=str(blocked)):
        train_on(tiny_config(), blocked / "run")


SEVERAL_DEVICES = """
    import tempfile

    import jax
    from tests.fakes import FakeData, Recorder, tiny_config, train_on

    config = tiny_config()
    config.num_steps = 3
    config.log_every_steps = 1
    writer = Recorder()
    train_on(config, tempfile.mkdtemp(), writer=writer)
    names = ("loss", "loss/parts", "loss/pose", "grad_norm")
    print(jax.device_count(), *[writer.scalars[s][f"train/{n}"] for s in (1, 2, 3) for n in names])
"""


def test_numbers_do_not_depend_on_the_number_of_devices():
    """Rounding differs; batch statistics or losses of a part of the batch would differ by far."""
    rows = []
    for devices in (1, 4):
        flags = f"--xla_force_host_platform_device_count={devices}"
        out = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SEVERAL_DEVICES)],
            env=os.environ | {"XLA_FLAGS": flags},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")[-2]
        count, *values = map(float, out.split())
        assert count == devices
        rows.append(values)
    np.testing.assert_allclose(rows[0][:4], rows[1][:4], rtol=1e-5)
    # Adam divides rounding errors by gradients near zero, so later steps drift apart slowly.
    np.testing.assert_allclose(rows[0], rows[1], rtol=5e-2)


WITHOUT_TENSORFLOW = """
    import sys
    import pare_jax, pare_jax.predict, pare_jax.training.step, pare_jax.training.train
    assert not any(name.split('.')[0] == 'tensorflow' for name in sys.modules), 'tensorflow'
"""


def test_the_loop_needs_no_tensorflow():
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT_TENSORFLOW)]
    subprocess.run(command, check=True, cwd=ROOT)
