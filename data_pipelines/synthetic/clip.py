"""Draws a short clip with exact labels: two people walk past each other behind a post.

It tests tracking and smoothing. For some frames the post hides both people; afterwards each is on
the other's side.
"""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.synthetic import angles, appearance
from data_pipelines.synthetic.backgrounds import draw_background
from data_pipelines.synthetic.canvas import Canvas, DrawnPerson
from data_pipelines.synthetic.light import Light, sample_light
from data_pipelines.synthetic.meshes import BodyMesh, load_mesh
from data_pipelines.synthetic.settings import SyntheticSettings
from data_pipelines.synthetic.textures import random_texture
from data_pipelines.synthetic.viewpoints import SyntheticCamera, SyntheticCrop
from pare_jax.body.numpy_body import forward_kinematics
from pare_jax.skeleton import NUM_BETAS, joint_index

_FILM = 0.75  # focal length as a share of the picture's width: 27 mm on film
_CAMERA_HEIGHT = 1.3  # metres above the floor, looking level
_POST_DEPTH = 3.5  # metres
_SOLE = 0.06  # height of a standing foot's ankle above the floor, metres
_STEP_LENGTH = 0.7  # metres a step at the speed below
_FEET = [joint_index(f"{s}_{n}") for s in ("left", "right") for n in ("ankle", "foot")]


@dataclasses.dataclass(frozen=True)
class ClipSettings:
    """Settings that determine the whole clip.

    Attributes:
        seed: start of the random stream for looks, shapes and background.
        width: pixels, even.
        height: pixels, even and no more than the width.
        frame_rate: frames a second.
        seconds: length of the clip.
        speed: of both people, metres a second.
        depths: distance of each person's path from the camera, metres.
        post_width: width of the post, which is 3.5 metres away, metres; 0 draws no post.
        mesh: "full" or "coarse".
    """

    seed: int = 0
    width: int = 960
    height: int = 540
    frame_rate: float = 25.0
    seconds: float = 4.0
    speed: float = 1.25
    depths: tuple[float, float] = (5.0, 5.8)
    post_width: float = 0.75
    mesh: str = "full"

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return round(self.seconds * self.frame_rate)

    @property
    def focal_length(self) -> float:
        """The camera's focal length, pixels."""
        return _FILM * self.width


@dataclasses.dataclass(frozen=True)
class ClipFrame:
    """One frame and its labels, with people in the same order in every frame.

    Attributes:
        image: sRGB.
        time: seconds.
        boxes: around the whole person, hidden parts included, cut at the picture's edges; pixels.
        seen: share of the person's pixels that neither the post nor the other person hides.
        betas: shape coefficients.
        rotations: relative to the parent, the root's into the camera frame.
        translations: the pelvis, camera frame, metres.
        joints_3d: camera frame, metres.
        joints_2d: pixels.
    """

    image: UInt8[np.ndarray, "height width 3"]
    time: float
    boxes: Float[np.ndarray, "people 4"]
    seen: Float[np.ndarray, "people"]
    betas: Float[np.ndarray, "people 10"]
    rotations: Float[np.ndarray, "people 24 3 3"]
    translations: Float[np.ndarray, "people 3"]
    joints_3d: Float[np.ndarray, "people 24 3"]
    joints_2d: Float[np.ndarray, "people 24 2"]


@dataclasses.dataclass(frozen=True)
class _Walker:
    """A person who walks to the right (heading 1) or to the left (heading -1)."""

    betas: np.ndarray
    looks: appearance.Appearance
    heading: int
    depth: float
    phase: float


@dataclasses.dataclass(frozen=True)
class _Stage:
    """Everything that is the same in all frames."""

    mesh: BodyMesh
    camera: SyntheticCamera
    crop: SyntheticCrop
    light: Light
    background: np.ndarray
    post: np.ndarray
    post_left: int


def draw_clip(settings: ClipSettings | None = None) -> Iterator[ClipFrame]:
    """Draw the clip frame by frame; a pure function of its settings."""
    settings = settings or ClipSettings()
    rng = np.random.default_rng([settings.seed, 71])
    stage = _build_stage(rng, settings)
    walkers = [
        _Walker(
            betas=np.clip(rng.normal(size=NUM_BETAS), -1.5, 1.5),
            looks=appearance.sample_appearance(rng, stage.mesh),
            heading=heading,
            depth=depth,
            phase=rng.uniform(0, 2 * np.pi),
        )
        for heading, depth in zip((1, -1), settings.depths, strict=True)
    ]
    for number in range(settings.num_frames):
        time = number / settings.frame_rate
        people = [_pose(walker, stage, settings, time) for walker in walkers]
        yield _draw(people, stage, settings, time)


def walking_angles(phase: float) -> Float[np.ndarray, " angles"]:
    """Return the joint angles of an even walk, degrees, in the order of `angles.NAMES`.

    Args:
        phase: radians; 2 pi are two steps. At 0 the left leg is farthest ahead.
    """
    values = {"spine_flex": 4.0, "spine_twist": -6.0 * np.cos(phase)}
    for side, own in (("left", phase), ("right", phase + np.pi)):
        ahead, lifting = np.cos(own), -np.sin(own)  # lifting: the leg swings forwards
        swing = -np.cos(own)  # arms swing against the legs
        values |= {
            f"{side}_hip_flex": 5.0 + 23.0 * ahead,
            f"{side}_hip_abduct": 2.0,
            # The knee bends most in the middle of the swing.
            f"{side}_knee": 8.0 + 45.0 * max(lifting, 0.0) ** 2 * (1.2 - 0.4 * ahead),
            f"{side}_ankle": 6.0 - 12.0 * ahead,
            f"{side}_toes": 14.0 * max(-ahead, 0.0) ** 2,
            f"{side}_arm_plane": 90.0,
            f"{side}_arm_raise": 8.0,
            f"{side}_elbow": 20.0 + 10.0 * swing,
            f"{side}_forearm": 15.0,
        }
        # At this arm_plane a raise moves the arm forwards, so only the forward swing adds to it.
        if swing >= 0:
            values[f"{side}_arm_raise"] = 8.0 + 14.0 * swing
    result = angles.zeros()
    for name, value in values.items():
        result[angles.index(name)] = value
    return angles.clip(result)


def _build_stage(rng: np.random.Generator, settings: ClipSettings) -> _Stage:
    """Draw what does not move and place the camera."""
    width, height, focal = settings.width, settings.height, settings.focal_length
    surroundings = SyntheticSettings(clutter=0.35, light=0.4, image_size=max(32, width))
    edges = np.array([-width / 2, -height / 2, width / 2, height / 2])
    corner = np.array([-width / 2, -height / 2])
    # The canvas is square; the picture is its upper part.
    crop = SyntheticCrop(corner=corner, scale=1.0, size=width, photo=edges)
    horizon = height / 2 + 0.12 * height
    background = draw_background(rng, surroundings, width, horizon)[:height].copy()
    post_width = round(settings.post_width * focal / _POST_DEPTH)
    post = random_texture(rng, height, max(post_width, 1), "noise")[:, :post_width]
    # Shading makes the post look round.
    across = np.linspace(-1, 1, max(post_width, 1))[:post_width]
    shade = 0.45 + 0.55 * np.sqrt(np.maximum(1 - across**2, 0))
    return _Stage(
        mesh=load_mesh(settings.mesh),
        camera=SyntheticCamera(
            angles.about_x(np.pi), np.array([0.0, 0.0, settings.depths[0]]), focal
        ),
        crop=crop,
        light=sample_light(rng, surroundings),
        background=background,
        post=(post * shade[None, :, None]).astype(np.uint8),
        post_left=(width - post_width) // 2,
    )


def _pose(walker: _Walker, stage: _Stage, settings: ClipSettings, time: float) -> DrawnPerson:
    middle = (settings.num_frames - 1) / settings.frame_rate / 2
    phase = walker.phase + np.pi * settings.speed / _STEP_LENGTH * time
    rotations = angles.rotations(walking_angles(phase))
    # A person with heading 1 faces +x: a quarter turn to the left about the upright axis.
    rotations[0] = stage.camera.rotation @ angles.about_y(walker.heading * np.pi / 2)
    _, joints = forward_kinematics(stage.mesh.rest_joints(walker.betas), rotations)
    lowest = (joints[_FEET] - joints[0])[:, 1].max()
    place = np.array(
        [
            walker.heading * settings.speed * (time - middle),
            _CAMERA_HEIGHT - _SOLE - lowest,
            walker.depth,
        ]
    )
    thickness = appearance.thickness(stage.mesh, walker.looks)
    surface = stage.mesh.pose(walker.betas, rotations, place, thickness)
    return DrawnPerson(walker.betas, rotations, surface, walker.looks)


def _draw(
    people: list[DrawnPerson], stage: _Stage, settings: ClipSettings, time: float
) -> ClipFrame:
    whole_pixels = []
    canvas = Canvas(settings.width, stage.camera, stage.crop)
    for person in people:
        alone = Canvas(settings.width, stage.camera, stage.crop)
        alone.add(stage.mesh, person)
        whole_pixels.append(alone.seen(0)[: settings.height].sum())
        canvas.add(stage.mesh, person)
    square = np.zeros((settings.width, settings.width, 3), np.uint8)
    square[: settings.height] = stage.background
    canvas.paint(square, stage.light)
    picture = square[: settings.height].copy()
    post = slice(stage.post_left, stage.post_left + stage.post.shape[1])
    picture[:, post] = stage.post
    picture = cv2.GaussianBlur(picture, (3, 3), 0.5)
    seen = []
    for number, pixels in enumerate(whole_pixels):
        mask = canvas.seen(number)[: settings.height]
        mask[:, post] = False
        seen.append(mask.sum() / max(int(pixels), 1))

    def pixels_of(points: np.ndarray) -> np.ndarray:
        return stage.crop.points(stage.camera.project(points))

    return ClipFrame(
        image=picture,
        time=time,
        boxes=np.stack([_box(pixels_of(p.surface.vertices), settings) for p in people]),
        seen=np.array(seen),
        betas=np.stack([person.betas for person in people]),
        rotations=np.stack([person.rotations for person in people]),
        translations=np.stack([person.surface.joints[0] for person in people]),
        joints_3d=np.stack([person.surface.joints for person in people]),
        joints_2d=np.stack([pixels_of(person.surface.joints) for person in people]),
    )


def _box(points: np.ndarray, settings: ClipSettings) -> np.ndarray:
    size = (settings.width, settings.height)
    return np.concatenate([np.clip(points.min(0), 0, size), np.clip(points.max(0), 0, size)])
