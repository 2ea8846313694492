"""Conventions of the square crop that a network sees: its size, camera and colours.

Plain numbers, so that modules without JAX can use them.
"""

# Side of the crop over the longer side of the person's box, as in the data of SPIN and PARE.
# Prepared datasets have it, and it is the default of config.crop_scale, which predictions use.
BOX_SCALE = 1.2

# `scale` in the label files of SPIN, EFT and BEDLAM is a square's side over this number of pixels.
SPIN_UNIT = 200.0

# Focal length of the crop's assumed camera (SPIN, Kolotouros et al. 2019), in pixels of a crop of
# CROP_RESOLUTION pixels a side.
FOCAL_LENGTH = 5000.0
CROP_RESOLUTION = 224

# ImageNet's statistics in RGB; every pretrained backbone expects them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# IMAGENET_MEAN as an RGB colour. Normalised, it is 0.
PATCH_COLOUR = (124, 116, 104)
