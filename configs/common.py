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
from pare_jax.training.base_config import base_config


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
