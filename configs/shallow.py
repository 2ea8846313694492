"""The report's shallow model: two blocks (28x28 maps) in each branch, four epochs.

Give its ImageNet weights by --config.pretrained.path=FILE (docs/weights.md).
"""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe."""
    config = get_base()
    use_photographs(config)
    config.model.num_blocks = 2
    config.num_epochs = 4.0
    # The report says only that the final model's rate was higher.
    config.optimizer.learning_rate = 1e-4
    config.swa.start_epoch = -1.0
    config.eval.weights = "last"
    return config
