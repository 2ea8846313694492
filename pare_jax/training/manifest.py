"""Writes WORKDIR/manifest.json: what each start of a run was made with, to run it again.

With config.json it is enough: `--config=WORKDIR/config.json` trains again, and on the same kind of
device, with the same versions and the same data, ends with the same bits.
"""

import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.io.files import read_json, write_atomically
from pare_jax.training import config as config_lib

MANIFEST_FILE = "manifest.json"
_PACKAGES = (
    "pare-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "orbax-checkpoint",
    "tensorflow",
)
# A run that is preempted for months has this many starts; the first and the latest are kept.
_MOST_STARTS = 1000


def describe(
    config: ConfigDict, fingerprints: Mapping[str, str], step: int, command: list[str] | None = None
) -> dict[str, Any]:
    """Return what the present start of a run is made with.

    Args:
        config: the run's config.
        fingerprints: of the data, by name.
        step: the step it starts at.
        command: None: the command line of this process.
    """
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        "command": command or sys.orig_argv,
        "seed": config.seed,
        "versions": versions(),
        "commit": _commit(),
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "count": jax.device_count(),
            "processes": jax.process_count(),
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        },
        "files": {
            "pretrained.path": _digest(config.pretrained.path),
            "body_model": _digest(config.body_model),
        },
        "data": dict(fingerprints),
        "config": config_lib.plain(config),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_starts(workdir: Path) -> list[dict[str, Any]]:
    """Return the starts of a run, the first one first; [] if there is no readable manifest."""
    try:
        starts = read_json(workdir / MANIFEST_FILE)["starts"]
        return [dict(start) for start in starts]
    except (OSError, UserError, ValueError, KeyError, TypeError):
        return []


def append(workdir: Path, start: Mapping[str, Any]) -> None:
    """Add a start to a run's manifest; without room on the disk there is none.

    The config stands only in the starts that change it.
    """
    if jax.process_index():
        return
    starts = read_starts(workdir)
    known = next((old["config"] for old in reversed(starts) if "config" in old), None)
    new = {name: value for name, value in start.items() if name != "config"}
    # Through JSON, as it is read: tuples become lists.
    if known != json.loads(json.dumps(start["config"])):
        new["config"] = start["config"]
    if len(starts) >= _MOST_STARTS:
        dropped = starts.pop(1)
        if "config" in dropped and len(starts) > 1:
            starts[1].setdefault("config", dropped["config"])
    content = json.dumps({"starts": [*starts, new]}, indent=1) + "\n"
    try:
        write_atomically(workdir / MANIFEST_FILE, content.encode())
    except UserError:
        return


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Describe how a start differs from an earlier one in what changes the bits of the result."""
    lines = []
    for what in ("versions", "devices", "files", "data"):
        was, now = old.get(what) or {}, new.get(what) or {}
        names = [name for name in (was | now) if was.get(name) != now.get(name)]
        lines += [f"{what}: {name}: {was.get(name)} -> {now.get(name)}" for name in names]
    if old.get("commit") != new.get("commit"):
        lines.append(f"commit: {old.get('commit')} -> {new.get('commit')}")
    return lines


def since_the_last_start(workdir: Path, start: Mapping[str, Any]) -> list[str]:
    """Describe how a start of a run differs from the one before."""
    starts = read_starts(workdir)
    lines = compare(starts[-1], start) if starts else []
    return [f"since the last start: {line}" for line in lines]


def compare_run(workdir: Path, config: ConfigDict, fingerprints: Mapping[str, str]) -> list[str]:
    """Describe how this start differs from those of a run that is trained again.

    Args:
        workdir: the other run's folder.
        config: the config to train with.
        fingerprints: of the data, by name.
    """
    starts = read_starts(workdir)
    if not starts:
        return [f"{workdir / MANIFEST_FILE} is missing: versions and data are not compared"]
    lines = compare(starts[-1], describe(config, fingerprints, 0))
    if sum("config" in start for start in starts) > 1:
        lines.append("its config changed on the way, and the last one is used")
    return [f"against {workdir}: {line}" for line in lines]


def _digest(path: str) -> str:
    """Return a digest of a file's content, or of the names and sizes in a folder; "" without."""
    if not path:
        return ""
    place = Path(path)
    try:
        if place.is_file():
            with place.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()[:16]
        files = sorted(file for file in place.rglob("*") if file.is_file())
        listing = [f"{file.relative_to(place)} {file.stat().st_size}" for file in files]
        return hashlib.sha256("\n".join(listing).encode()).hexdigest()[:16]
    except OSError:
        return "cannot be read"


@functools.cache
def _commit() -> str | None:
    """Return the commit of this project's code, "+changes" for changed files; None if unknown.

    It is read once, because the code of a process stays as it was at its start.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *command],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changes else commit
