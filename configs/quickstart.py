"""A small part-attention network on synthetic people: minutes on two CPU cores, no downloads."""

from ml_collections import ConfigDict

from configs.common import get_base


def get_config() -> ConfigDict:
    """Return the recipe: `final` at 64 px and a quarter of the width, part maps supervised."""
    config = get_base()
    config.image_size = 64
    config.batch_size = 32
    config.num_epochs = 8.0

    config.model.backbone = "resnet18"
    config.model.backbone_width = 16
    config.model.branch_features = 32
    config.model.shape_features = 16

    config.data.eval = ("synthetic/test", "synthetic/test_occluded")

    config.augment.scale = 0.1
    config.augment.rotation = 10.0
    config.augment.colour = 0.2

    config.loss.parts = 60.0

    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 200

    config.swa.start_epoch = 6.5
    config.swa.every_steps = 25
    config.swa.statistics_batches = 50

    config.checkpoint.every_steps = 500
    config.eval.every_epochs = 2.0
    config.eval.batch_size = 100
    config.log_every_steps = 100
    return config
