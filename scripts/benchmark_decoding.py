"""Compare the reading of clips with OpenCV's, in CPU time a frame.

    python scripts/benchmark_decoding.py [--frames=60] [--repeats=5]

It needs ffmpeg (pip install imageio-ffmpeg) to make clips of a moving test picture, 1920 x 1080 in
H.264: one as it is, one that players turn by 90 degrees. Both readers give RGB. The table has the
medians of the repeats, which take turns.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import imageio_ffmpeg

from pare_jax.io.media import Clip, FrameReader


def make_clips(folder: Path, frames: int) -> dict[str, Path]:
    """Make the clips; returns their paths by name."""
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin"]
    plain, turned = folder / "plain.mp4", folder / "turned.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=25", "-frames:v", str(frames)]
    subprocess.run([*ffmpeg, *source, "-pix_fmt", "yuv420p", str(plain)], check=True)
    copy = ["-display_rotation", "90", "-i", str(plain), "-c", "copy", str(turned)]
    subprocess.run([*ffmpeg, *copy], check=True)
    return {"as stored": plain, "turned by 90 degrees": turned}


def read(path: Path) -> int:
    """Read all frames of a clip; returns their number."""
    with FrameReader(Clip(path)) as reader:
        return sum(1 for _ in reader)


def read_by_opencv(path: Path) -> int:
    """Read all frames of a clip by OpenCV; returns their number."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while (found := capture.read())[0]:
        cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB)
        count += 1
    return count


def milliseconds(function: Callable[[Path], int], path: Path) -> float:
    """Return the CPU time of a frame, all threads together."""
    start = time.process_time()
    count = function(path)
    return 1000 * (time.process_time() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=60, help="frames of each clip")
    parser.add_argument("--repeats", type=int, default=5, help="readings of each clip")
    flags = parser.parse_args()
    print("| clip | CPU ms a frame | OpenCV | ratio |")
    print("| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in make_clips(Path(folder), flags.frames).items():
            pairs = [
                (milliseconds(read, path), milliseconds(read_by_opencv, path))
                for _ in range(flags.repeats)
            ]
            ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
            print(f"| {name} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
