"""A network on keypoints, trained on drawn bodies alone: no picture, no download."""

from ml_collections import ConfigDict

from configs.common import get_base


def get_config() -> ConfigDict:
    """Return the recipe of the network that is shipped."""
    config = get_base()
    config.batch_size = 256
    config.num_steps = 40_000
    config.crop_scale = 1.2

    config.model.name = "keypoints"
    config.model.input = "keypoints"
    config.model.points_width = 1024
    config.model.points_blocks = 3

    config.data.train = (("bodies", 1.0),)
    config.data.eval = ("bodies/test", "bodies/test_noisy")

    config.loss.joints_3d = 300.0
    config.loss.joints_2d = 150.0
    config.loss.pose = 60.0
    config.loss.shape = 0.06
    config.loss.camera = 1.0

    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 500

    config.swa.start_epoch = -1.0
    config.checkpoint.every_steps = 2000
    config.eval.every_epochs = 2.0
    config.eval.batch_size = 256
    config.log_every_steps = 200
    return config
