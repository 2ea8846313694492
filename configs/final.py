"""The report's final model: ResNet-50, three blocks (56x56 maps), part attention, SWA.

The report starts from ImageNet's weights. Give them by --config.pretrained.path=FILE
(docs/weights.md); without them the backbone starts from random weights. The data are 3DPW and MPII,
or PARE's mixture with --config=configs/final.py:mixture.
"""

from ml_collections import ConfigDict

from configs.common import choose_data, get_base


def get_config(data: str = "") -> ConfigDict:
    """Return the recipe: Adam at 3e-4, batch 64, 120 epochs, the last quarter averaged."""
    config = get_base()
    choose_data(config, data, "configs/final.py")
    return config
