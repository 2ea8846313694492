"""PARE as published: HRNet-W32, branches of 128 channels, part maps supervised, its loss weights.

Kocabas et al., "PARE: Part Attention Regressor for 3D Human Body Estimation", ICCV 2021. It starts
from an HRNet trained for 2D pose (--config.pretrained.path=pose_hrnet_w32_256x192.pth), or from
PARE's own checkpoint (docs/weights.md). `--config=configs/pare.py:mixture` trains on its mixture.
"""

from ml_collections import ConfigDict

from configs.common import choose_data, get_base


def get_config(data: str = "") -> ConfigDict:
    """Return the recipe: Adam at 5e-5, batch 64, no averaging."""
    config = get_base()
    config.model.backbone = "hrnet_w32"
    config.model.num_blocks = 2
    config.model.branch_features = 128
    config.model.align_corners = True
    # PARE's demo crops its detector's boxes, which hold the whole person, without a margin.
    config.crop_scale = 1.0
    # The code of PARE and SPIN multiplies all terms by 60. The term of 2D joints has the weight 5
    # and is divided by 49 joints, 24 of them annotated. docs/weights.md has the table.
    config.loss.joints_2d = 60.0 * 5.0 * 24.0 / 49.0
    config.loss.camera = 60.0
    config.loss.parts = 60.0
    config.optimizer.learning_rate = 5e-5
    config.swa.start_epoch = -1.0
    config.eval.weights = "last"
    choose_data(config, data, "configs/pare.py")
    return config
