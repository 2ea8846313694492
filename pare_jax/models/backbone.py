"""The type of the backbones, which turn normalised crops into feature maps.

Each has `out_features`, the channels of its maps, and `stride`, the crop's side over the maps'.
"""

from pare_jax.models.hrnet import HRNet
from pare_jax.models.resnet import ResNet

Backbone = ResNet | HRNet
