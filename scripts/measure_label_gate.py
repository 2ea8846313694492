"""Measure fits as labels on drawn people, whose truth is known, and how good their gate is.

    python scripts/measure_label_gate.py [--people=1000] [--output=docs/images/label_gate.png]

The people are those of bodies/test (exact keypoints) and bodies/test_noisy (a detector's errors, a
third of the points missing), of which only the points of COCO or of MPII are given. Prints a table:
errors of all fits, and of those that pass the default gate; draws the share kept by the agreement
of starts against the error.
"""

import argparse
import time
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np

from configs.common import get_base
from data_pipelines.bodies import splits as body_splits
from pare_jax.body.io import load_body_data
from pare_jax.evaluation.figures import kept_share_figure
from pare_jax.evaluation.metrics import mpjpe, pa_mpjpe
from pare_jax.fitting.fitter import BodyFit
from pare_jax.fitting.label_fitter import fit_label
from pare_jax.fitting.plausibility import plausibility
from pare_jax.keypoints.body_points import PointBody, body_points
from pare_jax.keypoints.sets import COCO17, MPII16, KeypointSet
from pare_jax.training.base_config import base_config
from pare_jax.training.shipped import load_shipped

_SPLITS = {"test": "exact keypoints", "test_noisy": "noisy keypoints, a third missing"}
_SETS = {"COCO": COCO17, "MPII": MPII16}


def keypoints_in(batch, chosen: KeypointSet, exact: bool) -> np.ndarray:
    """Return keypoints as the network sees them, only the points of a set."""
    seen, points = np.asarray(batch["keypoints"]), list(chosen.indices)
    kept = np.zeros_like(seen)
    kept[:, points, :3] = seen[:, points, :3]
    if exact:
        kept[:, points, :2] = np.asarray(batch["points_2d"])[:, points]
        kept[:, points, 2] = 1.0
    return kept


def errors_of(found: BodyFit, batch, body: PointBody) -> dict[str, np.ndarray]:
    """Return each person's errors: mm, mm, and degrees of the rotations but the root's."""
    joints = np.asarray(body.place(jnp.asarray(found.rotations), jnp.asarray(found.betas))[1])
    true, rotations = np.asarray(batch["joints_3d"]), np.asarray(batch["rotations"])
    relative = np.swapaxes(found.rotations, -1, -2) @ rotations
    cosine = (np.trace(relative, axis1=-2, axis2=-1) - 1.0) / 2.0
    return {
        "mpjpe": np.asarray(mpjpe(joints, true)),
        "pa": np.asarray(pa_mpjpe(joints, true)),
        "rotation": np.degrees(np.arccos(np.clip(cosine[:, 1:], -1, 1))).mean(1),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--data", default="data", help="folder that keeps the drawn poses")
    parser.add_argument("--output", type=Path, default=Path("docs/images/label_gate.png"))
    options = parser.parse_args(arguments)
    config = get_base()
    config.data.bodies.test, config.data.root = options.people, options.data
    splits, settings = body_splits.from_mapping(config.data.bodies)
    bodies = body_splits.DrawnBodies(splits, settings, Path(options.data) / "bodies")
    body, network, gate = body_points(load_body_data()), load_shipped().network, base_config()
    limits = gate.data.fits
    panels = {}
    print(
        "| keypoints | start | all: MPJPE, PA, rotation | kept % | kept: MPJPE, PA, rotation | /s |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for split, title in _SPLITS.items():
        batch = next(iter(bodies.eval_batches(split, batch_size=options.people)))
        curves = panels[title] = {}
        for name, chosen in _SETS.items():
            seen = keypoints_in(batch, chosen, exact=split == "test")
            for start, answer in (("network", network(jnp.asarray(seen))), ("dictionary", None)):
                begin = time.perf_counter()
                found = fit_label(seen[..., :3], answer, body=body)
                speed = options.people / (time.perf_counter() - begin)
                errors = errors_of(found, batch, body)
                kept = (
                    found.converged
                    & (found.error <= limits.error)
                    & (found.agreement <= limits.agreement)
                    & (plausibility(found.rotations, found.betas) >= limits.plausibility)
                )
                every = ", ".join(f"{one.mean():.1f}" for one in errors.values())
                good = ", ".join(f"{one[kept].mean():.1f}" for one in errors.values())
                print(
                    f"| {name}, {title} | {start} | {every} | {100 * kept.mean():.0f} | {good} "
                    f"| {speed:.0f} |",
                    flush=True,
                )
                curves[f"{name}, {start}"] = (found.agreement, errors["mpjpe"])
    drawn = kept_share_figure(panels, limits.agreement, "agreement of starts")
    cv2.imwrite(str(options.output), drawn[..., ::-1])


if __name__ == "__main__":
    main()
