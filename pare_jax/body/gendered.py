"""Finds the gendered SMPL body files in a user's folders, by their released names.

This module does not import JAX, so that data pipelines start fast.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from pare_jax.errors import UserError

# SMPL_MALE.pkl is the name in most projects. Released are basicModel_m_lbs_10_207_0_v1.0.0.pkl
# and basicmodel_f_lbs_10_207_0_v1.1.0.pkl.
_NAME = re.compile(r"(?:smpl|basicmodel)_(male|m|female|f|neutral|n)(?=[_.])", re.IGNORECASE)
_GENDERS = {"m": "male", "f": "female", "n": "neutral"}
_SUFFIXES = (".npz", ".pkl")  # in order of preference: .npz is read faster


def find_bodies(places: Iterable[str | Path]) -> dict[str, Path]:
    """Return the first body file of each gender; see `find_body_files`."""
    return {gender: files[0] for gender, files in find_body_files(places).items()}


def find_body_files(places: Iterable[str | Path]) -> dict[str, list[Path]]:
    """Return the body files by gender.

    Args:
        places: files, or folders that contain them at any depth. Their names start with
            SMPL_MALE, SMPL_FEMALE, SMPL_NEUTRAL, basicModel_m, _f or _neutral, and end in .pkl or
            .npz.

    Returns:
        The files of each gender that was found ("male", "female", "neutral"), in the order of the
        places; within a place .npz first, then by name.

    Raises:
        UserError: a place does not exist or contains no such file.
    """
    found: dict[str, list[Path]] = {}
    for place in map(Path, places):
        if not place.exists():
            raise UserError(f"there is no body model at {place}")
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        named = [(match, file) for file in files if (match := _NAME.match(file.name))]
        named = [(m, file) for m, file in named if file.suffix.lower() in _SUFFIXES]
        if not named:
            raise UserError(
                f"{place} holds no SMPL body: looked for SMPL_MALE, SMPL_FEMALE, basicModel_m or "
                "basicModel_f, .npz or .pkl; get them from smpl.is.tue.mpg.de"
            )
        for match, file in sorted(named, key=lambda n: _SUFFIXES.index(n[1].suffix.lower())):
            files = found.setdefault(_GENDERS[match[1][0].lower()], [])
            if not any(file.samefile(one) for one in files):
                files.append(file)
    return found
