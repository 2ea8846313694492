"""Samples adults for the free body: random phenotypes, shaped by the `anny` package."""

from typing import NamedTuple

import numpy as np

from pare_jax.skeleton import NUM_JOINTS

# For each SMPL joint, the bone of the "mixamo" rig whose head it is.
RIG_BONES = (
    *("Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot"),
    *("RightFoot", "Spine2", "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder"),
    *("RightShoulder", "Head", "LeftArm", "RightArm", "LeftForeArm", "RightForeArm", "LeftHand"),
    *("RightHand", "LeftHandMiddle1", "RightHandMiddle1"),
)
FINGERS = ("Index", "Middle", "Ring", "Pinky", "Thumb")
KNUCKLES = ("LeftHandIndex1", "RightHandIndex1", "LeftHandPinky1", "RightHandPinky1")
ANCESTRIES = ("african", "asian", "caucasian")


def sample_adults(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Draw phenotypes of adults: both sexes, 25 to 90 years, all builds and ancestries.

    Men are 1.76 m tall on average, women 1.63 m, each with a standard deviation of 7 cm.
    """

    def around_middle(deviation):
        return np.clip(rng.normal(0.5, deviation, count), 0, 1)

    sex = rng.integers(0, 2, count)
    drawn = {
        "gender": np.abs(sex - np.abs(rng.normal(0, 0.12, count))),  # 0 is a man's body
        "age": 2 / 3 + rng.beta(1, 2, count) / 3,  # 2/3 is a young, 1 an old adult
        "muscle": around_middle(0.2),
        "weight": around_middle(0.22),
        "height": np.clip(rng.normal(0.38, 0.06, count), 0, 1),
        "proportions": around_middle(0.25),
        "cupsize": around_middle(0.2),
        "firmness": around_middle(0.2),
    }
    ancestry = rng.dirichlet(np.ones(3), count)
    return drawn | {name: ancestry[:, i] for i, name in enumerate(ANCESTRIES)}


def to_smpl_frame(points: np.ndarray) -> np.ndarray:
    """Turn MakeHuman's frame (z up, facing -y) into SMPL's (y up, facing +z)."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


class RestBodies(NamedTuple):
    """Samples in MakeHuman's rest pose, in SMPL's frame, metres."""

    vertices: np.ndarray  # (samples, V, 3)
    joints: np.ndarray  # (samples, 24, 3)
    knuckles: np.ndarray  # (samples, 4, 3), heads of the bones KNUCKLES
    weights: np.ndarray  # (V, 24)
    faces: np.ndarray  # (F, 3)
    neutral: np.ndarray  # (V, 3): MakeHuman's base mesh before any blend shape


def load_rest_bodies(topology: str, phenotypes: dict[str, np.ndarray]) -> RestBodies:
    """Return the bodies of the phenotypes on one of anny's topologies."""
    import anny
    import torch

    model = anny.Anny(
        rig="mixamo",
        topology=topology,
        local_changes="none",
        facial_actions="none",
        phenotypes="all",
        phenotype_blendshapes="original",
    ).to(dtype=torch.float32)
    bones = [label.removeprefix("mixamorig:") for label in model.bone_labels]
    count, vertices, heads = len(phenotypes["age"]), [], []
    for start in range(0, count, 50):
        part = {k: torch.tensor(v[start : start + 50]).float() for k, v in phenotypes.items()}
        with torch.no_grad():
            rest = model(phenotype_kwargs=part)
        vertices.append(to_smpl_frame(rest["rest_vertices"].numpy()))
        heads.append(to_smpl_frame(rest["rest_bone_heads"].numpy()))
    heads = np.concatenate(heads).astype(np.float64)
    joints = heads[:, [bones.index(bone) for bone in RIG_BONES]]
    knuckles = heads[:, [bones.index(bone) for bone in KNUCKLES]]
    weights = np.zeros((vertices[0].shape[1], NUM_JOINTS))
    data = model.to_model_data()
    rows = np.arange(len(weights))
    for column in range(data.vertex_bone_indices.shape[1]):
        joint_of_bone = np.array([joint_of(bone) for bone in bones])
        joints_here = joint_of_bone[data.vertex_bone_indices[:, column].numpy()]
        np.add.at(weights, (rows, joints_here), data.vertex_bone_weights[:, column].numpy())
    return RestBodies(
        np.concatenate(vertices),
        joints,
        knuckles,
        weights,
        model.faces.numpy().astype(np.int32),
        to_smpl_frame(model.template_vertices.numpy()),
    )


def joint_of(bone: str) -> int:
    """Return the SMPL joint that moves with a bone; fingers move with the hand joint."""
    side = "Left" if bone.startswith("Left") else "Right"
    if any(finger in bone for finger in FINGERS):
        return RIG_BONES.index(f"{side}HandMiddle1")
    return RIG_BONES.index(bone)
