"""Writes a small folder in 3DPW's layout: people with random joints, dots where they project."""

import cv2
import numpy as np

from data_pipelines.releases.pw3d import Pw3d
from pare_jax.skeleton import NUM_JOINTS
from tests.body.small_bodies import rotations_of
from tests.io import legacy_pickle_writer as legacy

FRAMES = 4


def make_fields(people=2, frames=FRAMES, size=(640, 360), seed=0, betas=10, reach=0.5):
    """Return a sequence's fields; everybody is in the picture, 4 m or more from the camera."""
    rng = np.random.default_rng(seed)
    focal = 1.1 * max(size)
    cameras = np.tile(np.eye(4), (frames, 1, 1))
    cameras[:, :3, :3] = rotations_of(rng.normal([np.pi, 0, 0], 0.3, (frames, 3)))
    cameras[:, :3, 3] = rng.normal([0, 0, 4.5], 0.3, (frames, 3))
    seen = rng.uniform(-reach, reach, (people, frames, NUM_JOINTS, 3)) * [1, 1, 0.4]
    seen += np.stack([np.linspace(-0.8, 0.8, people), np.zeros(people), np.full(people, 4.5)], 1)[
        :, None, None
    ]
    world = np.einsum("nji,pnkj->pnki", cameras[:, :3, :3], seen - cameras[:, None, :3, 3])
    return {
        "sequence": "made_up",
        "genders": ["m" if p % 2 == 0 else "f" for p in range(people)],
        "betas": list(rng.normal(0, 1, (people, betas))),
        "poses": list(rng.normal(0, 0.5, (people, frames, 3 * NUM_JOINTS))),
        "trans": list(world[:, :, 0]),
        "jointPositions": list(world.reshape(people, frames, -1)),
        "poses2d": list(rng.uniform(1, 300, (people, frames, 3, 18))),
        "campose_valid": list(np.ones((people, frames), np.int64)),
        "cam_poses": cameras,
        "cam_intrinsics": np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1.0]]),
        "img_frame_ids": np.arange(frames) * 2,
    }


def reference(fields, person, frame):
    """Return rotations, camera-frame joints and pixels, joint by joint in float64."""
    turn, shift = fields["cam_poses"][frame, :3, :3], fields["cam_poses"][frame, :3, 3]
    rotations = rotations_of(fields["poses"][person][frame].reshape(NUM_JOINTS, 3))
    rotations[0] = turn @ rotations[0]
    world = fields["jointPositions"][person][frame].reshape(NUM_JOINTS, 3)
    joints = np.array([turn @ joint + shift for joint in world])
    pixels = np.array([fields["cam_intrinsics"] @ joint / joint[2] for joint in joints])[:, :2]
    return rotations, joints, pixels


def draw_dots(pixels, size, radius):
    """Draw smooth white dots on grey; positions are continuous pixels."""
    rows, columns = np.indices(size[::-1])
    picture = np.full(size[::-1], 60.0)
    for x, y in pixels:
        distance = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2
        picture += 180 * np.exp(-distance / (2 * radius**2))
    return np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, 2)


def write_pickle(path, fields):
    """Write fields as Python 2's pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        legacy.legacy_pickle(legacy.dictionary({k: _opcodes(fields[k]) for k in fields}))
    )


def _opcodes(value):
    if isinstance(value, list):
        return b"](" + b"".join(_opcodes(item) for item in value) + b"e"
    if value is None:
        return b"N"
    return legacy.text(value) if isinstance(value, str) else legacy.array(value)


def write_sequence(root, split, name, fields, size=(640, 360), dots=0):
    """Write a sequence and its pictures, which show the joints of the first `dots` people."""
    write_pickle(root / "sequenceFiles" / split / f"{name}.pkl", fields)
    folder = root / "imageFiles" / name
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(len(fields["cam_poses"])):
        pixels = [reference(fields, person, frame)[2] for person in range(dots)]
        picture = draw_dots(np.concatenate(pixels) if dots else [], size, max(size) / 400)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
        assert cv2.imwrite(str(folder / f"image_{frame:05d}.jpg"), picture, quality)


def make_folder(root):
    """Write all three splits."""
    for seed, split in enumerate(("train", "validation", "test")):
        fields = make_fields(people=2 if split == "train" else 1, seed=seed)
        write_sequence(root, split, f"{split}_walk_00", fields)
    return root


def read_all(dataset, split="train"):
    """Return a split's examples and skipped people."""
    results = [dataset.read(unit) for unit in dataset.units(split)]
    examples = [example for result in results for example in result.examples]
    return examples, [item for result in results for item in result.skipped]


def read_one(root, fields, **options):
    """Write a sequence; return its examples and skipped people."""
    write_sequence(root, "train", "walk_00", fields, **options)
    return read_all(Pw3d(root))


def decode(example, name="image"):
    """Decode an example's crop or its part labels."""
    flags = cv2.IMREAD_COLOR_RGB if name == "image" else cv2.IMREAD_UNCHANGED
    return cv2.imdecode(np.frombuffer(example[name], np.uint8), flags)
