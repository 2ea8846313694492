"""Ctrl-C and kills in a real process: what they leave, and how the next run resumes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pare_jax.prediction.run.output_folder import OutputFolder
from tests.prediction.run.folders import save_clip, save_photos

ROOT = Path(__file__).resolve().parents[3]

# Makes drawing or writing the page slow enough to be interrupted.
_SLOW = """
import signal, sys, time
from pathlib import Path
from pare_jax import predict
from pare_jax.body.model import load_body_model
from pare_jax.prediction.run import command, photographs, reporting
from tests.prediction.predict_fakes import make_predictor
predictor = make_predictor(load_body_model())
command.load_predictor = lambda *_, **__: predictor
photographs._MOST_PHOTOGRAPHS = 3
slow, began = sys.argv.pop(1).split(","), Path(sys.argv.pop(1))
def make_late(owner, name, seconds):
    wrapped = getattr(owner, name)
    def late(*arguments, **options):
        (began / name).touch()
        time.sleep(seconds)
        return wrapped(*arguments, **options)
    setattr(owner, name, late)
if slow[0] != "page":
    make_late(photographs, "photo_files", float(slow[0]))
if "page" in slow:
    make_late(reporting, "write_page", 60)
# A shell may start background processes with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(predict.main(["predict", *sys.argv[1:]]))
"""


# Ends as if killed when it is about to move a file to its place, or in the middle of drawing.
_KILLED = """
import os, sys
from pare_jax import predict
from pare_jax.body.model import load_body_model
from pare_jax.prediction.run import clips, command
from tests.prediction.predict_fakes import make_predictor
predictor = make_predictor(load_body_model())
command.load_predictor = lambda *_, **__: predictor
last, replace, drawn = sys.argv.pop(1), os.replace, []
os.replace = lambda old, new: os._exit(9) if str(new).endswith(last) else replace(old, new)
def draw(picture, *_):
    drawn.append(picture)
    return os._exit(9) if last == "drawing" and len(drawn) == 8 else picture
clips.draw_people = draw
sys.exit(predict.main(["predict", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("last", ["track_1.npz", "000003.obj", "drawing", "index.html"])
def test_a_killed_run_leaves_nothing_behind_once_it_is_run_again(command, tmp_path, last):
    clip, output = tmp_path / "clip.mp4", tmp_path / "out"
    save_clip(clip)
    arguments = ["--checkpoint=run", f"--output={output}", "--detector=whole", str(clip)]
    outputs = "--outputs=npz,obj,overlay,page"
    process = subprocess.run(
        [sys.executable, "-c", _KILLED, last, outputs, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert process.returncode == 9
    unfinished = [*output.glob(".predictions/unfinished-*"), *output.glob(".*.partial")]
    assert len(unfinished) >= 1
    (output / ".notes.partial").write_text("the user's own")
    (output / "clip_notes.txt").write_text("the user's own")
    for outputs, files in (
        ("json", {"clip_track_1.json"}),
        ("npz,page", {"clip_track_1.npz", "index.html"}),
    ):
        assert command(f"--outputs={outputs}", clip)[0] == 0
        written = {path.name for path in output.iterdir() if not path.name.startswith(".index")}
        assert written - {"index.html"} == files - {"index.html"} | {
            ".notes.partial",
            ".predictions",
            "clip_notes.txt",
        }
        kept = sorted(path.name for path in (output / ".predictions").iterdir())
        assert kept == ["clip.json", "lock"]
    assert not list(output.glob(".index*"))


class Interrupted:
    """A run over photographs in a process of its own."""

    def __init__(self, tmp_path, slow, *, photographs=40):
        folder = save_photos(tmp_path / "photos", photographs)
        self.output, self._began = tmp_path / "out", tmp_path / "began"
        self._began.mkdir()
        self._printed, self._errors = tmp_path / "printed", tmp_path / "errors"
        arguments = ["--checkpoint=run", f"--output={self.output}", "--detector=whole"]
        # Into files, which can be read while it runs.
        with self._printed.open("w") as printed, self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SLOW, slow, str(self._began), *arguments, str(folder)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=printed,
                stderr=errors,
            )

    def press(self):
        self.process.send_signal(signal.SIGINT)

    def wait_until(self, happened):
        until = time.monotonic() + 60
        while not happened():
            assert self.process.poll() is None, self._errors.read_text()
            assert time.monotonic() < until
            time.sleep(0.005)

    def wait_for(self, step):
        self.wait_until((self._began / step).exists)

    def wait_for_line(self, beginning):
        self.wait_until(lambda: f"\n{beginning}" in self._printed.read_text())

    def end(self):
        status = self.process.wait(timeout=60)
        printed, errors = (path.read_text().splitlines() for path in (self._printed, self._errors))
        return status, printed, errors


_AGAIN = "interrupted: run the same command again to resume"


def test_ctrl_c_writes_the_page_of_what_is_done(tmp_path):
    run = Interrupted(tmp_path, "0.2")
    run.wait_until(lambda: len(OutputFolder(run.output)) >= 2)
    run.press()
    status, printed, errors = run.end()
    assert (status, errors) == (130, [_AGAIN])
    done = list(OutputFolder(run.output))
    assert 2 <= len(done) < 40
    assert f"done: {len(done)} photographs with {len(done)} people" in printed
    page = (run.output / "index.html").read_text()
    assert page.count('<article class="card"') == len(done)
    assert "<dt>Interrupted</dt>" in page


@pytest.mark.parametrize("slow", ["page", "0.2,page", "3"])
def test_a_second_ctrl_c_leaves_at_once(tmp_path, slow):
    run = Interrupted(tmp_path, slow, photographs=3 if slow == "page" else 40)
    if slow == "page":  # the first one already leaves while the page is written
        run.wait_for("write_page")
    else:
        if slow == "3":
            run.wait_for("photo_files")
        else:
            run.wait_until(lambda: len(OutputFolder(run.output)) >= 1)
        run.press()
        # Two in a row would be one to a process that is not given its turn in between.
        if slow == "3":  # while files are finished
            time.sleep(0.5)
        else:
            run.wait_for_line("interrupted: ")
    run.press()
    began = time.monotonic()
    status, printed, errors = run.end()
    assert (status, errors) == (130, [_AGAIN])
    assert time.monotonic() - began < 10
    assert not (run.output / "index.html").exists()
    assert not any(line.startswith("done:") for line in printed)
