"""PARE as published: HRNet-W32, branches of 128 channels, part maps supervised.

Kocabas et al., "PARE: Part Attention Regressor for 3D Human Body Estimation", ICCV 2021. It starts
from an HRNet trained for 2D pose (--config.pretrained.path=pose_hrnet_w32_256x192.pth), or from
PARE's own checkpoint (docs/weights.md).
"""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe: Adam at 5e-5, batch 64, no averaging."""
    config = get_base()
    use_photographs(config)
    config.model.backbone = "hrnet_w32"
    config.model.num_blocks = 2
    config.model.branch_features = 128
    config.model.align_corners = True
    config.loss.parts = 60.0
    config.optimizer.learning_rate = 5e-5
    config.swa.start_epoch = -1.0
    config.eval.weights = "last"
    return config
