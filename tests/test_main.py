"""The command line: every mistake is one line and exit status 2."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from configs import quickstart
from data_pipelines.reading import storage
from pare_jax import main
from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.training import config as config_lib
from pare_jax.training.workdir import write_config

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = f"--config={ROOT / 'configs' / 'quickstart.py'}"


def parse(*arguments):
    argv = ["main", *arguments]
    return main.parse(*command_line.parse(functools.partial(main.define_flags, argv), argv))


def test_overrides_reach_the_config(tmp_path):
    config, workdir, mode, *_ = parse(
        QUICKSTART,
        f"--workdir={tmp_path}",
        "--config.optimizer.learning_rate=1e-4",
        "--config.data.train=(('pw3d', 0.7), ('mpii', 0.3))",
        "--config.precision=bfloat16",
        "--mode=train",
    )
    assert config.optimizer.learning_rate == 1e-4
    assert config.data.train == (("pw3d", 0.7), ("mpii", 0.3))
    assert config.model.dtype == "bfloat16"
    assert (workdir, mode) == (tmp_path, "train")


@pytest.fixture
def run_of_100(tmp_path):
    """Return the workdir of a run on 100 people, without checkpoints."""
    config = quickstart.get_config()
    config.data.synthetic.test = 100
    config.batch_size = 8
    write_config(tmp_path, config)
    return tmp_path


@pytest.mark.parametrize("form", ["--config={}", "--config {}"])
def test_a_runs_config_is_an_experiment(run_of_100, form):
    given = ["main", *form.format(run_of_100 / "config.json").split(" ")]
    argv, again = main.split_run([*given, "--workdir=again", "--config.batch_size=16"])
    define = functools.partial(main.define_flags, argv, again=again)
    config, workdir, *_ = main.parse(*command_line.parse(define, argv))
    assert again == run_of_100
    assert workdir == Path("again")
    assert (config.data.synthetic.test, config.batch_size) == (100, 16)
    assert main.split_run(["main", QUICKSTART]) == (["main", QUICKSTART], None)
    assert main.split_run(["main", "--config=run/manifest.json"]) == (["main"], Path("run"))


def test_an_evaluation_starts_from_the_runs_config(run_of_100):
    request = parse("--mode=evaluate", "--workdir", str(run_of_100), "--config.eval.weights=last")
    assert request.config.data.synthetic.test == 100
    assert request.config.data.eval == ("synthetic/test", "synthetic/test_occluded")
    assert request.config.eval.weights == "last"
    assert request.notes == ()
    config_lib.validate(request.config)


@pytest.mark.parametrize(
    ("key", "named"), [("nope", "nope"), ("evl.steps", "evl"), ("eval.batchsize", "batchsize")]
)
def test_an_unknown_key_of_an_evaluation_is_named_in_one_line(run_of_100, key, named):
    with pytest.raises(UserError, match=named) as caught:
        parse("--mode=evaluate", f"--workdir={run_of_100}", f"--config.{key}=3")
    assert "\n" not in str(caught.value)


def test_a_config_that_differs_from_the_runs_is_not_used_and_said(run_of_100):
    request = parse(
        QUICKSTART,
        f"--workdir={run_of_100}",
        "--mode=evaluate",
        "--config.data.synthetic.test_occluded=50",
        "--config.precision=bfloat16",
    )
    assert request.config.data.synthetic.test == 100
    assert request.config.data.synthetic.test_occluded == 50
    assert request.config.model.dtype == "bfloat16"
    assert request.config.batch_size == 8
    (note,) = request.notes
    for text in ("config.data.synthetic.test ", "100", "1000", "quickstart.py"):
        assert text in note


def test_a_config_of_another_network_is_not_evaluated(run_of_100):
    other = QUICKSTART.replace("quickstart.py", "shallow.py")
    request = parse(other, f"--workdir={run_of_100}", "--mode=evaluate")
    assert request.config.model.backbone == "resnet18"
    assert any(note.startswith("config.model.backbone is 'resnet18'") for note in request.notes)


def test_the_recipe_of_a_fine_tuning_is_no_other_config_than_its_run(tmp_path):
    config = quickstart.get_config()
    config.data.photos = "my_photos"
    write_config(tmp_path, config)
    recipe = QUICKSTART.replace("quickstart.py", "finetune.py")
    request = parse(recipe, f"--workdir={tmp_path}", "--mode=evaluate")
    assert request.config.image_size == config.image_size
    assert request.notes == ()


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
        (["--mode=evaluate"], "--workdir"),
        (["--mode=evaluate", "--workdir=x"], "x is not a run"),
        ([QUICKSTART, "--mode=evaluate", "--workdir=x"], "x is not a run"),
    ],
)
def test_mistakes_are_named_in_one_line(arguments, named):
    with pytest.raises(UserError, match=named) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)
    assert "\\" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("hello there", "line 1"),
        ("\n\x00", "config.py"),
        ("def get_config():\n    raise KeyError('rate')", "line 2.*rate"),
        ("import sys\nsys.exit(3)", "line 2"),
        ("import nothing_like_it", "nothing_like_it"),
        ("learning_rate = 3", "get_config"),
    ],
)
def test_a_file_that_is_no_config_is_named_in_one_line(tmp_path, monkeypatch, content, named):
    # ml_collections executes every config in this module.
    monkeypatch.delitem(sys.modules, "config_config", raising=False)
    path = tmp_path / "config.py"
    path.write_text(content)
    with pytest.raises(UserError, match=named) as caught:
        parse(f"--config={path}", "--workdir=x")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_word_after_a_config_that_takes_none_is_named():
    with pytest.raises(UserError, match=r"quickstart.py has no variants: give it without :more$"):
        parse(f"{QUICKSTART}:more", "--workdir=x")
    with pytest.raises(UserError, match=r"quickstart.py has no variants: give it without :$"):
        parse(f"{QUICKSTART}:", "--workdir=x")


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (TypeError("it is 'str', not 'int'"), "it is 'str', not 'int'"),
        (ValueError('"a" is no "b"'), '"a" is no "b"'),
        (IndexError("0 is not a valid index for 'x'"), "0 is not a valid index for 'x'"),
    ],
)
def test_the_last_quote_of_a_message_stays(error, end):
    def define_flags(values):
        def fail(_):
            raise error

        flags.DEFINE_string("x", "", "", flag_values=values)
        values["x"].parse = fail

    with pytest.raises(UserError) as caught:
        command_line.parse(define_flags, ["name", "--x=1"])
    assert str(caught.value).endswith(end)


def test_an_index_into_a_tuple_of_the_config_is_reported_in_one_line():
    with pytest.raises(UserError, match=r"<class 'tuple'> \(in: data\.train\[0\]\)"):
        parse(QUICKSTART, "--workdir=x", "--config.data.train[0]=3")


def test_a_misspelt_key_is_reported_with_the_similar_one():
    with pytest.raises(UserError) as caught:
        parse(QUICKSTART, "--workdir=x", "--config.batchsize=8")
    assert "batchsize, did you mean batch_size?" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config.batch_size=-8"], "batch_size is -8"),
        (
            ["--config.data.root=here", "--config.data.train=(('pw3d',1.0),)"],
            "data_pipelines.prepare",
        ),
        (
            ["--config.data.root=here", "--config.data.train=(('mpi',1.0),)"],
            "--name=mpi",
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
    # Drawing people tells how far it is; nothing else may stand beside the one line.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("synthetic/")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert named in lines[0]
    assert not (tmp_path / "run").exists()


def evaluate(workdir, *arguments):
    """Run the command as README has it: the config and the data are those of the run."""
    command = [sys.executable, "-m", "pare_jax.main", f"--workdir={workdir}", "--mode=evaluate"]
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def command(workdir, data, *arguments):
    sizes = {"train": 40, "validation": 0, "test": 12, "test_occluded": 0, "image_size": 48}
    options = [f"--config.data.synthetic.{name}={size}" for name, size in sizes.items()]
    options += ["--config.image_size=32", "--config.model.backbone_width=4"]
    options += ["--config.batch_size=8", "--config.eval.batch_size=8", "--config.eval.pictures=2"]
    options += ["--config.data.eval=('synthetic/test',)", "--config.num_steps=3"]
    options += ["--config.swa.start_epoch=-1.0", "--config.checkpoint.every_steps=1"]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pare_jax.main",
            QUICKSTART,
            f"--workdir={workdir}",
            f"--config.data.root={data}",
            *options,
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_whole_line_from_drawing_people_to_figures(tmp_path):
    run, data = tmp_path / "run", tmp_path / "data"
    trained = command(run, data)
    assert trained.returncode == 0, trained.stderr
    metrics = (run / "eval" / "metrics.json").read_bytes()
    summary = json.loads(metrics)["splits"]["synthetic/test"]
    assert summary["count"] == 12
    # The best constant: the mean of the training set's root-centred joints.
    source = storage.open_split(storage.find_dataset(data, "synthetic"), "train")
    mean = np.mean([source[index]["joints_3d"] for index in range(40)], 0)
    test = storage.open_split(storage.find_dataset(data, "synthetic"), "test")
    errors = [np.linalg.norm(mean - test[index]["joints_3d"], axis=-1) for index in range(12)]
    np.testing.assert_allclose(summary["mean_pose_mpjpe"], 1000 * np.mean(errors), rtol=1e-5)
    assert list(run.glob("events.out.tfevents.*"))
    assert len(list((run / "eval").glob("*.png"))) == 4

    again = evaluate(run)
    assert again.returncode == 0, again.stderr
    assert (run / "eval" / "metrics.json").read_bytes() == metrics
    earlier = evaluate(run, "--step=2")
    assert earlier.returncode == 0, earlier.stderr
    assert json.loads((run / "eval" / "metrics.json").read_text())["step"] == 2
    missing = evaluate(run, "--step=77")
    assert missing.returncode == 2
    assert "no checkpoint of step 77" in missing.stderr


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
