"""Predict the people of photographs, clips or a camera's stream.

    python -m pare_jax.predict photo.jpg folder/ "shots/*.jpg"
    python -m pare_jax.predict --output=out --refine clip.mp4
    python -m pare_jax.predict --output=out --clip=frames/ --fps=25
    python -m pare_jax.predict --output=out webcam:0
    python -m pare_jax.predict --output=out --keypoints=labels.json photos/
    python -m pare_jax.predict --checkpoint=runs/final --boxes=370,683,870,1394 photo.jpg

Without --checkpoint the network of this package predicts people from their keypoints. --keypoints
says where these come from: blazepose (the default), an ONNX file, or a file of people (COCO,
OpenPose, MPII, SPIN). --refine fits the bodies to the keypoints.

BlazePose finds the people where it is installed (python -m pare_jax.keypoints.get); else each
picture is taken as one person. --detector names another way: whole (one person fills the picture),
or the path of an ONNX file. --boxes gives boxes: the tight box of one person, x0,y0,x1,y1 in
pixels. Give --boxes once for each person, or a file of boxes: JSON with
{"photo.jpg": [[x0,y0,x1,y1], ...], ...}, or what COCO, AlphaPose, MegaDetector, MOT Challenge or
YOLO (also a folder) write.

Each photograph NAME gives NAME.npz, NAME.json, NAME_overlay.jpg and NAME_attention.jpg (with
several people NAME_attention_0.jpg and so on). Each clip gives NAME_overlay.mp4, and for each
person NAME_track_ID.npz and others. A folder holds photographs; --clip reads its pictures as the
frames of one clip. index.html shows everything. --outputs chooses the outputs. Run the same command
again to resume after an interruption. Files that no run wrote are never overwritten.

Exit status: 0 everything was done (people found or not), 1 something failed, 2 nothing was done or
the command was wrong, 130 interrupted by Ctrl-C.
"""

import sys
from collections.abc import Sequence

from pare_jax.io import command_line
from pare_jax.prediction.loading import load_predictor as load_predictor
from pare_jax.prediction.person import Person as Person
from pare_jax.prediction.run.command import define_flags, run_command
from pare_jax.training.compilation_cache import keep_compiled_programs


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    keep_compiled_programs()
    again = "interrupted: run the same command again to resume"
    return command_line.run(__doc__, define_flags, run_command, argv, again)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
