"""The example class in docs/data.md for a dataset of your own works."""

import importlib.util
import re
import sys
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.preparing import preparation
from data_pipelines.reading import storage


def load_example(folder):
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (folder / "mine.py").write_text(code)
    spec = importlib.util.spec_from_file_location("mine", folder / "mine.py")
    sys.modules["mine"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Mine


def test_the_documented_class_prepares(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "raw" / "train"
    folder.mkdir(parents=True)
    joints = np.concatenate([rng.uniform(10, 90, (24, 2)), np.ones((24, 1))], axis=1)
    joints[5, 2] = 0
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.jpg"), rng.integers(0, 255, (100, 120, 3), np.uint8))
        np.savetxt(folder / f"{name}.txt", joints)
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:500])
    dataset = load_example(tmp_path)(tmp_path / "raw")
    (problem,) = dataset.check()
    assert str(tmp_path / "raw" / "validation") in problem
    path = preparation.prepare(dataset, tmp_path / "data", workers=1, max_skipped=0.5)
    (example,) = storage.open_split(path, "train")
    affine = example["crop_to_photo"]
    found = example["joints_2d"] @ affine[:, :2].T + affine[:, 2]
    np.testing.assert_allclose(found, joints[:, :2], atol=1e-3)
    assert example["joints_2d_weight"].tolist() == joints[:, 2].tolist()
