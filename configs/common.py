"""The base of all experiments.

An experiment file calls `get_base()` and assigns what differs. Every key is documented in
`pare_jax/training/base_config.py`, those of `data.synthetic` in
`data_pipelines/synthetic/settings.py`, and those of `data.bodies` in
`data_pipelines/bodies/splits.py` and `body_settings.py`. Any key can be overridden on the command
line: `--config.optimizer.learning_rate=1e-4`. An unknown key is an error.
"""

import dataclasses

from ml_collections import ConfigDict

from data_pipelines.bodies import splits
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.errors import UserError
from pare_jax.training.base_config import base_config

# What PARE trains on, with the share of each in a batch; the sets in the wild share theirs by size.
# From SPIN (Kolotouros et al., "Learning to Reconstruct 3D Human Pose and Shape via Model-fitting
# in the Loop", ICCV 2019), whose code has 30% H36M - 60% ITW - 10% MPI-INF; PARE's has the same.
PARE_MIXTURE = (
    ("h36m", 0.3),
    ("mpi_inf_3dhp", 0.1),
    (("lsp", "lspet", "mpii", "coco"), 0.6),
)


def get_base() -> ConfigDict:
    """Return the full config at the report's final recipe (ResNet-50, three blocks, SWA)."""
    config = base_config()
    config.data.synthetic = ConfigDict(dataclasses.asdict(SyntheticSettings()))
    config.data.bodies = ConfigDict(splits.default_values())
    config.data.synthetic.image_size = 336  # 1.5 times the network's input, for a margin
    config.data.synthetic.mesh = "full"
    # A misspelt key in an experiment file is an error.
    return config.lock()


def use_photographs(config: ConfigDict) -> None:
    """Train and evaluate on 3DPW and MPII, as the report does.

    The report gives no shares. 3DPW gets the larger one, because only 3DPW has depth, pose and
    shape. MPII gets the rest, because each of its photographs is another scene.
    """
    config.data.train = (("pw3d", 0.6), ("mpii", 0.4))
    # The first split chooses the best checkpoint; papers quote 3DPW's test split.
    config.data.eval = ("pw3d/validation", "pw3d/test", "mpii/validation")


def use_mixture(config: ConfigDict) -> None:
    """Train on PARE's published mixture, as far as the user holds its datasets.

    Sets that are missing leave their share to the others. People in the wild get poses from
    their fits.
    """
    config.data.train = PARE_MIXTURE
    config.data.missing = "share"
    config.data.eval = ("pw3d/validation", "pw3d/test", "mpii/validation", "coco/validation")
    config.data.fits.use = True
    # None of these sets has part labels.
    config.loss.parts = 0.0


def choose_data(config: ConfigDict, data: str, file: str) -> None:
    """Set the data that the command line names after the file: `--config=configs/pare.py:mixture`.

    Args:
        config: the experiment.
        data: "" for photographs of 3DPW and MPII, or "mixture".
        file: the experiment's file, for the message.

    Raises:
        UserError: any other word.
    """
    choices = {"": use_photographs, "mixture": use_mixture}
    if data not in choices:
        raise UserError(
            f"--config={file}:{data} names data that is unknown: use {file}:mixture, or {file} for "
            "3DPW and MPII"
        )
    choices[data](config)
