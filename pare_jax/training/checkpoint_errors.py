"""Errors of checkpoints that cannot be read, or are of another network or optimizer."""

import re
from collections.abc import Mapping
from pathlib import Path

from pare_jax.errors import UserError


class DamagedCheckpointError(UserError):
    """A checkpoint whose files are missing or cannot be read."""


def check_shapes(place: Path, found: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> None:
    """Raise UserError naming the first array whose shape differs; arrays are named by dotted keys.

    Args:
        place: the checkpoint, for the message.
        found: shapes of its arrays.
        wanted: shapes of the network's and optimizer's arrays.
    """
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) == wanted.get(name):
            continue
        if name.startswith("opt_state."):
            raise UserError(
                f"the checkpoint {place} has the state of another optimizer ({name}): it serves "
                "evaluation and prediction, but training cannot resume from it; use another "
                "--workdir"
            )
        saved = f"has shape {found[name]}" if name in found else "is missing"
        ours = f"has shape {wanted[name]}" if name in wanted else "does not exist"
        raise UserError(
            f"the checkpoint {place} is of another architecture: {name} {saved} there and {ours} "
            "in this config's network; use the run's config or another --workdir"
        )


def unreadable(place: Path, error: Exception) -> UserError:
    """Return the error for a checkpoint that could not be read."""
    text = str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return UserError(f"not enough memory to read the checkpoint {place}")
    if isinstance(error, PermissionError) or "PERMISSION_DENIED" in text:
        return UserError(f"no permission to read the checkpoint {place}")
    # The storage library quotes the name of an array that it cannot read.
    array = re.search(r'"((?:params|batch_stats|opt_state)\.[\w.]+)', text)
    what = f"{array[1]} cannot be read" if array else "files are missing or cannot be read"
    return DamagedCheckpointError(f"the checkpoint {place} is damaged or incomplete ({what})")
