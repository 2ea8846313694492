"""Continue from weights that fit the data already: the heads first, then the whole network.

Give the weights by --config.pretrained.path=FILE (docs/weights.md). For an accelerator: activations
are bfloat16.
"""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe: final's network at a tenth of its learning rate, with occluders."""
    config = get_base()
    use_photographs(config)
    config.precision = "bfloat16"
    config.num_epochs = 10.0
    # New heads send large gradients into the backbone until they fit its features.
    config.pretrained.freeze_epochs = 1.0
    config.optimizer.learning_rate = 3e-5
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 500
    config.augment.occlusion = 0.3
    config.swa.start_epoch = 8.0
    return config
