"""Small stand-ins that tests share: a network of a few thousand weights, batches of nonsense."""

import numpy as np
from scipy.spatial.transform import Rotation

from data_pipelines.example import BATCH_FIELDS, BATCH_PARTS_STRIDE

TINY_MODEL = {
    "name": "pare",
    "backbone": "resnet18",
    "backbone_width": 4,
    "num_blocks": 3,
    "branch_features": 8,
    "shape_features": 4,
    "pose_hidden": (),
    "shape_hidden": (),
    "camera_hidden": (),
    "align_corners": False,
    "dtype": "float32",
}
IMAGE_SIZE = 32


def fake_batch(batch_size: int, seed: int = 0, image_size: int = IMAGE_SIZE):
    """Make a batch of every field in `data_pipelines.example.BATCH_FIELDS`, all labels known."""
    rng = np.random.default_rng(seed)
    parts = image_size // BATCH_PARTS_STRIDE
    sizes = {"B": batch_size, "S": image_size, "S // 4": parts}
    batch = {}
    for name, field in BATCH_FIELDS.items():
        shape = tuple(sizes.get(n, n) for n in field.shape)
        if name == "image":
            batch[name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif name == "part_labels":
            batch[name] = rng.integers(0, 25, shape, dtype=np.uint8)
        elif name == "rotations":
            random = Rotation.random(batch_size * 24, random_state=seed).as_matrix()
            batch[name] = random.reshape(shape).astype(np.float32)
        elif name.endswith("weight"):
            batch[name] = np.ones(shape, np.float32)
        elif name == "visible":
            batch[name] = rng.integers(0, 2, shape).astype(np.float32)
        elif name == "index":
            batch[name] = np.arange(batch_size, dtype=np.int32)
        else:
            batch[name] = rng.normal(0, 0.3, shape).astype(np.float32)
    batch["joints_3d"] -= batch["joints_3d"][:, :1]
    return batch
