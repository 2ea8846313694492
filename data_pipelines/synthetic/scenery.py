"""Draws one synthetic picture with its labels: people, background, occluders, light, lens."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_pipelines.synthetic import angles, appearance
from data_pipelines.synthetic.backgrounds import draw_background
from data_pipelines.synthetic.canvas import Canvas, DrawnPerson
from data_pipelines.synthetic.light import degrade, sample_light
from data_pipelines.synthetic.meshes import BodyMesh, load_mesh
from data_pipelines.synthetic.occluders import place_occluder
from data_pipelines.synthetic.poses import sample_pose
from data_pipelines.synthetic.settings import SPLITS, SyntheticSettings
from data_pipelines.synthetic.viewpoints import (
    SyntheticCamera,
    SyntheticCrop,
    frame_person,
    sample_camera,
)
from pare_jax.skeleton import NUM_BETAS

SHAPE_LIMIT = 2.5  # standard deviations at which betas are clipped
_LEAST_SEEN = 0.45  # share of the person that a person in front must leave visible


@dataclasses.dataclass(frozen=True)
class Scene:
    """A drawn picture and the labels of its person.

    Attributes:
        image: the crop, sRGB.
        part_labels: visible parts as joint + 1, 0 elsewhere, at half the crop's side.
        visible: whether each joint is visible.
        joints_2d: in the crop's pixels.
        person: the labelled person; the surface is in the camera frame.
        camera: the photograph's camera.
        crop: the crop's place in the photograph.
        hidden: share of the person's pixels behind occluders and other people.
        truncated: whether the photograph's edge cuts joints off.
    """

    image: UInt8[np.ndarray, "size size 3"]
    part_labels: UInt8[np.ndarray, "half half"]
    visible: Bool[np.ndarray, "24"]
    joints_2d: Float[np.ndarray, "24 2"]
    person: DrawnPerson
    camera: SyntheticCamera
    crop: SyntheticCrop
    hidden: float
    truncated: bool


def draw_scene(settings: SyntheticSettings, split: str, index: int) -> Scene:
    """Draw the picture at `index` of `split`; a pure function of its arguments.

    Args:
        settings: sizes, seed and difficulties.
        split: one of SPLITS.
        index: number of the example; it may exceed the split's size.

    Returns:
        The picture with its labels.
    """
    rng = np.random.default_rng([settings.seed, SPLITS[split], index])
    mesh = load_mesh(settings.mesh)
    camera = sample_camera(rng, settings)
    person = sample_person(rng, settings, mesh, camera, camera.translation)
    surface = person.surface
    joints = camera.project(surface.joints)
    crop = frame_person(rng, settings, joints, camera.project(surface.vertices))
    joints_2d = crop.points(joints)
    light = sample_light(rng, settings)

    canvas = Canvas(settings.image_size, camera, crop)
    canvas.add(mesh, person)
    alone = canvas.seen(0)
    if rng.random() < settings.other_people:
        other, in_front = _sample_other(rng, settings, mesh, camera, person)
        before = canvas.copy()
        canvas.add(mesh, other)
        if in_front and canvas.seen(0).sum() < _LEAST_SEEN * alone.sum():
            canvas = before
    horizon = crop.points(camera.project(_far_away(camera)))[0, 1]
    picture = draw_background(rng, settings, settings.image_size, horizon)
    canvas.paint(picture, light)
    cover = np.zeros_like(picture[..., 0])
    if rng.random() < (1.0 if split == "test_occluded" else settings.occluders):
        occluder = place_occluder(rng, canvas.seen(0), crop.box_side, settings.occluder_size)
        picture, cover = occluder.over(picture), occluder.cover
    picture = degrade(rng, settings, picture)
    outside = ~crop.on_photo(settings.image_size)
    picture[outside] = 0
    cover[outside] = 255
    inside = alone & ~outside
    return Scene(
        image=picture,
        part_labels=canvas.part_labels(0, cover),
        visible=canvas.visible_joints(0, cover),
        joints_2d=joints_2d,
        person=person,
        camera=camera,
        crop=crop,
        hidden=1.0 - float((canvas.seen(0) & (cover < 128)).sum()) / max(int(inside.sum()), 1),
        truncated=not crop.shows(joints_2d).all(),
    )


def sample_person(
    rng: np.random.Generator,
    settings: SyntheticSettings,
    mesh: BodyMesh,
    camera: SyntheticCamera,
    place: Float[np.ndarray, "3"],
) -> DrawnPerson:
    """Draw a person whose pelvis is at `place` in the camera frame (metres)."""
    betas = np.clip(rng.normal(size=NUM_BETAS), -SHAPE_LIMIT, SHAPE_LIMIT)
    rest_joints = mesh.rest_joints(betas)
    rotations = sample_pose(rng, settings.everyday, rest_joints, mesh.girth(betas))
    yaw = np.deg2rad(rng.uniform(-1, 1) * settings.yaw)
    rotations[0] = camera.rotation @ angles.about_y(yaw) @ rotations[0]
    looks = appearance.sample_appearance(rng, mesh)
    surface = mesh.pose(betas, rotations, place, appearance.thickness(mesh, looks))
    return DrawnPerson(betas, rotations, surface, looks)


def _sample_other(
    rng, settings, mesh, camera: SyntheticCamera, person: DrawnPerson
) -> tuple[DrawnPerson, bool]:
    """Draw another person beside the first; return whether it is in front."""
    in_front = bool(rng.random() < 0.5)
    beside = rng.choice([-1, 1]) * (rng.uniform(0.2, 0.7) if in_front else rng.uniform(0.25, 1.3))
    depth = person.surface.joints[0, 2]
    nearer = -min(rng.uniform(0.5, 1.0), 0.4 * depth) if in_front else rng.uniform(0.5, 2.5)
    # On the line of sight to the first person, so that nearer and farther people stay in view.
    place = camera.translation * (1 + nearer / depth)
    place = place + camera.rotation[:, 0] * beside
    return sample_person(rng, settings, mesh, camera, place), in_front


def _far_away(camera: SyntheticCamera) -> np.ndarray:
    """Return a point on the horizon straight ahead, in the camera frame."""
    ahead = camera.rotation @ np.array([0.0, 0.0, -1.0])
    return ahead[None] if ahead[2] > 0.1 else np.array([[0.0, -10.0, 1.0]])
