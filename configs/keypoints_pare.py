"""PARE on heat maps of keypoints, trained on drawn bodies: compared with `keypoints`."""

from ml_collections import ConfigDict

from configs import keypoints


def get_config() -> ConfigDict:
    """Return the recipe of `keypoints`, with a part-attention network of the quickstart's size."""
    config = keypoints.get_config()
    config.model.name = "pare"
    config.model.backbone = "resnet18"
    config.model.backbone_width = 16
    config.model.branch_features = 32
    config.model.shape_features = 16
    # Only the other network has body points of its own.
    config.loss.points_2d = 0.0
    config.loss.joints_2d = 15.0
    config.optimizer.learning_rate = 3e-3
    return config
