"""A small body model, and people and tracks made of it without a network."""

import numpy as np

from pare_jax.body.io import BodyData
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.crop import BOX_SCALE
from pare_jax.prediction.boxes import crop_of_box
from pare_jax.prediction.person import Person
from pare_jax.skeleton import NUM_JOINTS, PARENTS
from tests.body.small_bodies import random_body_fields, rotations_of

PHOTO_SIZE = (400, 300)
_FACING_THE_CAMERA = np.diag([1.0, -1.0, -1.0])


def small_body(correctives: float = 0.0) -> BodyData:
    """Return a body model of random numbers; `correctives` scales its pose correctives."""
    fields = random_body_fields()
    return BodyData(
        template=fields["v_template"].astype(np.float32),
        shape_basis=fields["shapedirs"].astype(np.float32),
        pose_basis=(correctives * fields["posedirs"]).astype(np.float32),
        weights=fields["weights"].astype(np.float32),
        joint_regressor=fields["J_regressor"].astype(np.float32),
        faces=fields["f"].astype(np.int32),
        parents=PARENTS,
        name="small",
    )


def make_person(body: BodyData, seed: int = 0, x: float = 200.0, turned: float = 0.4, **fields):
    """Return a person in front of the camera, `x` pixels from the photograph's left edge.

    Args:
        body: the body model.
        seed: of shape and pose.
        x: pixels.
        turned: standard deviation of the joints' rotations, radians.
        **fields: other fields of `Person`, or other values.
    """
    rng = np.random.default_rng(seed)
    axis_angle = rng.normal(0, turned, (NUM_JOINTS, 3))
    rotations = rotations_of(axis_angle)
    rotations[0] = _FACING_THE_CAMERA @ rotations[0]
    betas = rng.normal(0, 1, 10)
    box = np.array([x - 50, 60.0, x + 50, 240.0])
    centre, side = crop_of_box(box, BOX_SCALE)
    focal_length = 5000.0 * side / 224
    translation = np.array([0.05, -0.1, 45.0])
    vertices, joints = vertices_and_joints(body, betas, rotations)
    joints = joints + translation
    values = {
        "betas": betas,
        "rotations": rotations,
        "pose": axis_angle.reshape(-1),
        "camera_crop": np.array([0.9, 0.05, -0.1]),
        "translation": translation,
        "focal_length": focal_length,
        "principal_point": centre,
        "joints_3d": joints,
        "joints_2d": focal_length * joints[:, :2] / joints[:, 2:] + centre,
        "vertices": vertices + translation,
        "box": box,
        "crop_centre": centre,
        "crop_side": side,
        "faces": body.faces,
    }
    return Person(**(values | fields))


def make_track(body: BodyData, frames, id: int = 3) -> list[Person]:
    """Return one person in several frames, who moves to the right and turns steadily."""
    people = []
    for frame in frames:
        person = make_person(body, 0, 100.0 + 4 * frame, id=id, frame=int(frame))
        swing = rotations_of(np.full((NUM_JOINTS, 3), 0.05 * frame))
        rotations = person.rotations @ swing
        vertices, _ = vertices_and_joints(body, person.betas, rotations)
        changed = {"rotations": rotations, "vertices": vertices + person.translation}
        people.append(make_person(body, 0, 100.0 + 4 * frame, id=id, frame=int(frame), **changed))
    return people
