"""Two processes that train together: same numbers, same files, one end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.training import checkpoints, multiprocess
from tests.fakes import Recorder, tiny_config, train_on

ROOT = Path(__file__).resolve().parents[2]

TRAINS = """
    import dataclasses
    import json
    import os
    import signal
    import sys

    import numpy as np

    from pare_jax import main
    from pare_jax.training import multiprocess
    from tests.fakes import FakeData, Recorder, tiny_config, train_on

    number, port, workdir, event = int(sys.argv[1]), *sys.argv[2:5]
    multiprocess.HEARTBEAT_SECONDS = 20
    assert multiprocess.start(f"localhost:{port}", 2, number)

    class Stops(FakeData):
        def __init__(self):
            super().__init__()
            damaged = {"fake/train": {5, 7 + number}}
            self.held_out = dataclasses.replace(self.held_out, skipped=lambda: damaged)

        def train(self, start):
            for step, batch in enumerate(super().train(start), start):
                if step == 6 and event and (number == 1 or event == "SIGINT"):
                    os.kill(os.getpid(), getattr(signal, event))
                yield batch

    config = tiny_config()
    config.log_every_steps = 1
    config.num_steps = 100_000 if event in ("SIGTERM", "SIGINT") else 10
    writer = Recorder()
    main._train = lambda config, workdir, _: train_on(config, workdir, Stops(), writer)
    with multiprocess.failing_at_once():
        main.run(main.Request(config, main.Path(workdir), "train", None))
    losses = [float(scalars["train/loss"]) for scalars in writer.scalars.values()]
    print(json.dumps(losses), file=sys.stderr)
"""


def launch(workdir, event=""):
    """Train in two processes; return the status and output of each."""
    script = textwrap.dedent(TRAINS)
    return run_two(
        workdir, lambda port, number: ["-c", script, *map(str, (number, port, workdir, event))]
    )


def run_two(workdir, arguments):
    """Run Python twice with two devices each; return the status and output of each process.

    Args:
        workdir: of the run.
        arguments: maps the port of the first process and a process' number to its arguments.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        # All runs of this module compile the same programs.
        "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    started = [
        subprocess.Popen(
            [sys.executable, *arguments(port, number)],
            cwd=ROOT,
            env=os.environ | flags,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    out = [process.communicate(timeout=240) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, out, strict=True)]


# They take minutes on a busy machine.
two_processes = pytest.mark.skipif(
    not os.environ.get("PARE_JAX_TWO_PROCESSES"), reason="set PARE_JAX_TWO_PROCESSES=1"
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir, config, writer = tmp_path_factory.mktemp("alone"), tiny_config(), Recorder()
    config.log_every_steps = 1
    train_on(config, workdir, writer=writer)
    return workdir, [float(scalars["train/loss"]) for scalars in writer.scalars.values()]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("together")
    return workdir, launch(workdir)


@two_processes
def test_ctrl_c_in_all_processes_ends_each_with_one_line(tmp_path):
    for status, _, err in launch(tmp_path / "run", "SIGINT"):
        assert (status, err.splitlines()[-1]) == (130, "interrupted")
        assert "Traceback" not in err


def test_ctrl_c_ends_one_of_several_processes(monkeypatch, capsys):
    def end(status):
        raise SystemExit(status)

    monkeypatch.setattr(multiprocess, "_exit", end)
    with pytest.raises(SystemExit) as caught, multiprocess.failing_at_once("stopped"):
        raise KeyboardInterrupt
    assert (caught.value.code, capsys.readouterr().err) == (130, "stopped\n")


def params_of(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]


@two_processes
def test_two_processes_train_as_one(alone, together):
    workdir, done = together
    assert [status for status, _, _ in done] == [0, 0], done[0][2] + done[1][2]
    losses = [json.loads(err.splitlines()[-1]) for _, _, err in done]
    assert losses[0] == losses[1]
    np.testing.assert_allclose(losses[0][:4], alone[1][:4], rtol=1e-5)
    # Adam divides rounding errors by gradients near zero, so later steps drift apart slowly.
    np.testing.assert_allclose(losses[0], alone[1], rtol=1e-2)
    metrics = [json.loads((w / "eval" / "metrics.json").read_text()) for w in (alone[0], workdir)]
    ours, theirs = (one["splits"]["fake/test"] for one in metrics)
    # Eleven samples in two batches of eight rows, a half of each in each process.
    assert ours["count"] == theirs["count"] == 11
    assert ours["mpjpe"] == pytest.approx(theirs["mpjpe"], rel=1e-2)


@two_processes
def test_the_first_process_alone_prints(together):
    _, ((_, first, _), (_, second, _)) = together
    assert "fake/test" in first
    assert "3 examples of fake/train" in first  # of which both processes have met one
    # The library of collectives writes there, too.
    assert not re.search(r"fake/test|step \d|loss", second)


@two_processes
def test_one_process_goes_on_from_the_checkpoint_of_two(together):
    workdir, _ = together
    config = tiny_config()
    state = train_on(config, workdir)  # nothing to train
    assert int(state.step) == 10
    assert all(np.isfinite(leaf).all() for leaf in params_of(state))
    config.num_steps = 12
    assert int(train_on(config, workdir).step) == 12


@two_processes
def test_a_signal_in_one_process_stops_both_at_the_same_step(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("stopped")
    done = launch(workdir, "SIGTERM")
    assert [status for status, _, _ in done] == [0, 0], done[0][2] + done[1][2]
    assert "SIGTERM" in done[0][2]
    step = checkpoints.Checkpoints(workdir, read_only=True).latest_step()
    losses = [json.loads(err.splitlines()[-1]) for _, _, err in done]
    # Batches are read ahead of their steps.
    assert len(losses[0]) == len(losses[1]) == step >= 4
    assert losses[0] == losses[1]


@two_processes
def test_the_death_of_a_process_ends_the_others_and_names_it(tmp_path_factory):
    (status, _, err), (killed, _, _) = launch(tmp_path_factory.mktemp("dead"), "SIGKILL")
    assert killed == -signal.SIGKILL, err
    assert status not in (0, None)
    assert "unhealthy" in err
    assert "\n1\n" in err


@two_processes
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("--config.data.cache=device", "config.data.cache is 'device'"),
        ("--config.data.train=(('pw3d',1.0),)", "no prepared dataset"),
    ],
)
def test_what_the_first_process_refuses_ends_all_with_its_line(tmp_path, setting, named):
    """Both settings are checked when the data is opened, by the first process first."""
    settings = ["--config=configs/quickstart.py", f"--config.data.root={tmp_path}", setting]
    done = run_two(
        tmp_path / "run",
        lambda port, number: [
            *("-m", "pare_jax.main", *settings, f"--workdir={tmp_path / 'run'}"),
            *(f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={number}"),
        ],
    )
    for status, _, err in done:
        assert status == 2, err
        assert named in err.splitlines()[-1]
        assert "Traceback" not in err
        assert err.count(named) == 1
    assert not (tmp_path / "run").exists()


def test_the_refusal_of_the_first_process_is_raised_in_the_others(monkeypatch):
    """The others do not run the block; a block that succeeds is run by all."""
    monkeypatch.setattr(multiprocess.jax, "process_count", lambda: 2)
    monkeypatch.setattr(multiprocess, "wait", lambda what: None)
    gathered = ["no data", ""]
    monkeypatch.setattr(multiprocess, "_gather", lambda own: gathered)
    monkeypatch.setattr(multiprocess, "_exit", pytest.fail)

    def load_data():
        ran.append(True)
        if gathered[0]:
            raise UserError(gathered[0])

    def go():
        # A failure of one process alone would end it.
        with multiprocess.failing_at_once(), multiprocess.first_goes_ahead("the data"):
            load_data()

    for number in (0, 1):
        monkeypatch.setattr(multiprocess.jax, "process_index", lambda number=number: number)
        ran, gathered[0] = [], "no data"
        with pytest.raises(multiprocess.RefusedByAllError, match="no data"):
            go()
        assert bool(ran) == (number == 0)
        ran, gathered[0] = [], ""
        go()
        assert ran


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("localhost:1", 2, None), "--process_id"),
        ((None, 2, 0), "--coordinator"),
        (("localhost", 2, 0), "--coordinator"),
    ],
)
def test_processes_that_cannot_be_named_are_refused(arguments, named):
    with pytest.raises(UserError, match=named):
        multiprocess.start(*arguments)


def test_sets_of_all_processes_are_united(monkeypatch):
    """The other process has a longer text, so that rows are padded."""
    other = np.frombuffer(json.dumps({"a": [2, 10], "b": [7]}).encode(), np.uint8)

    def gather(own):
        same = other.size if not own.ndim else np.pad(other, (0, own.size - other.size))
        return np.stack([own, same])

    monkeypatch.setattr(multiprocess.jax, "process_count", lambda: 2)
    monkeypatch.setattr(multiprocess.multihost_utils, "process_allgather", gather)
    assert multiprocess.union({"a": {1, 2}}) == {"a": {1, 2, 10}, "b": {7}}


def test_one_process_is_not_connected(monkeypatch):
    for variable in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(variable, raising=False)
    assert not multiprocess.start(None, None, None)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert not multiprocess.start(None, 1, None)
