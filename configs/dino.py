"""The final model from DINO's self-supervised ResNet-50, a variant in the report.

In the report it scored lower than ImageNet's weights. docs/weights.md says where to get the file.
"""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe: final's, from the weights of Caron et al., 2021."""
    config = get_base()
    use_photographs(config)
    config.pretrained.path = "weights/dino_resnet50_pretrain.pth"
    return config
