"""The command: outputs, exit status, and one line for each error."""

import json
from pathlib import Path

import numpy as np
import pytest

from pare_jax.body.model import body_from_data
from pare_jax.errors import UserError
from pare_jax.io import images
from pare_jax.io.images import encode_png, read_image
from pare_jax.sensitivity import cli as command
from tests.data_pipelines.conftest import make_record
from tests.prediction.made_up_people import small_body
from tests.prediction.predict_fakes import SIZE, box_about, make_predictor, photo_with_spots


@pytest.fixture(scope="module")
def predictor():
    return make_predictor(body_from_data(small_body()))


@pytest.fixture
def run(predictor, monkeypatch, tmp_path, capsys):
    """Run the command; returns exit status, stdout, lines of stderr and the output folder."""
    monkeypatch.setattr(command, "load_predictor", lambda *_, **__: predictor)
    output = tmp_path / "out"

    def run(*arguments):
        argv = ["sensitivity", "--checkpoint=run", f"--output={output}", *map(str, arguments)]
        status = command.main(argv)
        printed = capsys.readouterr()
        return status, printed.out, printed.err.splitlines(), output

    return run


def save(path: Path, picture: np.ndarray) -> Path:
    path.write_bytes(encode_png(picture))
    return path


def written(output: Path) -> list[str]:
    return sorted(path.name for path in output.iterdir()) if output.exists() else []


class Split:
    """Labelled people, as `storage.open_split` returns them."""

    path, split = Path("made_up"), "test"

    def __init__(self, records):
        self._records = records

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self._records[index]


@pytest.fixture
def split(monkeypatch):
    """Make `--data=ROOT --dataset=made_up/test` find the given people."""
    from data_pipelines.reading import storage

    def put(records):
        monkeypatch.setattr(storage, "find_dataset", lambda root, name: Path(root) / name)
        monkeypatch.setattr(storage, "open_split", lambda path, name: Split(records))

    return put


def test_a_photograph_becomes_maps_a_sheet_and_a_clip(run, tmp_path):
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    box = ",".join(map(str, box_about(200, 150)))
    status, out, errors, output = run(f"--boxes={box}", "--patch=16", "--stride=16", photo)
    assert (status, errors) == (0, [])
    assert written(output) == [f"photo_sensitivity.{kind}" for kind in ("mp4", "npz", "png")]
    assert "mean change" in out
    with np.load(output / "photo_sensitivity.npz") as found:
        assert found["maps"].shape == (4, 4, 24)
        assert (found["patch"], found["stride"], found["image_size"]) == (16, 16, SIZE)
        # This network moves the whole person, so joints relative to the pelvis do not change.
        np.testing.assert_allclose(found["maps"], 0, atol=1e-3)
    assert read_image(output / "photo_sensitivity.png").shape[1] > 1000


def test_boxes_are_in_the_pixels_of_a_huge_photograph(run, tmp_path, monkeypatch):
    """The photograph is read at half its size; the box lies outside the reduced one."""
    monkeypatch.setattr(images.read_photograph, "__defaults__", (40_000, None))
    photo = tmp_path / "huge.jpg"
    photo.write_bytes(images.encode_jpeg(photo_with_spots((340.0, 200.0))))
    box = ",".join(map(str, box_about(340, 200)))
    status, _, errors, output = run(f"--boxes={box}", "--patch=32", "--stride=64", photo)
    assert (status, errors) == (0, [])
    assert "huge_sensitivity.png" in written(output)


def test_several_people_are_numbered_and_bad_boxes_reported(run, tmp_path):
    photo = save(tmp_path / "two.png", photo_with_spots((100.0, 150.0), (300.0, 150.0)))
    boxes = [",".join(map(str, box)) for box in (box_about(100, 150), (900, 0, 990, 90))]
    arguments = [f"--boxes={box}" for box in boxes]
    status, _, errors, output = run(*arguments, "--patch=32", "--stride=32", photo)
    assert status == 1
    assert len(errors) == 1
    assert "two.png" in errors[0]
    assert "900" in errors[0]
    assert written(output) == [f"two_sensitivity_0.{kind}" for kind in ("mp4", "npz", "png")]
    status, _, errors, _ = run(f"--boxes={boxes[1]}", photo)
    assert status == 2
    assert "two.png" in errors[-1]


def test_broken_photographs_do_not_stop_the_others(run, tmp_path):
    good = save(tmp_path / "good.png", photo_with_spots((200.0, 150.0)))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    status, _, errors, output = run("--stride=64", broken, good)
    assert status == 1
    assert [line for line in errors if "broken.jpg" in line] == errors
    assert len(errors) == 1
    assert "good_sensitivity.png" in written(output)


def test_each_bad_name_is_reported_at_once_and_at_the_end(run, tmp_path):
    good = save(tmp_path / "good.png", photo_with_spots((200.0, 150.0)))
    bad = [tmp_path / name for name in ("none.jpg", "clip.mp4", "nowhere*.jpg", "empty")]
    bad[3].mkdir()
    status, _, errors, output = run("--stride=64", *bad, good, good)
    assert status == 1
    assert "good_sensitivity.png" in written(output)
    assert len(written(output)) == 3  # named twice, done once
    at_once, summary = errors[: len(bad)], errors[len(bad) :]
    assert all(line.startswith("error: ") for line in at_once)
    assert summary[0].startswith("1 of 2 ")
    for path in bad:
        assert sum(path.name in line for line in at_once) == 1
        assert sum(path.name in line for line in summary) == 1


def test_each_bad_name_is_reported_when_all_are_bad(run, tmp_path):
    names = [tmp_path / "one.mp4", tmp_path / "two*.jpg"]
    status, _, errors, output = run(*names)
    assert (status, len(errors), written(output)) == (2, 2, [])
    assert all(sum(path.name in line for line in errors) == 1 for path in names)


def test_the_body_of_the_command_line_is_used(run, monkeypatch, tmp_path, predictor):
    bodies = []

    def load(*_, body, **__):
        bodies.append(body)
        return predictor

    monkeypatch.setattr(command, "load_predictor", load)
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    assert run("--body=moved.npz", "--stride=64", photo)[0] == 0
    assert bodies == ["moved.npz"]


def test_an_interruption_while_loading_leaves_no_folder(run, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load_predictor", interrupted)
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    status, _, errors, output = run(photo)
    assert (status, len(errors)) == (130, 1)
    assert not output.exists()


@pytest.mark.parametrize("fails", ["loading", "reading"])
def test_a_failure_leaves_no_empty_folder_of_several(run, monkeypatch, tmp_path, fails):
    def load(*_, **__):
        raise UserError("no such run")

    if fails == "loading":
        monkeypatch.setattr(command, "load_predictor", load)
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"no picture")
    assert run(f"--output={tmp_path}/new/b/c", photo)[0] == 2
    assert not (tmp_path / "new").exists()


def test_labelled_people_become_a_table(run, split, tmp_path):
    split([make_record(seed) for seed in range(7)])
    status, out, errors, output = run(
        *("--data=root", "--dataset=made_up/test", "--count=4", "--maps=2", "--stride=64")
    )
    assert (status, errors) == (0, [])
    table = [f"occlusion_table.{kind}" for kind in ("csv", "json", "png", "txt")]
    # Four of seven, evenly over the split; the first two of them have maps.
    people = ["person_000000_sensitivity", "person_000002_sensitivity"]
    maps = [f"{name}.{kind}" for name in people for kind in ("mp4", "npz", "png")]
    assert written(output) == sorted([*table, *maps])
    assert (output / "occlusion_table.txt").read_text() in out
    described = json.loads((output / "occlusion_table.json").read_text())
    assert (described["dataset"], described["people"]) == ("made_up/test", 4)
    assert described["crop_px"] == SIZE
    with np.load(output / "person_000002_sensitivity.npz") as found:
        truth = make_record(2)["joints_3d"]
        error = np.linalg.norm(found["baseline_joints"] - truth, axis=-1) * 1000
        np.testing.assert_allclose(found["baseline_errors"], error, rtol=1e-3, atol=1e-2)


def test_people_without_labels_are_one_line(run, split):
    split([make_record(seed, joints_3d_weight=np.float32(0)) for seed in range(2)])
    status, _, errors, _ = run("--data=root", "--dataset=made_up/test")
    assert (status, len(errors)) == (2, 1)
    assert "made_up/test" in errors[0]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), ["photograph"]),
        (("--patch=65",), ["patch 65", "64"]),
        (("--patch=0",), ["--patch=0"]),
        (("--stride=0",), ["--stride=0"]),
        (("--stride=many",), ["--stride"]),
        (("--maps=-1", "--data=root", "--dataset=a/b"), ["--maps=-1"]),
        (("--data=root",), ["--dataset"]),
        (("--dataset=synthetic/test",), ["--data"]),
        (("--data=root", "--dataset=test"), ["--dataset=test"]),
        (("--data=root", "--dataset=nothing/test"), ["nothing"]),
    ],
)
def test_bad_flags_are_one_line(run, tmp_path, arguments, names):
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    needs_photo = arguments and not any("--data" in argument for argument in arguments)
    status, _, errors, output = run(*arguments, *([photo] if needs_photo else []))
    assert status == 2
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert all(name in errors[0] for name in names)
    assert written(output) == []


def test_photographs_and_labelled_people_are_not_mixed(run, tmp_path):
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    status, _, errors, _ = run("--data=root", "--dataset=synthetic/test", photo)
    assert (status, len(errors)) == (2, 1)
    assert "--dataset" in errors[0]


def test_the_crop_scale_of_the_command_line_is_used(run, predictor, monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setattr(
        command, "load_predictor", lambda *_, **given: loaded.append(given) or predictor
    )
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    assert run("--crop_scale=1.5", "--stride=60", photo)[0] == 0
    assert loaded[0]["crop_scale"] == 1.5


def test_help_names_the_flags(run):
    status, out, _, _ = run("--help")
    assert status == 0
    assert all(flag in out for flag in ("--patch", "--stride", "--dataset", "--count", "--maps"))
