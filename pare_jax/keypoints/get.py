"""Fetch BlazePose's two files, once, into the user's cache folder.

    python -m pare_jax.keypoints.get
    python -m pare_jax.keypoints.get --wheel=mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl

The files (Apache License 2.0) are part of the package mediapipe 0.10.21. pip downloads its wheel;
nothing of it is installed or run, so that any system and Python will do. Without a network, copy
the wheel from another machine and name it. PARE_JAX_CACHE names another folder.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from pare_jax.errors import UserError, reason_of
from pare_jax.io import command_line
from pare_jax.io.files import cache_folder, printable, write_together
from pare_jax.keypoints.blazepose_files import (
    DETECTOR,
    GET,
    HASHES,
    LANDMARKS,
    is_content,
    is_good,
)
from pare_jax.keypoints.litert import INSTALL, has_litert

_PACKAGE = "mediapipe==0.10.21"
_WHEEL = "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"
_WHEEL_HASH = {_WHEEL: "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"}
_MEMBERS = {
    DETECTOR: f"mediapipe/modules/pose_detection/{DETECTOR}",
    LANDMARKS: f"mediapipe/modules/pose_landmark/{LANDMARKS}",
}
# The files do not depend on the system; the wheel that is named has them.
_DOWNLOAD = (
    *("download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"),
    *("--retries=2", "--timeout=20", "--only-binary=:all:", "--python-version=3.11"),
    *("--platform=manylinux_2_28_x86_64", _PACKAGE),
)
_BY_HAND = f"on a machine with a network get {_WHEEL}, copy it here, and run {GET} --wheel=FILE"


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    text = f"Take the files from this copy of {_WHEEL}."
    flags.DEFINE_string("wheel", None, text, flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    return command_line.run(__doc__, define_flags, _get, argv)


def _get(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}; see --help")
    folder = cache_folder()
    if not all(is_good(folder / name) for name in HASHES):
        fetch(folder, values.wheel and Path(values.wheel))
    for name in HASHES:
        print(printable(str(folder / name)))
    if not has_litert():
        print(f"note: LiteRT, which runs them, is missing: {INSTALL}")
    return 0


def fetch(folder: Path, wheel: Path | None = None) -> None:
    """Put BlazePose's files into a folder; both appear, or none.

    Args:
        folder: created if missing.
        wheel: a copy of mediapipe's wheel; None: pip downloads it.

    Raises:
        UserError: there is no network or no pip, a hash is wrong, or the folder cannot be written.
    """
    if wheel is not None:
        files = _read(wheel)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            files = _read(_download(Path(scratch)))
    write_together(folder, files)


def _download(folder: Path) -> Path:
    """Download the wheel with pip."""
    print(f"fetching {_PACKAGE} (35 MB) for BlazePose's two files", flush=True)
    command = [sys.executable, "-m", "pip", *_DOWNLOAD, f"--dest={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    wheel = folder / _WHEEL
    if done.returncode or not wheel.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it gave no reason"]
        reason = printable(reason_of(Exception(lines[-1].removeprefix("ERROR: "))))
        raise UserError(f"pip cannot download {_PACKAGE} ({reason}): {_BY_HAND}")
    return wheel


def _read(wheel: Path) -> dict[str, bytes]:
    """Return the two files in a wheel, after checking all hashes."""
    try:
        content = wheel.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {wheel}: {error.strerror or error}") from None
    if not is_content(_WHEEL, content, _WHEEL_HASH):
        raise UserError(f"{wheel} is not the expected {_WHEEL}, or damaged: {_BY_HAND}")
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(member) for name, member in _MEMBERS.items()}
    for name, part in files.items():
        if not is_content(name, part):
            raise UserError(f"{name} in {wheel} is damaged; it is not used")
    return files


if __name__ == "__main__":
    sys.exit(main(sys.argv))
