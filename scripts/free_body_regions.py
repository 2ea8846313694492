"""Assigns the free body's vertices to regions (face, scalp, eyes, hands ...), for colouring.

Face, ears and lips come from MPFB2's texture masks (CC0), eyes and scalp from the eye and hair
helpers of MakeHuman's base mesh (CC0), the other regions from the skinning weights.
"""

from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from pare_jax.skeleton import joint_index

# The order is part of the file's format: append only.
REGIONS = (
    *("torso", "pelvis", "upper_arm", "forearm", "hand", "thigh", "shin", "foot", "neck"),
    *("face", "ears", "scalp", "eyes", "brows", "lips"),
)
PARTS_OF_REGION = {
    "torso": ("spine1", "spine2", "spine3", "left_collar", "right_collar"),
    "pelvis": ("pelvis",),
    "upper_arm": ("left_shoulder", "right_shoulder"),
    "forearm": ("left_elbow", "right_elbow"),
    "hand": ("left_wrist", "right_wrist", "left_hand", "right_hand"),
    "thigh": ("left_hip", "right_hip"),
    "shin": ("left_knee", "right_knee"),
    "foot": ("left_ankle", "right_ankle", "left_foot", "right_foot"),
    "neck": ("neck",),
    "face": ("head",),
}


def read_obj(path: Path):
    """Return vertices, texture coordinates and each group's corners (vertex, texture) of an OBJ."""
    vertices, textures, corners, group = [], [], {}, ""
    for line in path.read_text().splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in values[:3]])
        elif kind == "vt":
            textures.append([float(x) for x in values[:2]])
        elif kind == "g":
            group = values[0]
        elif kind == "f":
            pairs = [tuple(int(x) - 1 for x in corner.split("/")[:2]) for corner in values]
            corners.setdefault(group, []).extend(pairs)
    return np.array(vertices), np.array(textures), {k: np.array(v) for k, v in corners.items()}


def regions_of_vertices(assets: Path, template: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the region of each vertex.

    Args:
        assets: folder of MPFB2's data.
        template: (V, 3) vertices of MakeHuman's neutral shape in its rest pose, y up, metres.
        weights: (V, 24) skinning weights.

    Returns:
        (V,) uint8 indices into REGIONS.
    """
    base, textures, corners = read_obj(assets / "3dobjs" / "base.obj")
    base = base / 10  # decimetres
    body = corners["body"]
    _, nearest = cKDTree(base[: body[:, 0].max() + 1]).query(template)

    def painted(name: str) -> np.ndarray:
        mask = cv2.imread(str(assets / "textures" / f"mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE)
        pixel = np.clip(textures[body[:, 1]] * [1, -1] + [0, 1], 0, 1) * (np.array(mask.shape) - 1)
        column, row = np.rint(pixel).astype(int).T
        value = np.zeros(len(base))
        np.maximum.at(value, body[:, 0], mask[row, column])
        return value[nearest] > 127

    def helper(name: str) -> np.ndarray:
        return base[np.unique(corners[name][:, 0])]

    part = weights.argmax(1)
    region = np.zeros(len(template), np.uint8)
    for name, joints in PARTS_OF_REGION.items():
        region[np.isin(part, [joint_index(joint) for joint in joints])] = REGIONS.index(name)

    head = (part == joint_index("head")) | (part == joint_index("neck"))
    hair_distance, _ = cKDTree(helper("helper-hair")).query(template)
    eyes = [helper(f"helper-{side}-eye") for side in "lr"]
    eye_height, eye_depth = eyes[0].mean(0)[1:]
    behind = template[:, 2] < eye_depth - 0.045
    above = template[:, 1] > eye_height + 0.055
    # The hair helper reaches the shoulders; below the nape there is no scalp.
    hairy = (hair_distance < 0.03) & (template[:, 1] > eye_height - 0.055)
    region[head & ~painted("face") & hairy & (behind | above)] = REGIONS.index("scalp")
    region[head & painted("ears")] = REGIONS.index("ears")
    region[painted("lips")] = REGIONS.index("lips")
    for eye in eyes:
        centre, radius = eye.mean(0), np.ptp(eye[:, 1]) / 2
        offset = template - centre
        front = head & (np.linalg.norm(offset[:, :2], axis=1) < radius) & (offset[:, 2] > -0.03)
        region[front] = REGIONS.index("eyes")
        width, height = np.abs(offset[:, 0]), offset[:, 1]
        brow = head & (width < 0.024) & (height > 0.016) & (height < 0.026) & (offset[:, 2] > 0)
        region[brow] = REGIONS.index("brows")
    return region


def regions_of_coarse_mesh(coarse: np.ndarray, fine: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return the regions of the coarse mesh: for each vertex, its nearest neighbours' majority.

    A small region without a vertex gets the one nearest to its middle on each side of the body. The
    result is symmetric.

    Args:
        coarse: (C, 3) vertices, x to the side.
        fine: (V, 3) vertices of the same body.
        regions: (V,) regions of the fine mesh.

    Returns:
        (C,) uint8
    """
    on_the_left = coarse * [-1, 1, 1] * (coarse[:, :1] < 0) + coarse * (coarse[:, :1] >= 0)
    _, neighbours = cKDTree(fine).query(on_the_left, k=5)
    votes = np.stack([(regions[neighbours] == r).sum(1) for r in range(len(REGIONS))], axis=1)
    result = votes.argmax(1).astype(np.uint8)
    for region in range(len(REGIONS)):
        if not (result == region).any():
            middle = fine[(regions == region) & (fine[:, 0] > 0)].mean(0)
            distance = np.linalg.norm(on_the_left - middle, axis=1)
            result[distance < distance.min() + 1e-6] = region
    return result
