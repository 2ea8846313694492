"""One picture: people, what is behind and before them, the light, the lens, and the truth."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data_pipelines.synthetic import angles, appearance
from data_pipelines.synthetic.backgrounds import draw_background
from data_pipelines.synthetic.camera import Camera, Crop, frame_person, sample_camera
from data_pipelines.synthetic.light import Light, degrade, sample_light
from data_pipelines.synthetic.meshes import BodyMesh, PosedMesh, load_mesh
from data_pipelines.synthetic.occluders import place_occluder
from data_pipelines.synthetic.poses import sample_pose
from data_pipelines.synthetic.settings import SPLITS, SyntheticSettings
from pare_jax.rendering import rasterizer
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

SHAPE_LIMIT = 2.5  # standard deviations at which shape coefficients are cut
_NEAR, _FAR = 0.5, 100.0  # metres
_LEAST_SEEN = 0.45  # share of the person another person in front must leave to be seen
_FINE_PICTURE = 160  # crops up to this side are drawn at twice their size, to smooth edges


@dataclasses.dataclass(frozen=True)
class Person:
    """A person in the scene: truth, surface and looks."""

    betas: Float[np.ndarray, "10"]
    rotations: Float[np.ndarray, "24 3 3"]
    surface: PosedMesh
    looks: appearance.Appearance


@dataclasses.dataclass(frozen=True)
class Scene:
    """A drawn picture and everything that is known of its person.

    Attributes:
        image: sRGB crop.
        part_labels: visible parts: joint + 1, 0 elsewhere; half the crop's side.
        visible: whether each joint is seen.
        joints_2d: the crop's pixels.
        person: the person the picture is of; the surface is in the camera frame.
        camera: the camera.
        crop: what the picture shows of the photograph.
        hidden: share of the person's pixels that things and people in front hide.
        truncated: whether the photograph's edge cuts joints off.
    """

    image: UInt8[np.ndarray, "size size 3"]
    part_labels: UInt8[np.ndarray, "half half"]
    visible: Bool[np.ndarray, "24"]
    joints_2d: Float[np.ndarray, "24 2"]
    person: Person
    camera: Camera
    crop: Crop
    hidden: float
    truncated: bool


def draw_scene(settings: SyntheticSettings, split: str, index: int) -> Scene:
    """Draw the picture at `index` of `split`; a pure function of its arguments.

    Args:
        settings: what pictures are like.
        split: one of SPLITS.
        index: number of the example; may lie beyond the split's size.

    Returns:
        The picture with its truth.
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

    canvas = _Canvas(settings.image_size, camera, crop)
    canvas.add(mesh, person)
    alone = canvas.person_pixels(0)
    if rng.random() < settings.other_people:
        other, in_front = _sample_other(rng, settings, mesh, camera, person)
        before = canvas.copy()
        canvas.add(mesh, other)
        if in_front and canvas.person_pixels(0).sum() < _LEAST_SEEN * alone.sum():
            canvas = before
    people, cover = canvas.paint(light)
    horizon = crop.points(camera.project(_far_away(camera)))[0, 1]
    picture = draw_background(rng, settings, settings.image_size, horizon).astype(np.float32)
    picture += cover[..., None] * (people - picture)

    seen = canvas.person_pixels(0)
    probability = 1.0 if split == "test_occluded" else settings.occluders
    if rng.random() < probability:
        thing = place_occluder(rng, canvas.shrink(seen), crop.box_side, settings.occluder_size)
        picture += thing.cover[..., None] / np.float32(255) * (thing.colours - picture)
        seen = seen & (canvas.grow(thing.cover) <= 127)
    seen &= canvas.on_photo()
    labels = np.where(seen, canvas.part_labels(0), 0).astype(np.uint8)
    picture = degrade(rng, settings, picture)
    picture[~canvas.shrink(canvas.on_photo())] = 0
    everything = max(int((alone & canvas.on_photo()).sum()), 1)
    return Scene(
        image=picture,
        part_labels=canvas.halve(labels),
        visible=canvas.visible_joints(mesh, person, joints_2d, seen),
        joints_2d=joints_2d,
        person=person,
        camera=camera,
        crop=crop,
        hidden=1.0 - float(seen.sum()) / everything,
        truncated=not _on_photo(crop, joints_2d).all(),
    )


def sample_person(
    rng: np.random.Generator,
    settings: SyntheticSettings,
    mesh: BodyMesh,
    camera: Camera,
    place: Float[np.ndarray, "3"],
) -> Person:
    """Draw a person whose pelvis is at `place` in the camera frame (metres)."""
    betas = np.clip(rng.normal(size=NUM_BETAS), -SHAPE_LIMIT, SHAPE_LIMIT)
    rest_joints = mesh.rest_joints(betas)
    rotations = sample_pose(rng, settings.everyday, rest_joints, mesh.girth(betas))
    yaw = np.deg2rad(rng.uniform(-1, 1) * settings.yaw)
    rotations[0] = camera.rotation @ angles.about_y(yaw) @ rotations[0]
    looks = appearance.sample_appearance(rng, mesh)
    surface = mesh.pose(betas, rotations, place, appearance.thickness(mesh, looks))
    return Person(betas, rotations, surface, looks)


def _sample_other(rng, settings, mesh, camera: Camera, person: Person) -> tuple[Person, bool]:
    """Another person, beside and before or beside and behind."""
    in_front = bool(rng.random() < 0.5)
    beside = rng.choice([-1, 1]) * (rng.uniform(0.2, 0.7) if in_front else rng.uniform(0.25, 1.3))
    depth = person.surface.joints[0, 2]
    nearer = -min(rng.uniform(0.5, 1.0), 0.4 * depth) if in_front else rng.uniform(0.5, 2.5)
    # Along the person's own line of sight, so that nearer and farther people stay in the picture.
    place = camera.translation * (1 + nearer / depth)
    place = place + camera.rotation[:, 0] * beside
    return sample_person(rng, settings, mesh, camera, place), in_front


def _far_away(camera: Camera) -> np.ndarray:
    """A point on the horizon straight ahead, in the camera frame."""
    ahead = camera.rotation @ np.array([0.0, 0.0, -1.0])
    return ahead[None] * [1, 1, 1] if ahead[2] > 0.1 else np.array([[0.0, -10.0, 1.0]])


def _on_photo(crop: Crop, points: np.ndarray) -> np.ndarray:
    low, high = crop.photo_edges()
    return ((points >= low) & (points < high)).all(1)


class _Canvas:
    """People drawn into one buffer of the crop, at once or twice its resolution."""

    def __init__(self, size: int, camera: Camera, crop: Crop):
        self.size, self.camera, self.crop = size, camera, crop
        self.fine = 2 if size <= _FINE_PICTURE else 1
        self.buffer = rasterizer.new_buffer(size * self.fine, size * self.fine, _NEAR, _FAR)
        self.people: list[tuple[BodyMesh, Person, np.ndarray, int]] = []
        self._face = self.buffer.face()

    def copy(self) -> "_Canvas":
        """A canvas with the same people, that others may be added to."""
        twin = _Canvas(self.size, self.camera, self.crop)
        twin.buffer = self.buffer.copy()
        twin.people = list(self.people)
        twin._face = self._face
        return twin

    def add(self, mesh: BodyMesh, person: Person) -> None:
        """Draw a person before what is farther and behind what is nearer."""
        vertices = person.surface.vertices
        points = np.empty_like(vertices)
        points[:, :2] = self.crop.points(self.camera.project(vertices)) * self.fine
        points[:, 2] = vertices[:, 2]
        first = rasterizer.draw(self.buffer, points, mesh.faces, cull="back")
        self.people.append((mesh, person, points, first))
        self._face = self.buffer.face()

    def person_pixels(self, number: int) -> Bool[np.ndarray, "fine fine"]:
        """Where the person added at `number` is the front-most."""
        mesh, _, _, first = self.people[number]
        return (self._face >= first) & (self._face < first + len(mesh.faces))

    def part_labels(self, number: int) -> Int[np.ndarray, "fine fine"]:
        """Joint + 1 of the part seen; meaningful where the person is seen."""
        mesh, _, _, first = self.people[number]
        table = np.zeros(self.buffer.num_faces + 1, np.uint8)
        table[first : first + len(mesh.faces)] = mesh.part_of_face + 1
        return table[self._face]  # EMPTY is the table's last entry, 0

    def paint(self, light: Light) -> tuple[np.ndarray, np.ndarray]:
        """Return the people's colours (0 to 255) and how much of each pixel they cover."""
        side = self.size * self.fine
        colours = np.zeros((side, side, 3), np.float32)
        for number, (mesh, person, points, first) in enumerate(self.people):
            rows, columns = np.nonzero(self.person_pixels(number))
            face = self._face[rows, columns] - first
            values = np.concatenate([mesh.template, light.shine(person.surface.normals)], axis=1)
            values = rasterizer.interpolate(points, mesh.faces, values, rows, columns, face)
            albedo = appearance.paint(mesh, person.looks, mesh.region_of_face[face], values[:, :3])
            colours[rows, columns] = albedo * values[:, 3:]
        cover = (self._face != rasterizer.EMPTY).astype(np.float32)
        if self.fine > 1:
            colours = cv2.resize(colours, (self.size, self.size), interpolation=cv2.INTER_AREA)
            cover = cv2.resize(cover, (self.size, self.size), interpolation=cv2.INTER_AREA)
            colours /= np.maximum(cover, 1e-3)[..., None]
        return np.clip(colours * 255, 0, 255), cover

    def on_photo(self) -> Bool[np.ndarray, "fine fine"]:
        """Which pixels have their centre on the photograph."""
        centres = (np.arange(self.size * self.fine) + 0.5) / self.fine
        low, high = self.crop.photo_edges()
        good = (centres[:, None] >= low) & (centres[:, None] < high)
        return good[:, 1][:, None] & good[:, 0][None]

    def shrink(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the canvas at the crop's own resolution."""
        return mask[:: self.fine, :: self.fine]

    def grow(self, picture: np.ndarray) -> np.ndarray:
        """A picture of the crop's size at the canvas' resolution."""
        return picture.repeat(self.fine, 0).repeat(self.fine, 1)

    def halve(self, labels: np.ndarray) -> np.ndarray:
        """Labels at half the crop's side."""
        step = 2 * self.fine
        return np.ascontiguousarray(labels[step // 2 :: step, step // 2 :: step])

    def visible_joints(
        self, mesh: BodyMesh, person: Person, joints_2d: np.ndarray, seen: np.ndarray
    ) -> Bool[np.ndarray, "24"]:
        """Depth test: the person's own surface is the first thing seen at a joint, close before it.

        A joint also counts as seen when that holds at a neighbouring pixel: fingers are thin.
        """
        result = np.zeros(NUM_JOINTS, bool)
        depth = np.where(seen, self.buffer.depth(), -np.inf)
        allowed = person.surface.joints[:, 2] - mesh.radii
        spots = np.floor(joints_2d * self.fine).astype(int)
        for joint in np.flatnonzero(self.crop.inside(joints_2d)):
            column, row = spots[joint]
            window = depth[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            result[joint] = window.max() >= allowed[joint]
        return result
