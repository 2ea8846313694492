"""In the measurement of faults only kills count that hit the moment they are for."""

import random
import subprocess

import pytest

from scripts.kill_moments import KillMoment

LOSS = "  epoch 0.31  loss 38.1\n"
ERRORS = "  synthetic/test (swa): MPJPE 293.6 mm\n"


@pytest.fixture(name="moment")
def moment_fixture(tmp_path):
    """Return a function that makes a moment of a run of 60 steps in `tmp_path`."""
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "data/set/1").mkdir(parents=True)
    return lambda name: KillMoment(name, tmp_path / "run", tmp_path / "data", 60, random.Random(0))


@pytest.mark.parametrize(
    ("lines", "checkpoints", "training", "evaluating", "saving"),
    [
        ("", [], "", "", ""),
        (f"step 10{LOSS}", ["7"], "after step 10", "", ""),
        (f"step 10{LOSS}", ["7", "14.orbax-checkpoint-tmp"], "", "", "step 14"),
        (f"step 20{LOSS}", ["14"], "", "step 20", ""),
        # It draws pictures.
        (f"step 20{LOSS}step 20{ERRORS}", ["14"], "", "", ""),
        (f"step 20{LOSS}step 20{ERRORS}", ["14", "20"], "after step 20", "", ""),
        (f"step 60{LOSS}step 60{ERRORS}", ["60"], "", "", ""),
    ],
)
def test_files_show_what_a_killed_run_did(
    moment, tmp_path, lines, checkpoints, training, evaluating, saving
):
    (tmp_path / "run.log").write_text(lines)
    for name in checkpoints:
        (tmp_path / "run/checkpoints" / name).mkdir()
    assert moment("training").hit() == training
    assert moment("evaluating").hit() == evaluating
    assert moment("saving").hit() == saving


def test_half_prepared_data_of_an_earlier_process_is_no_hit(moment, tmp_path):
    (tmp_path / "data/set/1/incomplete.A").mkdir()
    preparing = moment("preparing")
    process = subprocess.Popen(["true"])
    preparing.wait(process)
    assert process.poll() == 0
    assert not preparing.hit()
    (tmp_path / "data/set/1/incomplete.B").mkdir()
    assert preparing.hit()


def test_a_half_saved_checkpoint_of_an_earlier_process_is_no_sign(moment, tmp_path):
    (tmp_path / "run/checkpoints/14.orbax-checkpoint-tmp").mkdir()
    process = subprocess.Popen(["sleep", "0.1"])
    moment("saving").wait(process)
    assert process.poll() == 0
