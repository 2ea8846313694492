"""Splits whose examples get poses from fits, where they have no pose of their own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from data_pipelines.fits.fit_file import SplitFits, dataset_digest, fits_path, read_fits
from data_pipelines.fits.gate import Gate
from data_pipelines.reading.storage import StoredSplit
from pare_jax.body.io import BodyData, load_body_data
from pare_jax.body.numpy_body import joints_of
from pare_jax.errors import UserError
from pare_jax.fitting.prior import FITTED_JOINTS
from pare_jax.skeleton import NUM_JOINTS

# Fits do not turn toes and hands.
_ROTATIONS_KNOWN = np.isin(np.arange(NUM_JOINTS), (0, *FITTED_JOINTS)).astype(np.float32)


class FittedSplit:
    """A split with poses from fits; as `storage.StoredSplit`.

    Attributes:
        path: the dataset's directory.
        split: the split's name.
        fits_digest: of the file with the fits.
    """

    def __init__(
        self,
        source: StoredSplit,
        fits: SplitFits,
        used: Bool[np.ndarray, " examples"],
        joints: Float[np.ndarray, "examples 24 3"],
        weight: float,
    ):
        """Wrap a split.

        Args:
            source: the split.
            fits: of all its examples.
            used: the examples whose fits are labels.
            joints: of the fits, metres, camera frame, pelvis at the origin.
            weight: of these labels.
        """
        self.path, self.split, self.fits_digest = source.path, source.split, fits.digest
        self._source, self._fits, self._used = source, fits, used
        self._joints, self._weight = joints, np.float32(weight)

    def without_part_labels(self) -> "FittedSplit":
        """Return the same split with every part label missing."""
        source = self._source.without_part_labels()
        return FittedSplit(source, self._fits, self._used, self._joints, float(self._weight))

    def names(self) -> Any:
        """Return the names of all examples, as `StoredSplit.names` does."""
        return self._source.names()

    def fingerprint(self) -> str:
        """Return a digest of the examples and the fits."""
        return f"{self._source.fingerprint()} {self.fits_digest}"

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return an example; raises as `StoredSplit`."""
        example = self._source[index]
        if not self._used[index] or example["pose_weight"] > 0:
            return example
        fits = self._fits.columns
        labels = {
            "rotations": fits.rotations[index],
            "pose_weight": self._weight,
            "rotations_known": _ROTATIONS_KNOWN,
            "betas": fits.betas[index],
            "betas_weight": self._weight,
        }
        # True 3D joints, also a few of them, are better.
        if not example["joints_3d_weight"] > 0:
            labels |= {
                "joints_3d": self._joints[index],
                "joints_3d_weight": self._weight,
                "joints_3d_known": np.ones(NUM_JOINTS, np.float32),
            }
        return {**example, **labels}


def with_fits(
    source: StoredSplit, settings: ConfigDict, body_model: str | Path | None
) -> tuple[StoredSplit | FittedSplit, str]:
    """Give a split the fits beside it that pass the gate.

    Args:
        source: the split.
        settings: `config.data.fits`.
        body_model: file of the run's body; None: the free body.

    Returns:
        The split, and a line for the user; the same split if it has no fits.

    Raises:
        UserError: the fits are damaged, of another version of the dataset, or of another body.
    """
    name, path = f"{source.path.parent.name}/{source.split}", fits_path(source.path, source.split)
    if not path.exists():
        return source, f"{name}: no fits"
    fits, body = read_fits(path), load_body_data(body_model)
    _check(fits, path, source, body)
    gate = Gate.of_config(settings)
    used = gate.passes(fits.columns) & ~fits.columns.posed
    joints = np.zeros((len(used), NUM_JOINTS, 3), np.float32)
    columns = fits.columns
    placed = joints_of(body, columns.betas[used], columns.rotations[used])
    joints[used] = placed - placed[:, :1]
    network = fits.header["network"]["name"]
    line = f"{name}: fits from {network}: {gate.summary(columns)}; {used.sum():,} are used as poses"
    return FittedSplit(source, fits, used, joints, settings.weight), line


def _check(fits: SplitFits, path: Path, source: StoredSplit, body: BodyData) -> None:
    again = f"run python -m data_pipelines.fit_labels --dataset={source.path.parent.name}"
    digest = dataset_digest(source.path)
    if fits.header["dataset"] != digest or len(fits.columns) != len(source):
        raise UserError(f"{path} was made from another version of this dataset: {again} again")
    own = fits.header["body"]
    if own["digest"] != body.digest:
        raise UserError(
            f"{path} has fits of the body model {own['name']}, and config.body_model is "
            f"{body.name}: {again} with --body=FILE of config.body_model"
        )
