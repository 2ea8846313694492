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
is on disk; run the same command again after an interruption and it goes on from there.

Exit status: 0 when everything was done (people found or not), 1 when something could not be, 2
when nothing could or the command was wrong, 130 when it was interrupted by Ctrl-C.
"""

import logging
import sys
from collections.abc import Sequence

from absl import flags

from pare_jax.errors import UserError
from pare_jax.people import Person as Person
from pare_jax.predicting.command import define_flags, run_command
from pare_jax.predictor import load_predictor as load_predictor

INTERRUPTED = 130  # what shells answer for a command ended by Ctrl-C


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    # Flags of this command alone: importing the module must not add to the caller's.
    values = flags.FlagValues()
    define_flags(values)
    # Only failures of the libraries concern the user; their progress does not.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        arguments = values(list(argv))[1:]
        if values.help:
            print(f"{__doc__}\n{values.get_help()}")
            return 0
        return run_command(values, arguments)
    except flags.Error as error:
        return _complain(UserError(f"{' '.join(str(error).split())}; see --help"))
    except UserError as error:
        return _complain(error)
    except KeyboardInterrupt:
        again = "interrupted: run the same command again, and it goes on from here"
        print(again, file=sys.stderr)
        return INTERRUPTED


def _complain(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
