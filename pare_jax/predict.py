"""Photographs, clips or a camera in, people out.

    python -m pare_jax.predict --checkpoint=runs/final --output=out photo.jpg folder/ "shots/*.jpg"
    python -m pare_jax.predict --checkpoint=runs/final --output=out clip.mp4
    python -m pare_jax.predict --checkpoint=runs/final --output=out webcam:0
    python -m pare_jax.predict --checkpoint=runs/final --output=out \\
        --boxes=370,683,870,1394 photo.jpg

Where people are says --boxes, else --detector: hog (OpenCV's, which misses most people), the path
of an ONNX file, or whole, which takes every picture for one person. A box is the tight box of one
person, x0,y0,x1,y1 in pixels; give --boxes once a person, or a JSON file with
{"photo.jpg": [[x0,y0,x1,y1], ...], ...} or COCO's detections.

Each photograph NAME becomes NAME.npz, NAME.json, NAME_overlay.jpg and NAME_attention.jpg (one for
each person, NAME_attention_0.jpg and so on, when there are several); each clip NAME_overlay.mp4 or
.webm and NAME_track_ID.npz and .json; index.html shows everything. --outputs chooses. What is done
is on disk; run the same command again after an interruption and it goes on from there. Files
that no run wrote are never overwritten.

Exit status: 0 when everything was done (people found or not), 1 when something could not be, 2
when nothing could or the command was wrong, 130 when it was interrupted by Ctrl-C.
"""

import sys
from collections.abc import Sequence

from pare_jax.io import command_line
from pare_jax.prediction.person import Person as Person
from pare_jax.prediction.predictor import load_predictor as load_predictor
from pare_jax.prediction.run.command import define_flags, run_command


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    again = "interrupted: run the same command again to resume"
    return command_line.run(__doc__, define_flags, run_command, argv, again)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
