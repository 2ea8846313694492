"""The command pare_jax.fit on small files of keypoints."""

import json

import cv2
import numpy as np
import pytest

from pare_jax import fit as command
from pare_jax.keypoints.sets import COCO17
from tests.fitting.drawn_points import drawn_pose, points_of


@pytest.fixture(name="labels")
def labels_fixture(tmp_path):
    """Return a COCO file of two people in one photograph, one of whom has a single point."""
    points, _ = points_of(drawn_pose(1))
    rows = points[0, list(COCO17.indices)]
    rows[:, :2] = 100 + 80 * rows[:, :2]
    rows[:, 2] = 2
    alone = np.zeros_like(rows)
    alone[0] = 50, 50, 2
    content = {
        "images": [{"id": 1, "file_name": "photo.png", "width": 200, "height": 220}],
        "categories": [{"id": 1, "keypoints": list(COCO17.points)}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "keypoints": own.ravel().tolist(), "id": n}
            for n, own in enumerate((rows, alone))
        ],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    return path, rows


def run(*flags):
    return command.main(["fit", *map(str, flags)])


def test_fits_are_written_in_spins_fields_and_the_photograph_is_drawn(labels, tmp_path, capsys):
    path, rows = labels
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    cv2.imwrite(str(photos / "photo.png"), np.full((220, 200, 3), 90, np.uint8))
    assert run(f"--keypoints={path}", f"--images={photos}", f"--output={output}") == 0
    assert "1 person" in capsys.readouterr().err
    fits = dict(np.load(output / "fits.npz"))
    assert fits["imgname"].tolist() == ["photo.png"]
    assert fits["pose"].shape == (1, 72)
    assert fits["good"].all()
    assert fits["part"][0, :, 2].sum() == len(rows)
    with np.load(output / "photo.npz") as person:
        left_wrist = person["joints_2d"][0, 20]
    np.testing.assert_allclose(left_wrist, rows[9, :2], atol=6)
    assert (output / "photo_overlay.jpg").is_file()


def test_a_command_without_keypoints_or_people_ends_with_one_line(labels, tmp_path, capsys):
    path, _ = labels
    output = tmp_path / "out"
    assert run(f"--output={output}") == 2
    assert "--keypoints" in capsys.readouterr().err
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][1:]
    path.write_text(json.dumps(content))
    assert run(f"--keypoints={path}", f"--output={output}") == 2
    assert "labels.json" in capsys.readouterr().err.splitlines()[-1]
    assert not output.exists()
