"""Conventions of the square crop that a network sees: its size, its camera and its colours.

Plain numbers, so that modules without JAX can use them.
"""

# Side of the crop over the longer side of the person's box, as in SPIN and PARE.
BOX_SCALE = 1.2

# The camera that every crop is assumed to be seen by (SPIN, Kolotouros et al. 2019): focal length
# in pixels of a crop of CROP_RESOLUTION pixels a side.
FOCAL_LENGTH = 5000.0
CROP_RESOLUTION = 224

# ImageNet statistics in RGB, which every pretrained backbone expects.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# IMAGENET_MEAN as a colour, RGB. A network sees normalised pixels, in which it is 0.
PATCH_COLOUR = (124, 116, 104)
