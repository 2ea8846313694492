"""Reads MPII's annotations in the JSON form of MMPose and of Simple Baselines.

A list of people: "image", "joints" (16, 2), "joints_vis" (16). `data_pipelines` reads the release's
own MATLAB file.

Source: Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018, code.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pare_jax.errors import UserError
from pare_jax.keypoints.people_collector import PeopleCollector, rows_of
from pare_jax.keypoints.sets import MPII16

# MATLAB counts pixels from 1, at their centres; here the first pixel covers [0, 1).
_FROM_MATLAB = -0.5


def is_mpii(content: list[Any]) -> bool:
    """Return whether a list of parsed JSON has this form."""
    first = content[0] if content else None
    return isinstance(first, Mapping) and "joints" in first and "image" in first


def read_mpii(content: list[Any], people: PeopleCollector) -> None:
    """Add the people of a file.

    Args:
        content: the parsed JSON.
        people: where they are added.

    Raises:
        UserError: a person of another form.
    """
    for number, entry in enumerate(content):
        where = f"person {number}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("image"), str):
            raise UserError(f'{people.path}: {where} needs "image", text')
        points = rows_of(people.path, f'"joints" of {where}', entry.get("joints"), 2)
        seen = rows_of(people.path, f'"joints_vis" of {where}', entry.get("joints_vis"), 1)
        if len(seen) != len(points):
            raise UserError(
                f'{people.path}: {where} has {len(seen)} "joints_vis" for {len(points)} joints'
            )
        known = (seen[:, 0] > 0).astype(np.float64)
        rows = np.concatenate([points + _FROM_MATLAB, known[:, None]], axis=1)
        people.add(entry["image"], where, rows, MPII16)
