"""A network that trains in seconds and learns little, for trying commands and measuring faults."""

from ml_collections import ConfigDict

from configs.common import get_base


def get_config() -> ConfigDict:
    """Return the recipe: 60 steps on 256 synthetic people of 48 px, evaluated every 20 steps."""
    config = get_base()
    config.image_size = 32
    config.batch_size = 8
    config.num_steps = 60

    config.model.backbone = "resnet18"
    config.model.backbone_width = 4
    config.model.num_blocks = 2
    config.model.branch_features = 8
    config.model.shape_features = 4

    people = config.data.synthetic
    people.train, people.validation, people.test, people.test_occluded = 256, 0, 32, 0
    people.image_size, people.mesh = 48, "coarse"
    config.data.eval = ("synthetic/test",)

    config.swa.start_epoch = 1.0
    config.swa.every_steps = 4
    config.swa.statistics_batches = 2
    config.checkpoint.every_steps = 7
    config.checkpoint.keep = 2
    config.eval.every_epochs = 20 / 32  # an epoch has 32 steps
    config.eval.batch_size = 16
    config.eval.pictures = 2
    config.log_every_steps = 10
    return config
