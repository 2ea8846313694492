"""Reads mean pose, shape and camera from SPIN's `smpl_mean_params.npz`."""

from pathlib import Path

import numpy as np

from pare_jax.errors import UserError
from pare_jax.io.archives import read_npz
from pare_jax.models.heads import SIXD
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# By its names: our names and shapes. The pose has the layout of our 6D rotations: the first two
# columns of each matrix, row by row. Its root faces the camera, as ours does.
_ARRAYS = {
    "pose": ("batch_stats.heads.mean_pose", (NUM_JOINTS, SIXD)),
    "shape": ("batch_stats.heads.mean_betas", (NUM_BETAS,)),
    "cam": ("batch_stats.heads.mean_camera", (3,)),
}


def read_mean_parameters(path: str | Path) -> dict[str, np.ndarray]:
    """Read the mean pose, shape and camera.

    Args:
        path: an `.npz` file with `pose` (144 numbers), `shape` (10) and `cam` (3).

    Returns:
        By our names: the mean pose (24, 6), betas (10,) and camera (3,), float32.

    Raises:
        UserError: the file cannot be read, or an array is missing, has another size or is not
            finite.
    """
    arrays = read_npz(path, _ARRAYS, advice="give SPIN's smpl_mean_params.npz")
    flat = {}
    for name, (ours, shape) in _ARRAYS.items():
        if name not in arrays:
            raise UserError(f"{path} has no array {name!r}: give SPIN's smpl_mean_params.npz")
        value = arrays[name]
        if value.size != np.prod(shape) or value.dtype.kind != "f":
            raise UserError(
                f"{path} has {name!r} of shape {value.shape}, not {np.prod(shape)} numbers: "
                "give SPIN's smpl_mean_params.npz"
            )
        if not np.isfinite(value).all():
            raise UserError(
                f"{path} has numbers in {name!r} that are not finite: "
                "give SPIN's smpl_mean_params.npz"
            )
        flat[ours] = value.reshape(shape).astype(np.float32)
    return flat
