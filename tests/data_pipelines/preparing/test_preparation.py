"""Preparing datasets: the same bytes in every way, resuming, and refusals."""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.preparing import preparation, prepared_builder, processes, unit_files
from data_pipelines.reading import storage
from data_pipelines.releases.release import Skipped, UnitResult
from pare_jax.errors import UserError
from tests.data_pipelines.made_up_dataset import MadeUp, expected, read_units, same

SIZES = {"train": 4, "test": 2}


@pytest.fixture(name="log")
def log_fixture(tmp_path):
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


def files_of(path):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}


def test_examples_come_back_in_order(tmp_path, log, capsys):
    path = preparation.prepare(MadeUp(log, SIZES), tmp_path / "data", workers=1)
    assert path == storage.find_dataset(tmp_path / "data", "made_up")
    for split in SIZES:
        stored = storage.open_split(path, split)
        wanted = expected(split, SIZES)
        assert len(stored) == len(wanted)
        assert all(same(stored[i], example) for i, example in enumerate(wanted))
    report = json.loads((path / "skipped.json").read_text())
    assert report["train"]["kept"] == 12
    assert report["test"]["skipped"] == [
        {"what": f"test {i}", "reason": "nobody there", "broken": False} for i in range(2)
    ]
    assert "made_up/train: 12 people; skipped: 4 nobody there" in capsys.readouterr().err
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", storage.VERSION]
    assert preparation.prepare(MadeUp(log, SIZES), tmp_path / "data") == path
    assert len(read_units(log)) == 6
    assert not capsys.readouterr().err


def test_workers_and_interruptions_change_nothing(tmp_path, log, monkeypatch):
    one = preparation.prepare(MadeUp(log, SIZES), tmp_path / "one", workers=1)
    dataset, read = MadeUp(log, SIZES), MadeUp.read
    done = len(read_units(log))

    def interrupted(self, unit):
        if len(read_units(log)) == done + 4:
            raise KeyboardInterrupt
        return read(self, unit)

    monkeypatch.setattr(MadeUp, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(dataset, tmp_path / "two", workers=1)
    assert not storage.is_prepared(preparation.dataset_path(dataset, tmp_path / "two"))
    monkeypatch.undo()
    two = preparation.prepare(dataset, tmp_path / "two", workers=2)
    assert len(read_units(log)) == 12  # none was read again
    assert files_of(one) == files_of(two)


def test_another_process_writes_the_same_bytes(tmp_path, log):
    here = preparation.prepare(MadeUp(log, {"train": 3}), tmp_path / "here", workers=1)
    assert start_preparing(tmp_path, log, units=3, delay=0).wait() == 0
    assert files_of(here) == files_of(tmp_path / "data" / "made_up" / storage.VERSION)


def test_shards_hold_whole_pieces_in_order(tmp_path, log, monkeypatch):
    monkeypatch.setattr(preparation, "_SHARD_BYTES", 40_000)
    path = preparation.prepare(MadeUp(log, {"train": 9, "test": 1}), tmp_path / "d", workers=1)
    assert len(list(path.glob("made_up-train.array_record-*"))) > 2
    assert len(list(path.glob("made_up-test.array_record-*"))) == 1
    stored = storage.open_split(path, "train")
    wanted = expected("train", {"train": 9})
    assert len(stored) == len(wanted)
    assert all(same(stored[i], example) for i, example in enumerate(wanted))
    last = sorted(path.glob("made_up-train.array_record-*"))[-1]
    last.write_bytes(last.read_bytes()[:1000])
    stored = storage.open_split(path, "train")
    assert same(stored[0], wanted[0])
    with pytest.raises(UserError, match=re.escape(str(last))):
        stored[len(stored) - 1]


def test_beam_writes_the_same_bytes(tmp_path, log):
    pytest.importorskip("apache_beam")
    one = preparation.prepare(MadeUp(log, SIZES), tmp_path / "one", workers=1)
    options = ["runner=DirectRunner", "--direct_num_workers=1"]
    two = preparation.prepare(MadeUp(log, SIZES), tmp_path / "two", beam_options=options)
    assert files_of(one) == files_of(two)
    assert len(read_units(log)) == 12


def test_refusals_leave_no_files(tmp_path, log, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"--beam-option.*\[beam\]"):
        preparation.prepare(
            MadeUp(log, SIZES), tmp_path / "d", beam_options=["runner=DirectRunner"]
        )
    with pytest.raises(UserError, match="made_up"):
        preparation.prepare(MadeUp(log, {"train": 0}), tmp_path / "d", workers=1)

    def picky(**_):
        raise ValueError("no runner\nof this name")

    options = SimpleNamespace(PipelineOptions=list)
    monkeypatch.setitem(sys.modules, "apache_beam", SimpleNamespace(Pipeline=picky))
    monkeypatch.setitem(sys.modules, "apache_beam.options", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", options)
    with pytest.raises(UserError, match="--beam-option runner=Nobody: no runner of this name"):
        preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", beam_options=["runner=Nobody"])
    assert not (tmp_path / "d").exists()


def start_preparing(tmp_path, log, units, delay):
    """Start a process that prepares a train split, each unit taking so many seconds."""
    code = (
        "from tests.data_pipelines.made_up_dataset import MadeUp\n"
        "from data_pipelines.preparing import preparation\n"
        "if __name__ == '__main__':\n"
        f"    dataset = MadeUp({str(log)!r}, {{'train': {units}}})\n"
        f"    preparation.prepare(dataset, {str(tmp_path / 'data')!r}, workers=2)\n"
    )
    (tmp_path / "run.py").write_text(code)
    path = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"PYTHONPATH": path, "MADE_UP_DELAY": str(delay)}
    command = [sys.executable, tmp_path / "run.py"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def test_a_killed_run_resumes(tmp_path, log):
    process = start_preparing(tmp_path, log, units=8, delay=0.5)
    folder = tmp_path / "data" / "made_up"
    deadline = time.monotonic() + 60
    while len(list(folder.glob("partial.*/train/*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(0.5)  # its workers end too; files they were writing do not count
    finished = {
        name.stem.split(".")[0]: name.stat().st_mtime_ns
        for name in folder.glob("partial.*/train/*.npz")
    }
    assert 3 <= len(finished) < 8
    before = read_units(log)
    path = preparation.prepare(MadeUp(log, {"train": 8}), tmp_path / "data", workers=1)
    again = read_units(log)
    for name in before:
        again.remove(name)
    assert {int(name.split("-")[1]) for name in again} == set(range(8)) - set(map(int, finished))
    stored = storage.open_split(path, "train")
    wanted = expected("train", {"train": 8})
    assert all(same(stored[i], example) for i, example in enumerate(wanted))


def test_workers_end_with_their_parent(tmp_path, log):
    process = start_preparing(tmp_path, log, units=1000, delay=0.05)
    deadline = time.monotonic() + 60
    while not read_units(log) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(1)
    count = len(read_units(log))
    assert 0 < count < 1000
    time.sleep(0.5)
    assert len(read_units(log)) == count


def test_a_process_that_is_killed_is_reported(tmp_path, log):
    with pytest.raises(UserError, match=r"made_up.*--workers"):
        preparation.prepare(MadeUp(log, SIZES, deadly=3), tmp_path, workers=2)


def test_too_much_broken_fails_and_a_higher_limit_is_quick(tmp_path, log):
    dataset = MadeUp(log, SIZES, broken=[("train", 1), ("test", 0)])
    with pytest.raises(UserError, match=r"2 of 18 .*train 1 frame 7.*--max-skipped=0\.12"):
        preparation.prepare(dataset, tmp_path / "data", workers=1)
    assert not storage.is_prepared(preparation.dataset_path(dataset, tmp_path / "data"))
    path = preparation.prepare(dataset, tmp_path / "data", workers=1, max_skipped=0.12)
    assert len(read_units(log)) == 6
    report = json.loads((path / "skipped.json").read_text())
    assert report["train"]["kept"] == 11
    assert {"what": "train 1 frame 7", "reason": "picture missing", "broken": True} in report[
        "train"
    ]["skipped"]


def test_only_repaired_parts_are_read_again(tmp_path, log):
    with pytest.raises(UserError, match="max-skipped"):
        preparation.prepare(MadeUp(log, SIZES, broken=[("train", 1)]), tmp_path / "d", workers=1)
    mended = MadeUp(log, SIZES, broken=[("train", 1)], stamps={("train", 1): 5})
    preparation.prepare(mended, tmp_path / "d", workers=1, max_skipped=0.5)
    assert read_units(log).count("train-1") == 2
    assert len(read_units(log)) == 7


def test_other_settings_read_every_part_again(tmp_path, log):
    with pytest.raises(UserError, match="max-skipped"):
        preparation.prepare(MadeUp(log, SIZES, broken=[("test", 1)]), tmp_path / "d", workers=1)
    path = preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    assert len(read_units(log)) == 12
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", storage.VERSION]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"broken": [("test", 1)]}, r"--broken .*\['test', 1\]"),
        ({"stamps": {("train", 1): 5, ("train", 2): 5}}, r"train: 2 of 4 .*changed.* part 1"),
        ({"sizes": {"train": 5, "test": 2}}, r"train: 1 of 5 .*new.* part 4"),
        ({"sizes": {"train": 3, "test": 2}}, r"train: 1 of 4 .*missing.* part 3"),
        ({"sizes": {"train": 4}}, r"test: 2 of 2 .*missing.* part 0"),
    ],
)
def test_a_finished_dataset_of_something_else_is_refused(tmp_path, log, other, named):
    path = preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    before = files_of(path)
    with pytest.raises(UserError, match=rf"{re.escape(str(path))} .*{named}.*--output") as one:
        preparation.prepare(MadeUp(log, **{"sizes": SIZES, **other}), tmp_path / "d", workers=1)
    assert "\n" not in str(one.value)
    assert files_of(path) == before
    assert len(read_units(log)) == 6


@pytest.mark.parametrize(
    ("note", "named"), [('"1234"', "preparation.json"), ("code", "version of the code")]
)
def test_a_dataset_of_older_code_is_reported_and_kept(tmp_path, log, capsys, note, named):
    path = preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    made = json.loads((path / "preparation.json").read_text())
    note = json.dumps(made | {"code": "older"}) if note == "code" else note
    (path / "preparation.json").write_text(note)
    capsys.readouterr()
    assert preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1) == path
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert named in line
    assert len(read_units(log)) == 6


def test_other_code_is_reported_when_every_part_differs(tmp_path, log):
    path = preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    note = path / "preparation.json"
    made = json.loads(note.read_text())
    other = {name: dict.fromkeys(parts, "other") for name, parts in made["parts"].items()}
    note.write_text(json.dumps(made | {"code": "older", "parts": other}))
    with pytest.raises(UserError, match=r"version of the code.*--output") as one:
        preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    assert "4 of 4" not in str(one.value)
    assert "\n" not in str(one.value)
    # One equal part shows that the code describes files as before; other settings differ anyway.
    some = other | {"test": made["parts"]["test"]}
    note.write_text(json.dumps(made | {"code": "older", "parts": some}))
    with pytest.raises(UserError, match="train: 4 of 4"):
        preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    note.write_text(json.dumps(made | {"code": "older", "parts": other, "settings": {}}))
    with pytest.raises(UserError, match="--sizes"):
        preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)


def test_a_full_disk_keeps_what_is_finished(tmp_path, log, monkeypatch):
    written, savez = [], np.savez

    def full(file, **columns):
        if len(written) == 3:
            file.write(b"half a fi")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(1)
        savez(file, **columns)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match="No space left on device"):
        preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    monkeypatch.undo()
    preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    assert len(read_units(log)) == 7  # the one that did not fit is read again


@pytest.mark.parametrize(
    ("number", "resumes"), [(errno.EDQUOT, True), (errno.EROFS, False), (errno.EACCES, False)]
)
def test_a_failed_write_names_its_cause_and_the_way_out(
    tmp_path, log, monkeypatch, number, resumes
):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np, "savez", refused)
    with pytest.raises(UserError) as caught:
        preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    assert os.strerror(number) in str(caught.value)
    assert "--output" in str(caught.value)
    for words in ("free some space", "resume"):
        assert (words in str(caught.value)) == resumes


def test_a_disk_that_fills_while_shards_are_written_is_named(tmp_path, log, monkeypatch):
    def full(self, **_):
        raise RuntimeError(
            f"write() failed: No space left on device; writing {tmp_path}; at 602112"
        )

    builder = prepared_builder.make_builder("made_up", tmp_path, {}, {})
    monkeypatch.setattr(type(builder).__mro__[1], "download_and_prepare", full, raising=False)
    with pytest.raises(UserError) as caught:
        preparation.prepare(MadeUp(log, SIZES), tmp_path / "d", workers=1)
    path = preparation.dataset_path(MadeUp(log, SIZES), tmp_path / "d")
    assert str(path) in str(caught.value)
    assert "No space left on device" in str(caught.value)
    assert "602112" not in str(caught.value)


def test_a_process_that_waits_for_another_says_so(tmp_path, log, capsys):
    with ThreadPoolExecutor(1) as pool:
        with processes.one_at_a_time(tmp_path / "made_up"):
            waiting = pool.submit(preparation.prepare, MadeUp(log, {"train": 1}), tmp_path, 1)
            deadline = time.monotonic() + 60
            line = ""
            while not line and time.monotonic() < deadline:
                time.sleep(0.02)
                line = capsys.readouterr().err
            assert str(tmp_path / "made_up") in line
            assert not waiting.done()
        assert storage.is_prepared(waiting.result())


def test_damaged_scratch_files_are_made_again(tmp_path, log):
    dataset = MadeUp(log, SIZES, broken=[("train", 0)])
    with pytest.raises(UserError, match="max-skipped"):
        preparation.prepare(dataset, tmp_path / "d", workers=1)
    first, second = sorted((tmp_path / "d").glob("made_up/partial.*/train/*.npz"))[:2]
    first.write_bytes(first.read_bytes()[:100])
    raw = bytearray(second.read_bytes())
    raw[len(raw) // 2] ^= 255
    second.write_bytes(raw)
    with pytest.raises(UserError, match=re.escape(str(second))):
        preparation.prepare(dataset, tmp_path / "d", workers=1, max_skipped=0.5)
    path = preparation.prepare(dataset, tmp_path / "d", workers=1, max_skipped=0.5)
    assert sorted(read_units(log)) == sorted(
        [f"{s}-{i}" for s in SIZES for i in range(SIZES[s])] + ["train-0", "train-1"]
    )
    assert len(storage.open_split(path, "train")) == 11


def test_a_split_without_people_is_not_written(tmp_path, log):
    path = preparation.prepare(MadeUp(log, {"train": 1, "test": 0}), tmp_path / "d", workers=1)
    assert json.loads((path / "skipped.json").read_text())["test"] == {"kept": 0, "skipped": []}
    with pytest.raises(UserError, match="'test'"):
        storage.open_split(path, "test")


def test_unit_files_hold_everything(tmp_path, make_record):
    for count in (0, 1, 3):
        examples = [make_record(seed, parts=seed != 1) for seed in range(count)]
        result = UnitResult(examples, [Skipped("wer? é", "weil", broken=True)])
        unit_files.write_unit(tmp_path / "file.npz", result)
        back = unit_files.read_unit(tmp_path / "file.npz")
        assert back is not None
        assert back.skipped == result.skipped
        assert all(same(a, b) for a, b in zip(back.examples, examples, strict=True))
        assert unit_files.read_summary(tmp_path / "file.npz") == (count, result.skipped)
        for example in back.examples:
            assert isinstance(example["image"], bytes)
            assert isinstance(example["gender"], str)
    assert unit_files.read_unit(tmp_path / "missing.npz") is None
    assert [path.name for path in tmp_path.iterdir()] == ["file.npz"]
