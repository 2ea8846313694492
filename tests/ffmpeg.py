"""The command ffmpeg as reference: makes small clips, and says what players show of a clip."""

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

# The test picture moves, so that every frame differs.
SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration={seconds}")


def ffmpeg(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg; its messages are in `stderr`."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-nostdin", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True)


def make_clip(path: Path, *arguments: str, seconds: float = 0.4) -> Path:
    """Encode a moving test picture of 96 x 64 pixels, 25 frames a second."""
    source = [part.format(seconds=seconds) for part in SOURCE]
    ffmpeg("-v", "error", *source, *arguments, path)
    return path


def frames_shown(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the frames that ffmpeg shows, scaled to (width, height): RGB, (frames, h, w, 3)."""
    scale = "scale={}:{},format=rgb24".format(*size)
    raw = ffmpeg(
        *("-v", "error", "-i", path, "-map", "0:V:0", "-vf", scale, "-fps_mode", "passthrough"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    ).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)


def times_shown(path: Path) -> np.ndarray:
    """Return the presentation times of the frames, seconds from the first."""
    said = ffmpeg(
        *("-v", "info", "-copyts", "-i", path, "-map", "0:V:0", "-vf", "showinfo"),
        *("-fps_mode", "passthrough", "-f", "null", "-"),
    ).stderr.decode()
    times = np.array([float(time) for time in re.findall(r"pts_time:([-0-9.e]+)", said)])
    return times - times[0]
