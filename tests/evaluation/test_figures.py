"""Figures of an evaluation, and what importing them loads."""

import subprocess
import sys

import numpy as np

from pare_jax.evaluation import figures
from pare_jax.skeleton import NUM_JOINTS


def is_picture(array: np.ndarray) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.std() > 1


def count_colour(picture: np.ndarray, colour: str) -> int:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture.astype(int) - rgb).max(-1) < 3).sum())


def test_joint_bars_grow_with_the_error():
    baseline = np.full(NUM_JOINTS, 200.0)
    small = figures.joint_error_figure(np.full(NUM_JOINTS, 50.0), baseline, "small")
    large = figures.joint_error_figure(np.full(NUM_JOINTS, 100.0), baseline, "large")
    assert is_picture(small)
    ratio = count_colour(large, "#0072b2") / count_colour(small, "#0072b2")
    assert 1.7 < ratio < 2.1


def test_joints_without_labels_have_no_bar():
    errors = np.full(NUM_JOINTS, 50.0)
    errors[3:] = np.nan
    few = figures.joint_error_figure(errors, errors * 2, "few")
    many = figures.joint_error_figure(np.full(NUM_JOINTS, 50.0), errors * 2, "many")
    assert count_colour(few, "#0072b2") < 0.3 * count_colour(many, "#0072b2")


def test_occlusion_figure_takes_any_number_of_samples():
    random = np.random.default_rng(0)
    share = random.integers(0, 20, 300) / 24
    errors = 60 + 80 * share
    assert is_picture(figures.occlusion_figure(errors, errors + 50, share, "title"))
    # Nobody hidden, and no sample at all.
    for count in (1, 2, 0):
        zeros = np.zeros(count)
        assert is_picture(figures.occlusion_figure(zeros + 50, zeros + 80, zeros, "title"))


def test_drawing_needs_neither_jax_nor_matplotlib_until_a_figure_is_drawn():
    code = (
        "import sys; import pare_jax.rendering.overlay, pare_jax.evaluation.figures;"
        "import pare_jax.rendering.skeleton_lines, pare_jax.rendering.attention_maps;"
        "import pare_jax.io.images;"
        "import pare_jax.prediction.person, pare_jax.prediction.drawing;"
        "print([m for m in ('jax', 'matplotlib', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_submodules_load_on_first_use():
    code = (
        "import sys, pare_jax; pare_jax.evaluation; print('jax' in sys.modules);"
        "print(float(pare_jax.evaluation.metrics.mpjpe([[0, 0, 0], [0, 0, 1]], [[0, 0, 0]] * 2)));"
        "print(hasattr(pare_jax.evaluation, 'missing'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "500.0", "False"]
