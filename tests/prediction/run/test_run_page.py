"""The page of a run: results and failures of this run and of earlier ones."""

import re

from pare_jax.io.images import encode_png
from tests.prediction.predict_fakes import photo_with_spots
from tests.prediction.run.folders import save_clip, save_photos


def test_a_damaged_picture_of_an_earlier_run_is_left_out_of_the_page(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 2)
    output = command(folder)[3]
    (output / "p00_overlay.jpg").write_bytes(b"")
    (output / "p01_attention.jpg").write_text("not a picture")
    status, printed, errors, _ = command(folder)
    assert (status, len(errors)) == (1, 2)
    assert "done: 2 photographs with 2 people (2 by an earlier run)" in printed
    page = (output / "index.html").read_text()
    assert page.count('<article class="card"') == 2
    assert page.count("<img ") == 2
    assert "p00_overlay.jpg" in page


def test_the_page_leaves_out_what_an_earlier_run_wrote_without_npz(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 2)
    clip = tmp_path / "clip.mp4"
    save_clip(clip, frames=4)
    assert command("--outputs=json", folder / "p00.png")[0] == 0
    assert command("--outputs=overlay", clip)[0] == 0
    status, _, errors, output = command(folder / "p01.png")
    (note,) = errors
    assert status == 0
    assert note.startswith("note: the page ")
    assert "2 results" in note
    assert "clip.mp4" in note
    assert "p00.png" in note
    page = (output / "index.html").read_text()
    assert "2 results" in page
    assert page.count('<article class="card"') == 1
    assert "Nobody was found" not in page


def test_a_card_names_the_network_of_an_earlier_run_if_it_differs(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 2)
    clip = tmp_path / "clip.mp4"
    save_clip(clip, frames=4)
    for photo in folder.iterdir():
        command("--checkpoint=older<1>", photo)
    command("--checkpoint=older<1>", "--nosmooth_shape", clip)
    output = command("--weights=last", folder / "p01.png")[3]
    before, _, cards = (output / "index.html").read_text().partition("<main")
    assert "<dt>Network</dt><dd>run, last weights</dd>" in before
    older = "Network: older&lt;1&gt;"
    of_clip = f"{older} · Smoothed in clips: rotations, camera"
    assert re.findall(r'<p class="facts">(Network.*)</p>', cards) == [of_clip, older]
    # The same network by another path does not differ.
    printed = command("--checkpoint=./run", "--weights=last", folder / "p01.png")[1]
    assert any("1 by an earlier run" in line for line in printed)
    assert (output / "index.html").read_text().count("Network:") == 2


def test_the_page_shows_none_of_the_users_own_files(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    output = command("--outputs=npz,overlay,page", folder)[3]
    save_clip(output / "p00_overlay.mp4", frames=4)
    (output / "p00_track_1.npz").write_bytes((output / "p00.npz").read_bytes())
    for name in ("overlay", "attention", "attention_0", "side"):
        (output / f"p00_{name}.png").write_bytes(encode_png(photo_with_spots()))
    status, _, errors, _ = command("--outputs=npz,overlay,page", folder)
    assert (status, errors) == (0, [])
    page = (output / "index.html").read_text()
    assert re.findall(r'href="./(.+?)"', page) == ["p00_overlay.jpg", "p00.npz"]
    assert "1 photograph, 1 person" in page
    assert "<video" not in page


def test_the_summary_is_printed_if_the_page_cannot_be_written(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    (tmp_path / "out" / "index.html").mkdir(parents=True)
    status, printed, errors, _ = command(folder)
    assert (status, len(errors)) == (1, 1)
    assert "index.html" in errors[0]
    assert "done: 1 photograph with 1 person" in printed


def test_a_link_in_the_place_of_the_page_stays(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    (tmp_path / "out").mkdir()
    page = tmp_path / "out" / "index.html"
    page.symlink_to(tmp_path / "missing")
    status, _, errors, _ = command(folder)
    assert (status, len(errors)) == (1, 1)
    assert str(page) in errors[0]
    assert page.is_symlink()
    assert not page.exists()


def test_photographs_with_the_same_name_are_shown_with_their_folders(command, tmp_path):
    folders = [save_photos(tmp_path / name, 1) for name in ("first", "second")]
    status, _, _, output = command("--outputs=npz,page", *folders)
    assert status == 0
    page = (output / "index.html").read_text()
    for folder in folders:
        (path,) = folder.iterdir()
        assert f">{path}</h2>" in page
