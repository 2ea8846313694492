"""Ctrl-C in a real process: what is done is told of, and a second one leaves at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pare_jax.predicting.records import Records
from tests.predicting.folders import save_photos

ROOT = Path(__file__).resolve().parents[2]

# What is slow is slow enough to be interrupted in.
_SLOW = """
import sys, time
from pathlib import Path
from pare_jax import predict
from pare_jax.body.model import load_body_model
from pare_jax.predicting import command, photos
from tests.predict_fakes import make_predictor
predictor = make_predictor(load_body_model())
command.load_predictor = lambda path, weights: predictor
photos._UNDER_WAY = 3
slow, began = sys.argv.pop(1), Path(sys.argv.pop(1))
module, name = {"page": (command, "write_page"), "files": (photos, "photo_files")}[slow]
wrapped = getattr(module, name)
def late(*arguments, **options):
    began.touch()
    time.sleep(60 if slow == "page" else 0.2)
    return wrapped(*arguments, **options)
setattr(module, name, late)
sys.exit(predict.main(["predict", *sys.argv[1:]]))
"""


class Interrupted:
    """A run over photographs in a process of its own."""

    def __init__(self, tmp_path, slow, *, photographs=12):
        folder = save_photos(tmp_path / "photos", photographs)
        self.output, self.began = tmp_path / "out", tmp_path / "began"
        arguments = ["--checkpoint=run", f"--output={self.output}", "--detector=whole"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SLOW, slow, str(self.began), *arguments, str(folder)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def press(self):
        self.process.send_signal(signal.SIGINT)

    def wait_until(self, happened):
        until = time.monotonic() + 60
        while not happened():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.005)

    def end(self):
        printed, errors = self.process.communicate(timeout=60)
        return self.process.returncode, printed.splitlines(), errors.splitlines()


_AGAIN = "interrupted: run the same command again, and it goes on from here"


def test_ctrl_c_writes_the_page_of_what_is_done(tmp_path):
    run = Interrupted(tmp_path, "files")
    run.wait_until(lambda: len(Records(run.output)) >= 2)
    run.press()
    status, printed, errors = run.end()
    assert (status, errors) == (130, [_AGAIN])
    done = list(Records(run.output))
    assert 2 <= len(done) < 12
    assert f"done: {len(done)} photographs with {len(done)} people" in printed
    page = (run.output / "index.html").read_text()
    assert page.count('<article class="card"') == len(done)
    assert "the same command goes on" in page


@pytest.mark.parametrize("slow", ["page", "files"])
def test_a_second_ctrl_c_leaves_at_once(tmp_path, slow):
    run = Interrupted(tmp_path, slow, photographs=3 if slow == "page" else 12)
    run.wait_until(run.began.exists)
    if slow == "page":  # it is being written already
        run.press()
    else:
        run.wait_until(lambda: len(Records(run.output)) >= 1)
        run.press()
        time.sleep(0.05)
        run.press()
    began = time.monotonic()
    status, printed, errors = run.end()
    assert (status, errors) == (130, [_AGAIN])
    assert time.monotonic() - began < 10
    assert not (run.output / "index.html").exists()
    assert not any(line.startswith("done:") for line in printed)
