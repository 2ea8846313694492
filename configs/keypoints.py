"""A network on keypoints, trained on drawn bodies alone: no picture, no download."""

from ml_collections import ConfigDict

from configs.common import get_base


def get_config() -> ConfigDict:
    """Return the recipe of the network that is shipped."""
    config = get_base()
    config.batch_size = 256
    config.num_steps = 34_000
    config.crop_scale = 1.2

    config.model.name = "keypoints"
    config.model.input = "keypoints"

    config.data.train = (("bodies", 1.0),)
    config.data.eval = ("bodies/test", "bodies/test_noisy")

    # Absolute errors: a share of the people has no clear answer, which squares would weigh most.
    config.loss.joints_3d = config.loss.joints_2d = config.loss.pose = 0.0
    config.loss.joints_l1 = 10.0
    config.loss.points_2d = 5.0
    config.loss.pose_l1 = 2.0
    config.loss.shape = 0.02

    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 500

    config.swa.start_epoch = -1.0
    config.checkpoint.every_steps = 2000
    config.eval.every_epochs = 2.0
    config.eval.batch_size = 256
    config.log_every_steps = 200
    return config
