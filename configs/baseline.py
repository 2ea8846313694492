"""The report's baseline: ResNet-50, global average pooling, MLPs for pose, shape and camera.

Give its ImageNet weights by --config.pretrained.path=FILE (docs/weights.md).
"""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe."""
    config = get_base()
    use_photographs(config)
    config.model.name = "baseline"
    # The report gives no sizes; HMR and SPIN have two hidden layers of 1024.
    config.model.pose_hidden = (1024, 1024)
    config.model.shape_hidden = (1024, 1024)
    config.model.camera_hidden = (1024, 1024)
    # Nor does it give a length; the shallow model's makes the two comparable.
    config.num_epochs = 4.0
    config.optimizer.learning_rate = 1e-4
    config.swa.start_epoch = -1.0
    config.eval.weights = "last"
    return config
