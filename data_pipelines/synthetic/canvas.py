"""Draws people over a background and computes which parts and joints are visible."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_pipelines.synthetic import appearance
from data_pipelines.synthetic.light import Light
from data_pipelines.synthetic.meshes import BodyMesh, PosedMesh
from data_pipelines.synthetic.viewpoints import SyntheticCamera, SyntheticCrop
from pare_jax.rendering import rasterizer
from pare_jax.skeleton import NUM_JOINTS

_NEAR, _FAR = 0.5, 100.0  # metres
_FINE_PICTURE = 160  # crops up to this side are drawn at twice their size
_EDGE_BLUR = 0.6  # pixels; smooths the outlines in crops that are drawn at their own size
_WINDOW = np.array([-1, 0, 1])


@dataclasses.dataclass(frozen=True)
class DrawnPerson:
    """A person in a scene: shape, pose, surface in the camera frame, and looks."""

    betas: Float[np.ndarray, "10"]
    rotations: Float[np.ndarray, "24 3 3"]
    surface: PosedMesh
    looks: appearance.Appearance


class Canvas:
    """People drawn into one buffer of a crop, at once or twice the crop's resolution."""

    def __init__(self, size: int, camera: SyntheticCamera, crop: SyntheticCrop):
        self._size, self._camera, self._crop = size, camera, crop
        self._fine = 2 if size <= _FINE_PICTURE else 1
        self._buffer = rasterizer.new_buffer(size * self._fine, size * self._fine, _NEAR, _FAR)
        self._people: list[tuple[BodyMesh, DrawnPerson, np.ndarray, int]] = []
        self._face = self._buffer.face()

    def copy(self) -> "Canvas":
        """Return an independent canvas with the same people."""
        copied = Canvas(self._size, self._camera, self._crop)
        copied._buffer, copied._face = self._buffer.copy(), self._face
        copied._people = [*self._people]
        return copied

    def add(self, mesh: BodyMesh, person: DrawnPerson) -> None:
        """Draw a person in front of what is farther away and behind what is nearer."""
        vertices = person.surface.vertices
        points = np.empty((3, len(vertices)), np.float32)
        points[:2] = self._crop.points(self._camera.project(vertices)).T
        points[:2] *= self._fine
        points[2] = vertices[:, 2]
        first = rasterizer.draw(self._buffer, points.T, mesh.faces, cull="back")
        self._people.append((mesh, person, points.T, first))
        self._face = self._buffer.face()

    def _is_face_of(self, face: np.ndarray, number: int) -> np.ndarray:
        mesh, _, _, first = self._people[number]
        return (face >= first) & (face < first + len(mesh.faces))

    def seen(self, number: int) -> Bool[np.ndarray, "size size"]:
        """Return the pixels that show person `number`, counted from 0 in order of adding."""
        return self._is_face_of(self._face[:: self._fine, :: self._fine], number)

    def part_labels(
        self, number: int, cover: UInt8[np.ndarray, "size size"]
    ) -> UInt8[np.ndarray, "half half"]:
        """Return a person's visible parts at half the crop's side: joint + 1, 0 elsewhere.

        Args:
            number: the person, counted from 0 in order of adding.
            cover: 128 or more where something else hides the people.
        """
        mesh, _, _, first = self._people[number]
        table = rasterizer.pixel_table(self._buffer, first, mesh.part_of_face + 1)
        labels = table[self._face[self._fine :: 2 * self._fine, self._fine :: 2 * self._fine]]
        labels[cover[1::2, 1::2] >= 128] = 0
        return labels

    def visible_joints(
        self, number: int, cover: UInt8[np.ndarray, "size size"]
    ) -> Bool[np.ndarray, "24"]:
        """Return which joints of a person are visible, by a depth test.

        A joint is visible if its pixel shows the person's own surface, close in front of it. A
        neighbouring pixel is enough, because fingers are thin.

        Args:
            number: the person, counted from 0 in order of adding.
            cover: 128 or more where something else hides the people.
        """
        mesh, person, _, _ = self._people[number]
        joints = person.surface.joints
        joints_2d = self._crop.points(self._camera.project(joints))
        result = np.zeros(NUM_JOINTS, bool)
        shown = np.flatnonzero(self._crop.shows(joints_2d))
        column, row = np.floor(joints_2d[shown] * self._fine).astype(int).T
        last = self._size * self._fine - 1
        rows = np.clip(row[:, None] + _WINDOW, 0, last)[:, :, None]
        columns = np.clip(column[:, None] + _WINDOW, 0, last)[:, None, :]
        own = self._is_face_of(self._face[rows, columns], number)
        own &= cover[rows // self._fine, columns // self._fine] < 128
        depth = np.where(own, self._buffer.depth_at(rows, columns), -np.inf)
        result[shown] = depth.max(axis=(1, 2)) >= joints[shown, 2] - mesh.radii[shown]
        return result

    def paint(self, picture: UInt8[np.ndarray, "size size 3"], light: Light) -> None:
        """Paint the people over `picture` in place, with smooth outlines."""
        top, bottom, left, right = self._extent()
        if bottom <= top or right <= left:
            return
        fine = self._fine
        face = self._face[top * fine : bottom * fine, left * fine : right * fine]
        layer = np.zeros((*face.shape, 4), np.uint8)  # colours, then opacity
        for number, (mesh, person, points, first) in enumerate(self._people):
            rows, columns = np.nonzero(self._is_face_of(face, number))
            own = face[rows, columns] - first
            values = np.concatenate([mesh.template, light.shine(person.surface.normals)], axis=1)
            values = rasterizer.interpolate(
                points, mesh.faces, values, rows + top * fine, columns + left * fine, own
            )
            albedo = appearance.paint(mesh, person.looks, mesh.region_of_face[own], values[:, :3])
            layer[rows, columns, :3] = np.minimum(albedo * values[:, 3:] * 255, 255)
            layer[rows, columns, 3] = 255
        if fine > 1:
            layer = cv2.resize(layer, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        else:
            # Inside the outline, colours stay and opacity falls. Outside, colours spread.
            soft = cv2.GaussianBlur(layer, (3, 3), _EDGE_BLUR)
            thinned = cv2.multiply(layer, cv2.merge([soft[..., 3]] * 4), scale=1 / 255)
            np.copyto(soft, thinned, where=layer[..., 3:] > 0)
            layer = soft
        window = picture[top:bottom, left:right]
        rest = cv2.merge([255 - layer[..., 3]] * 3)
        cv2.add(cv2.multiply(window, rest, scale=1 / 255), layer[..., :3], dst=window)

    def _extent(self) -> tuple[int, int, int, int]:
        """Return the crop's rows and columns around all people: top, bottom, left, right."""
        low = np.min([points.min(0) for _, _, points, _ in self._people], axis=0)
        high = np.max([points.max(0) for _, _, points, _ in self._people], axis=0)
        left, top = np.clip(np.floor(low[:2] / self._fine).astype(int) - 1, 0, self._size)
        right, bottom = np.clip(np.ceil(high[:2] / self._fine).astype(int) + 1, 0, self._size)
        return int(top), int(bottom), int(left), int(right)
