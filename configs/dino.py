"""The final model started from DINO's self-supervised ResNet-50, which the report tried as well.

The weights are not part of this project: docs/weights.md says where to get them. They scored lower
than ImageNet's in the report.
"""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe: final's, with another start (Caron et al., 2021)."""
    config = get_base()
    use_photographs(config)
    config.pretrained.path = "weights/dino_resnet50_pretrain.pth"
    return config
