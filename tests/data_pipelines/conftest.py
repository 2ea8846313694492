"""Makes stored examples (`data_pipelines.example`) for tests."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pare_jax.keypoints.sets import NUM_BODY_POINTS
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS


def encode(suffix, image):
    """Encode an RGB or grey image as datasets do."""
    if image.ndim == 3:
        image = image[..., ::-1]
    settings = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else []
    done, encoded = cv2.imencode(suffix, image, settings)
    assert done
    return encoded.tobytes()


def make_record(seed=0, side=96, parts=True, **changes):
    """Return a stored example with random labels and a smooth random image."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    labels = rng.integers(0, 25, (side // 2,) * 2, dtype=np.uint8)
    joints_3d = rng.normal(0, 0.4, (NUM_JOINTS, 3))
    return {
        "image": encode(".jpg", cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)),
        "crop_to_photo": np.array([[2.0, 0, 30], [0, 2.0, 50]], np.float32),
        "joints_2d": rng.uniform(0.2 * side, 0.8 * side, (NUM_JOINTS, 2)).astype(np.float32),
        "joints_2d_weight": np.ones(NUM_JOINTS, np.float32),
        "head_top": rng.uniform(0.2 * side, 0.8 * side, 2).astype(np.float32),
        "head_top_weight": np.float32(1),
        "head_size": np.float32(rng.uniform(0.05 * side, 0.1 * side)),
        "joints_3d": (joints_3d - joints_3d[0]).astype(np.float32),
        "joints_3d_weight": np.float32(1),
        "joints_3d_known": np.ones(NUM_JOINTS, np.float32),
        "points_2d": rng.uniform(0.2 * side, 0.8 * side, (NUM_BODY_POINTS, 2)).astype(np.float32),
        "points_2d_weight": np.ones(NUM_BODY_POINTS, np.float32),
        "rotations": Rotation.random(NUM_JOINTS, rng).as_matrix().astype(np.float32),
        "pose_weight": np.float32(1),
        "rotations_known": np.ones(NUM_JOINTS, np.float32),
        "betas": rng.normal(size=NUM_BETAS).astype(np.float32),
        "betas_weight": np.float32(1),
        "visible": rng.integers(0, 2, NUM_JOINTS).astype(np.float32),
        "visible_weight": rng.integers(0, 2, NUM_JOINTS).astype(np.float32),
        "part_labels": encode(".png", labels) if parts else b"",
        "parts_weight": np.float32(parts),
        "gender": "neutral",
        "sequence": "made_up",
        "person": np.int32(0),
        "frame": np.int32(seed),
        **changes,
    }


@pytest.fixture(name="encode")
def encode_fixture():
    return encode


@pytest.fixture(name="make_record")
def make_record_fixture():
    return make_record


@pytest.fixture(scope="session", name="make_source")
def make_source_fixture():
    """Return a function that makes a split of `count` examples."""
    return lambda count, **settings: [make_record(seed, **settings) for seed in range(count)]
