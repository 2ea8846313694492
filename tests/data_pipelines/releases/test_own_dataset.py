"""The example class in docs/data.md for a dataset of your own works."""

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipelines.preparing import preparation
from data_pipelines.reading import storage

ROOT = Path(__file__).parents[3]


def documented():
    """Return the code of the class, and that of the call."""
    text = (ROOT / "docs" / "data.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def load_example(folder):
    (folder / "mine.py").write_text(documented()[0])
    spec = importlib.util.spec_from_file_location("mine", folder / "mine.py")
    sys.modules["mine"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Mine


def write_release(folder, names):
    """Write photographs with joints beside them; returns the joints, the same for all."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    joints = np.concatenate([rng.uniform(10, 90, (24, 2)), np.ones((24, 1))], axis=1)
    joints[5, 2] = 0
    for name in names:
        cv2.imwrite(str(folder / f"{name}.jpg"), rng.integers(0, 255, (100, 120, 3), np.uint8))
        np.savetxt(folder / f"{name}.txt", joints)
    return joints


def test_the_documented_class_prepares(tmp_path):
    folder = tmp_path / "raw" / "train"
    joints = write_release(folder, ("a", "b"))
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


@pytest.mark.parametrize("guarded", [True, False])
def test_the_documented_script_prepares_with_its_guard_and_without(guarded, tmp_path):
    """Without the guard each worker process would start the script again."""
    for split in ("train", "validation"):
        write_release(tmp_path / "raw" / split, [f"{number:03d}" for number in range(3)])
    script = "".join(documented()).replace("100", "1").replace("/raw/mine", "raw")
    guard = 'if __name__ == "__main__":\n'
    assert guard in script
    if not guarded:
        head, _, call = script.partition(guard)
        script = head + textwrap.dedent(call)
    (tmp_path / "mine.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "mine.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(storage.open_split(tmp_path / done.stdout.strip(), "validation")) == 3
    assert ("one process reads, because mine.py" in done.stderr) == (not guarded)
