"""The command line: every mistake is one line and exit status 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from pare_jax import main
from pare_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = f"--config={ROOT / 'configs' / 'quickstart.py'}"


def parse(*arguments):
    return main.parse(["main", *arguments])


def test_overrides_reach_the_config(tmp_path):
    config, workdir, mode = parse(
        QUICKSTART,
        f"--workdir={tmp_path}",
        "--config.optimizer.learning_rate=1e-4",
        "--config.data.train=(('pw3d', 0.7), ('mpii', 0.3))",
        "--config.precision=bfloat16",
        "--mode=evaluate",
    )
    assert config.optimizer.learning_rate == 1e-4
    assert config.data.train == (("pw3d", 0.7), ("mpii", 0.3))
    assert config.model.dtype == "bfloat16"
    assert (workdir, mode) == (tmp_path, "evaluate")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([QUICKSTART, "--workdir=x", "--config.batchsize=8"], "batchsize"),
        ([QUICKSTART, "--workdir=x", "--config.optimizer.rate=1"], "rate"),
        ([QUICKSTART, "--workdir=x", "--config.batch_size=many"], "batch_size"),
        ([QUICKSTART, "--workdir=x", "--learning_rate=1"], "learning_rate"),
        ([QUICKSTART, "--workdir=x", "--mode=predict"], "mode"),
        ([QUICKSTART, "--workdir=x", "train"], "train"),
        (["--config=configs/nothing.py", "--workdir=x"], "nothing.py"),
        (["--workdir=x"], "--config"),
        ([QUICKSTART], "--workdir"),
    ],
)
def test_mistakes_are_named_in_one_line(arguments, named):
    with pytest.raises(UserError, match=named) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config.batch_size=-8"], "batch_size is -8"),
        (
            ["--config.data.root=here", "--config.data.train=(('pw3d',1.0),)"],
            "data_pipelines.prepare",
        ),
        (["--mode=evaluate"], "is not a run"),
        (["--config.body_model=no.pkl", "--config.data.root=here"], "no.pkl"),
        (
            ["--config.eval.protocol=j14", "--config.eval.joint_regressor=no.npy"],
            "no joint regressor at no.npy",
        ),
    ],
)
def test_the_process_says_one_line_and_exits_with_2(tmp_path, arguments, named):
    command = [sys.executable, "-m", "pare_jax.main", QUICKSTART, f"--workdir={tmp_path / 'run'}"]
    sizes = [f"--config.data.synthetic.{name}=4" for name in ("train", "test", "test_occluded")]
    sizes += ["--config.data.synthetic.validation=0", "--config.batch_size=4"]
    arguments = [a.replace("here", str(tmp_path / "data")) for a in arguments]
    done = subprocess.run(
        [*command, *sizes, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert named in errors[0]
    assert "Traceback" not in done.stderr


def test_help_lists_the_flags():
    done = subprocess.run(
        [sys.executable, "-m", "pare_jax.main", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for flag in ("--config", "--workdir", "--[no]help", "--mode"):
        assert flag in done.stdout
