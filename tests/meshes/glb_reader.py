"""Reads GLB files by the glTF 2.0 specification, independently of the writer.

It asserts what the specification demands of the parts it reads, and poses skinned meshes with
NumPy.
"""

import json
import struct
from typing import Any

import numpy as np

_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """A parsed file; `scene` is its JSON."""

    def __init__(self, content: bytes):
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        chunks, place = [], 12
        while place < length:
            size, kind = struct.unpack_from("<I4s", content, place)
            assert size % 4 == 0
            chunks.append((kind, content[place + 8 : place + 8 + size]))
            place += 8 + size
        assert [kind for kind, _ in chunks] == [b"JSON", b"BIN\0"]
        self.scene: dict[str, Any] = json.loads(chunks[0][1])
        self._numbers = chunks[1][1]
        assert self.scene["asset"]["version"] == "2.0"
        spare = len(self._numbers) - self.scene["buffers"][0]["byteLength"]
        assert 0 <= spare < 4

    def accessor(self, number: int) -> np.ndarray:
        """Return the values of an accessor, (count, components)."""
        about = self.scene["accessors"][number]
        view = self.scene["bufferViews"][about["bufferView"]]
        kind, columns = np.dtype(_TYPES[about["componentType"]]), _SIZES[about["type"]]
        start = view.get("byteOffset", 0) + about.get("byteOffset", 0)
        assert start % kind.itemsize == 0
        assert about["count"] * columns * kind.itemsize <= view["byteLength"]
        values = np.frombuffer(self._numbers, kind, about["count"] * columns, start)
        values = values.reshape(about["count"], columns)
        for bound, wanted in (("min", values.min(0)), ("max", values.max(0))):
            if bound in about:
                np.testing.assert_array_equal(np.array(about[bound], kind), wanted)
        return values

    def primitive(self, mesh: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Check a mesh's only primitive; return its attributes and faces."""
        (about,) = self.scene["meshes"][mesh]["primitives"]
        assert about.get("mode", 4) == 4
        attributes = {name: self.accessor(n) for name, n in about["attributes"].items()}
        position = self.scene["accessors"][about["attributes"]["POSITION"]]
        assert {"min", "max"} <= set(position)
        count = len(attributes["POSITION"])
        assert all(len(values) == count for values in attributes.values())
        np.testing.assert_allclose(np.linalg.norm(attributes["NORMAL"], axis=1), 1, atol=1e-5)
        faces = self.accessor(about["indices"]).reshape(-1, 3)
        largest = {2: 65535, 4: 2**32 - 1}[faces.itemsize]
        assert faces.max() < min(count, largest)
        material = self.scene["materials"][about["material"]]["pbrMetallicRoughness"]
        assert all(0 <= value <= 1 for value in material["baseColorFactor"])
        return attributes, faces.astype(int)

    def still(self, node: int) -> tuple[np.ndarray, np.ndarray]:
        """Return vertices and faces of a node's mesh without a skin, in the scene's frame."""
        about = self.scene["nodes"][node]
        attributes, faces = self.primitive(about["mesh"])
        return attributes["POSITION"] + np.float64(about["translation"]), faces

    def posed(self, node: int, time: float) -> np.ndarray:
        """Return the vertices of a node's skinned mesh at a time of the animation, if any."""
        about = self.scene["nodes"][node]
        attributes, _ = self.primitive(about["mesh"])
        skin = self.scene["skins"][about["skin"]]
        world = self._world_matrices(time)
        inverse = self.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        matrices = np.stack([world[j] for j in skin["joints"]]) @ inverse.astype(np.float64)
        weights = attributes["WEIGHTS_0"].astype(np.float64)
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
        assert (attributes["JOINTS_0"][weights == 0] == 0).all()
        blended = np.einsum("vk,vkij->vij", weights, matrices[attributes["JOINTS_0"]])
        points = np.concatenate([attributes["POSITION"], np.ones((len(weights), 1))], 1)
        return np.einsum("vij,vj->vi", blended, points)[:, :3]

    def _world_matrices(self, time: float) -> dict[int, np.ndarray]:
        nodes = [dict(node) for node in self.scene["nodes"]]
        animations = self.scene.get("animations", [])
        assert len(animations) <= 1
        for animation, channel in ((a, channel) for a in animations for channel in a["channels"]):
            sampler = animation["samplers"][channel["sampler"]]
            assert {"min", "max"} <= set(self.scene["accessors"][sampler["input"]])
            times = self.accessor(sampler["input"])[:, 0].astype(np.float64)
            assert (np.diff(times) > 0).all()
            assert times[0] >= 0
            assert sampler["interpolation"] == "LINEAR"
            path = channel["target"]["path"]
            keys = self.accessor(sampler["output"]).astype(np.float64)
            nodes[channel["target"]["node"]][path] = _at(times, keys, time, path == "rotation")
        world: dict[int, np.ndarray] = {}

        def visit(number: int, above: np.ndarray) -> None:
            assert number not in world  # a tree
            world[number] = above @ _matrix(nodes[number])
            for child in nodes[number].get("children", []):
                visit(child, world[number])

        for root in self.scene["scenes"][self.scene["scene"]]["nodes"]:
            visit(root, np.eye(4))
        return world


def _at(times: np.ndarray, keys: np.ndarray, time: float, sphere: bool) -> np.ndarray:
    after = int(np.searchsorted(times, time, side="right"))
    if after == 0 or after == len(times):
        return keys[max(0, after - 1)]
    share = (time - times[after - 1]) / (times[after] - times[after - 1])
    a, b = keys[after - 1], keys[after]
    if not sphere:
        return (1 - share) * a + share * b
    # Spherical, between the stored quaternions: the writer must make that the shorter way.
    angle = np.arccos(np.clip(a @ b, -1, 1))
    if angle < 1e-9:
        return a
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)


def _matrix(node: dict[str, Any]) -> np.ndarray:
    x, y, z, w = np.array(node.get("rotation", [0, 0, 0, 1]), np.float64)
    assert abs(x * x + y * y + z * z + w * w - 1) < 1e-5
    result = np.eye(4)
    result[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    result[:3, 3] = node.get("translation", [0, 0, 0])
    return result
