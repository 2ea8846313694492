"""Saves a `Sensitivity` as a sheet of heat maps (.png), a clip (.mp4) or arrays (.npz)."""

from pathlib import Path

import numpy as np

from pare_jax.errors import UserError
from pare_jax.io.files import write_together
from pare_jax.io.images import encode_png
from pare_jax.io.video import VIDEO_SUFFIX, VideoWriter
from pare_jax.prediction.person import npz_bytes
from pare_jax.sensitivity.heat_maps import sensitivity_frames, sensitivity_sheet
from pare_jax.sensitivity.maps import Sensitivity
from pare_jax.skeleton import JOINT_NAMES

_CLIP_FRAME_RATE = 12


def save_sensitivity(found: Sensitivity, path: str | Path) -> None:
    """Write one file; a failed write leaves no partial file.

    Args:
        found: the maps.
        path: the suffix chooses the content: `.png` the sheet, `.mp4` the clip, `.npz` the
            arrays maps, overall, centres, patch, stride, image_size, baseline_joints,
            joint_names, and baseline_errors if the true joints are known.

    Raises:
        UserError: the suffix is another, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".png":
        write_together(path.parent, {path.name: encode_png(sensitivity_sheet(found))})
    elif suffix == ".npz":
        write_together(path.parent, {path.name: npz_bytes(_arrays(found))})
    elif suffix == VIDEO_SUFFIX:
        write_together(path.parent, {})
        with VideoWriter(path, _CLIP_FRAME_RATE) as video:
            for frame in sensitivity_frames(found):
                video.write(frame)
    else:
        raise UserError(f"cannot save {path}: give it the suffix .png, .npz or .mp4")


def _arrays(found: Sensitivity) -> dict[str, np.ndarray]:
    arrays = {
        "maps": found.maps.astype(np.float32),
        "overall": found.overall.astype(np.float32),
        "centres": found.centres,
        "patch": np.int32(found.grid.patch),
        "stride": np.int32(found.grid.stride),
        "image_size": np.int32(found.grid.image_size),
        "baseline_joints": found.baseline_joints.astype(np.float32),
        "joint_names": np.array(JOINT_NAMES),
    }
    if found.baseline_errors is not None:
        arrays["baseline_errors"] = found.baseline_errors.astype(np.float32)
    return {name: np.asarray(value) for name, value in arrays.items()}
