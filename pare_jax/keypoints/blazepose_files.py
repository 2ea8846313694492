"""BlazePose's two files in the user's cache folder: where they are, and what they must contain."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

from pare_jax.errors import UserError
from pare_jax.io.files import cache_folder
from pare_jax.keypoints.blazepose import BlazePose
from pare_jax.keypoints.litert import INSTALL, has_litert

GET = "python -m pare_jax.keypoints.get"
DETECTOR, LANDMARKS = "pose_detection.tflite", "pose_landmark_full.tflite"
# SHA-256 of the files in mediapipe 0.10.21.
HASHES = {
    DETECTOR: "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    LANDMARKS: "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
}
_LARGEST = 1 << 25  # bytes


def missing() -> str | None:
    """Return what to run before BlazePose can be used; None if everything is there."""
    if not has_litert():
        return f"{INSTALL} && {GET}"
    folder = cache_folder()
    return None if all((folder / name).is_file() for name in HASHES) else GET


def load_blazepose(threads: int = 1) -> BlazePose:
    """Load BlazePose from the cache folder, or return it if it is loaded.

    Args:
        threads: that compute one call.

    Raises:
        UserError: LiteRT or a file is missing, or a file is damaged.
    """
    if advice := missing():
        raise UserError(f"BlazePose is not installed: run {advice}")
    folder = cache_folder()
    contents = {name: _good_content(folder / name) for name in (DETECTOR, LANDMARKS)}
    for name, content in contents.items():
        if content is None:
            raise UserError(f"{folder / name} is damaged: run {GET}")
    return _blazepose(folder, threads, (contents[DETECTOR], contents[LANDMARKS]))


@functools.lru_cache(maxsize=2)
def _blazepose(
    folder: Path, threads: int, contents: tuple[bytes | None, bytes | None]
) -> BlazePose:
    """Load both networks. One object serves several threads: each has its own interpreters."""
    return BlazePose(folder / DETECTOR, folder / LANDMARKS, threads, contents)


def is_good(path: Path) -> bool:
    """Return whether one of the files is there and has the right content."""
    return _good_content(path) is not None


def _good_content(path: Path) -> bytes | None:
    """Return the content of one of the files; None if it is missing or damaged."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST)
    except OSError:
        return None
    return content if is_content(path.name, content) else None


def is_content(name: str, content: bytes, hashes: Mapping[str, str] = HASHES) -> bool:
    """Return whether a file's content has the hash of its name."""
    return hashlib.sha256(content).hexdigest() == hashes[name]
