"""Occlusion sensitivity: how far each joint moves when a patch hides a part of the person.

A grey patch slides over the network's crop. The body is predicted with the patch at each position,
and heat maps show how far each joint moves. Kocabas et al., "PARE: Part Attention Regressor for 3D
Human Body Estimation", ICCV 2021, section 3.1, after Zeiler and Fergus, "Visualizing and
Understanding Convolutional Networks", ECCV 2014.

    python -m pare_jax.sensitivity --checkpoint=runs/final --output=out photo.jpg
"""

from pare_jax.sensitivity.maps import Sensitivity, occlusion_sensitivity
from pare_jax.sensitivity.occlusion_errors import OcclusionTable, occlusion_table
from pare_jax.sensitivity.patches import PatchGrid, patch_grid
from pare_jax.sensitivity.sensitivity_files import save_sensitivity

__all__ = [
    "OcclusionTable",
    "PatchGrid",
    "Sensitivity",
    "occlusion_sensitivity",
    "occlusion_table",
    "patch_grid",
    "save_sensitivity",
]
