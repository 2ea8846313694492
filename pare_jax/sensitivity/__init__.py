"""Occlusion sensitivity: which joints suffer from a patch, and where it lies when they do.

A grey patch slides over the network's crop and the body is predicted under each of its places; what
the joints do is laid over the picture as heat maps. Kocabas et al., "PARE: Part Attention Regressor
for 3D Human Body Estimation", ICCV 2021, section 3.1, after Zeiler and Fergus, "Visualizing and
Understanding Convolutional Networks", ECCV 2014.

    python -m pare_jax.sensitivity --checkpoint=runs/final --output=out photo.jpg
"""

from pare_jax.sensitivity.maps import Sensitivity, occlusion_sensitivity
from pare_jax.sensitivity.occlusion_errors import OcclusionTable, occlusion_table
from pare_jax.sensitivity.patches import PatchGrid, patch_grid

__all__ = [
    "OcclusionTable",
    "PatchGrid",
    "Sensitivity",
    "occlusion_sensitivity",
    "occlusion_table",
    "patch_grid",
]
