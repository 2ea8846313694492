"""The networks that turn normalised images into maps, which all others begin with.

Each has `out_features`, the channels of its maps, and `stride`, how many times smaller than the
picture these are.
"""

from pare_jax.models.hrnet import HRNet
from pare_jax.models.resnet import ResNet

Backbone = ResNet | HRNet
