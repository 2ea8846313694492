"""The report's baseline: ResNet-50, global average pooling, MLPs for pose, shape and camera.

Its ImageNet weights are given by --config.pretrained.path=FILE, see docs/weights.md.
"""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe."""
    config = get_base()
    use_photographs(config)
    config.model.name = "baseline"
    # The report gives no sizes; two hidden layers of 1024 are what HMR and SPIN regress with.
    config.model.pose_hidden = (1024, 1024)
    config.model.shape_hidden = (1024, 1024)
    config.model.camera_hidden = (1024, 1024)
    # Its length is not given either; it gets the shallow model's, so that the two compare.
    config.num_epochs = 4.0
    config.optimizer.learning_rate = 1e-4
    config.swa.start_epoch = -1.0
    config.eval.weights = "last"
    return config
