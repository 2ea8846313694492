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

    # All viewpoints and everyday poses; more than a third of the people are hidden or cut off.
    # Clutter, bystanders and bad images are rare: a small network learns slowly from them.
    people = config.data.synthetic
    people.train, people.validation = 24_000, 0
    people.test, people.test_occluded = 1_000, 1_000
    people.image_size, people.mesh = 96, "coarse"
    people.everyday = 1.0
    people.clutter = 0.05
    people.degradation = 0.05
    people.light = 0.3
    people.other_people = 0.0
    people.occluders, people.occluder_size = 0.28, 0.35
    people.truncation, people.truncation_depth = 0.15, 0.35
    people.pitch, people.roll = 12.0, 3.0
    config.data.eval = ("synthetic/test", "synthetic/test_occluded")

    # Eight epochs of this many people do not overfit; little augmentation learns fastest.
    config.augment.scale = 0.05
    config.augment.rotation = 5.0
    config.augment.colour = 0.1
    config.augment.noise = 0.0

    # Finding the parts is learned slowest from scratch. Dense part labels help most; errors of
    # twists and of projected joints are noisy this early and weigh less.
    config.loss.parts = 30.0
    config.loss.pose = 10.0
    config.loss.joints_2d = 15.0

    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 200

    config.swa.start_epoch = 7.0
    config.swa.every_steps = 25
    config.swa.statistics_batches = 50

    config.checkpoint.every_steps = 1000
    config.eval.every_epochs = 4.0
    config.log_every_steps = 100
    return config
