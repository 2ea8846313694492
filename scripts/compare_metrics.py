"""Compares every metric with its definition in float64 NumPy, over random poses of the free body.

    python -m scripts.compare_metrics [--poses=5000] [--seed=0]

Prints the largest differences as a Markdown table: for predictions from nearly right to another
pose, and for degenerate ones. The references are in `tests/evaluation/metric_references.py`.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from pare_jax import skeleton
from pare_jax.body.io import load_body_data
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.evaluation import metrics, pckh
from pare_jax.geometry import axis_angle_to_matrix
from tests.evaluation.metric_references import reference_pckh, reference_table

_CHUNK = 500  # poses at a time, which limits the memory of the meshes
_FLIP = np.array([-1.0, 1.0, 1.0])
UNITS = {
    "MPJPE": "mm",
    "PA-MPJPE": "mm",
    "PVE": "mm",
    "PCK@50": "%",
    "AUC": "%",
    "MPJAE": "degrees",
    "PA-MPJAE": "degrees",
    "PCKh@0.5": "%",
}


@dataclasses.dataclass
class People:
    """Posed bodies in float32, as from networks and datasets; metres, and pixels in 2D."""

    joints: np.ndarray  # (n, 24, 3)
    vertices: np.ndarray  # (n, V, 3)
    rotations: np.ndarray  # (n, 24, 3, 3)
    points_2d: np.ndarray  # (n, 25, 2)

    def moved(self, change: Callable[[np.ndarray], np.ndarray], rotations: np.ndarray) -> "People":
        """Return people with changed points and other rotations."""
        return People(
            change(self.joints).astype(np.float32),
            change(self.vertices).astype(np.float32),
            rotations.astype(np.float32),
            change(self.points_2d).astype(np.float32),
        )


def pose(betas: np.ndarray, axis_angle: np.ndarray) -> People:
    """Pose the free body 4 m in front of a camera of 1,000 px focal length."""
    data = load_body_data()
    rotations = np.asarray(axis_angle_to_matrix(jnp.asarray(axis_angle)), np.float32)
    vertices, joints = vertices_and_joints(data, betas, rotations, coarse=True)
    full_top = data.template[data.head_top]
    top = np.linalg.norm(data.extras["coarse_template"] - full_top, axis=1).argmin()
    shift = np.array([0.0, 0.0, 4.0], np.float32)
    points = np.concatenate([joints, vertices[:, [top]]], axis=1) + shift
    in_2d = 1000.0 * points[..., :2] / np.maximum(points[..., 2:], 1.0)
    return People(
        joints + shift,
        np.ascontiguousarray(vertices + shift),
        rotations,
        in_2d.astype(np.float32),
    )


def random_pairs(rng: np.random.Generator, count: int) -> tuple[People, People]:
    """Draw true people, and predictions from nearly right to another pose."""
    betas = rng.normal(size=(count, 10)).astype(np.float32)
    angles = rng.normal(0, 0.5, (count, 24, 3)).astype(np.float32)
    angles[:, 0] = rng.normal(0, 2, (count, 3))
    off = 10.0 ** rng.uniform(-4, 0, (count, 1)).astype(np.float32)
    other = rng.normal(0, 0.7, angles.shape).astype(np.float32)
    wrong = rng.normal(size=betas.shape).astype(np.float32)
    return pose(betas + off * wrong, angles + off[..., None] * other), pose(betas, angles)


def predictions(rng: np.random.Generator, pred: People, true: People) -> Iterator[tuple]:
    """Yield each kind of prediction: its name and the predicted people."""
    identity = np.broadcast_to(np.eye(3), true.rotations.shape)
    mirrored = true.rotations[:, list(skeleton.MIRROR)] * _FLIP[:, None] * _FLIP
    directions = rng.normal(size=(len(true.joints), 1, 3))

    def on_a_line(points: np.ndarray) -> np.ndarray:
        along = (points * directions[..., : points.shape[-1]]).sum(-1, keepdims=True)
        return along * directions[..., : points.shape[-1]]

    yield "random", pred
    yield "all zero", true.moved(np.zeros_like, identity)
    yield "in one place", true.moved(lambda x: np.full_like(x, 0.3), identity)
    yield "collinear", pred.moved(on_a_line, pred.rotations)
    yield "mirrored", true.moved(lambda x: x * _FLIP[: x.shape[-1]], mirrored)
    yield "flat", pred.moved(lambda x: x * np.array([1, 1, 1e-6])[: x.shape[-1]], pred.rotations)
    yield "equal", true.moved(np.array, true.rotations)


def differences(
    pred: People, true: People, known: np.ndarray, head_size: np.ndarray
) -> dict[str, np.ndarray]:
    """Return each metric's distance from its definition, NaN where that has no single value."""
    in_2d = (pred.points_2d, true.points_2d, known, head_size)
    expected = reference_table(pred, true) | {"PCKh@0.5": reference_pckh(*in_2d)}
    found = {
        "MPJPE": metrics.mpjpe(pred.joints, true.joints),
        "PA-MPJPE": metrics.pa_mpjpe(pred.joints, true.joints),
        "PVE": metrics.pve(pred.vertices, true.vertices, pred.joints, true.joints),
        "PCK@50": metrics.pck(pred.joints, true.joints),
        "AUC": metrics.auc(pred.joints, true.joints),
        "MPJAE": metrics.mpjae(pred.rotations, true.rotations),
        "PA-MPJAE": metrics.pa_mpjae(pred.rotations, true.rotations, pred.joints, true.joints),
        "PCKh@0.5": pckh.pckh(*in_2d),
    }
    return {
        name: (100 if unit == "%" else 1)
        * _difference(np.asarray(found[name], np.float64), expected[name])
        for name, unit in UNITS.items()
    }


def _difference(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return absolute differences; infinity where only `found` is NaN."""
    difference = np.where(np.isnan(found), np.inf, np.abs(found - expected))
    return np.where(np.isnan(expected), np.nan, difference)


def compare(poses: int, seed: int) -> dict[str, dict[str, float]]:
    """Return the largest difference by metric and kind of prediction."""
    rng = np.random.default_rng(seed)
    largest: dict[str, dict[str, float]] = {name: {} for name in UNITS}
    for start in range(0, poses, _CHUNK):
        count = min(_CHUNK, poses - start)
        pred, true = random_pairs(rng, count)
        known = (rng.uniform(size=(count, skeleton.NUM_POINTS)) > 0.2).astype(np.float32)
        head_size = rng.uniform(20, 100, count).astype(np.float32)
        for kind, people in predictions(rng, pred, true):
            for name, values in differences(people, true, known, head_size).items():
                worst = max(values[~np.isnan(values)], default=np.nan)
                largest[name][kind] = float(np.fmax(largest[name].get(kind, np.nan), worst))
    return largest


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--poses", type=int, default=5000, help="number of poses for each kind of prediction"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random poses")
    flags = parser.parse_args(arguments)
    largest = compare(flags.poses, flags.seed)
    kinds = list(largest["MPJPE"])
    print(f"| metric | unit | {' | '.join(kinds)} |")
    print(f"| --- | --- |{' ---: |' * len(kinds)}")
    for name, unit in UNITS.items():
        cells = [largest[name][kind] for kind in kinds]
        texts = ["-" if np.isnan(cell) else f"{cell:.1e}" if cell else "0" for cell in cells]
        print(f"| {name} | {unit} | {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
