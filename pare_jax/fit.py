"""Fit bodies to keypoints that a file has: 2D labels in, 3D bodies out.

    python -m pare_jax.fit --keypoints=person_keypoints_val2017.json --output=fits
    python -m pare_jax.fit --keypoints=openpose/ --images=photos/ --output=fits
    python -m pare_jax.fit --keypoints=mpii.npz --body=SMPL_NEUTRAL.pkl --prior=gmm_08.pkl \\
        --output=fits

The file is COCO's annotations or results, a folder of OpenPose's JSON files, MPII's release or
SPIN's .npz. fits.npz has all people in the fields of SPIN's files, and for each person the error,
whether the fit converged, whether it is good and why not. With --images each photograph NAME also
gives NAME.npz, NAME.json, NAME_overlay.jpg and NAME_keypoints.jpg, as pare_jax.predict writes them.

Exit status: 0 everything was done, 1 something failed, 2 nothing was done or the command was
wrong, 130 interrupted by Ctrl-C.
"""

import sys
from collections.abc import Sequence

from pare_jax.io import command_line
from pare_jax.prediction.run.fit_command import define_flags, run_command


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    return command_line.run(__doc__, define_flags, run_command, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
