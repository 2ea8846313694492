"""Finding the gendered SMPL bodies among a user's files, by the names they are released under.

Knows numpy only, so that data pipelines can use it without JAX.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from pare_jax.errors import UserError

# SMPL_MALE.pkl (as most projects call them), basicModel_m_lbs_10_207_0_v1.0.0.pkl and
# basicmodel_f_lbs_10_207_0_v1.1.0.pkl (as they are released).
_NAME = re.compile(r"(?:smpl|basicmodel)_(male|m|female|f|neutral|n)(?=[_.])", re.IGNORECASE)
_GENDERS = {"m": "male", "f": "female", "n": "neutral"}
_SUFFIXES = (".npz", ".pkl")  # the first is read faster


def find_bodies(places: Iterable[str | Path]) -> dict[str, Path]:
    """Find the body file of each gender, the first of what `find_body_files` finds."""
    return {gender: files[0] for gender, files in find_body_files(places).items()}


def find_body_files(places: Iterable[str | Path]) -> dict[str, list[Path]]:
    """Find body files by name.

    Args:
        places: files, and folders that hold them at any depth: SMPL_MALE, SMPL_FEMALE and
            SMPL_NEUTRAL, or basicModel_m, _f and _neutral with anything behind, .pkl or .npz.

    Returns:
        The files of each gender that was found, "male", "female", "neutral": in the order of the
        places, within one .npz first and then by name.

    Raises:
        UserError: a place does not exist or holds no body by such a name.
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
