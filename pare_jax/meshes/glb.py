"""Writes GLB files: binary glTF 2.0 (Khronos Group, "glTF 2.0 Specification", 2021)."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pare_jax.meshes.mesh import Mesh, to_viewer, unit_normals
from pare_jax.rendering.text import Colour

# The specification's numbers (3.6.2.2, 5.11.5): component types, and targets of buffer views.
_COMPONENTS = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}
_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_VERTICES, _CORNERS = 34962, 34963
# 65535 marks the end of a strip: more vertices than this need 32-bit indices (3.7.2.1).
_SHORT_INDICES = 65535


class GlbWriter:
    """Collects a scene's description and arrays, and encodes them.

    Attributes:
        scene: the lists of the JSON part.
    """

    def __init__(self):
        self.scene: dict[str, list[Any]] = {"nodes": [], "meshes": [], "materials": []}
        self._views: list[dict[str, int]] = []
        self._accessors: list[dict[str, Any]] = []
        self._numbers = bytearray()
        self._of_meshes: dict[tuple[int, str, bytes], int] = {}

    def add(self, kind: str, description: dict[str, Any]) -> int:
        """Append to one of the scene's lists; return the index."""
        return _append(self.scene.setdefault(kind, []), description)

    def numbers(
        self, values: Shaped[np.ndarray, "..."], target: int | None = None, bounds: bool = False
    ) -> int:
        """Store an array, (count,) or (count, components); return its accessor's index.

        Args:
            values: their type is one of `_COMPONENTS`.
            target: `_VERTICES` or `_CORNERS` for arrays of a mesh.
            bounds: whether to store the smallest and largest values too.
        """
        values = np.ascontiguousarray(values)
        rows = values.reshape(len(values), -1)
        view = {"buffer": 0, "byteOffset": len(self._numbers), "byteLength": values.nbytes}
        if target is not None:
            view["target"] = target
        self._numbers += values.astype(values.dtype.newbyteorder("<")).tobytes()
        self._numbers += bytes(-len(self._numbers) % 4)
        accessor: dict[str, Any] = {
            "bufferView": _append(self._views, view),
            "componentType": _COMPONENTS[values.dtype.name],
            "count": len(rows),
            "type": _KINDS[rows.shape[1]],
        }
        if bounds:
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        return _append(self._accessors, accessor)

    def mesh(
        self,
        name: str,
        colour: Colour,
        vertices: np.ndarray,
        faces: np.ndarray,
        attributes: dict[str, np.ndarray] | None = None,
    ) -> int:
        """Store a mesh with its normals; return its index. Equal arrays are stored once.

        Args:
            name: the mesh's name in the file.
            colour: RGB, 0 to 255.
            vertices: (V, 3), the viewer's frame, metres.
            faces: (F, 3).
            attributes: of the vertices, besides POSITION and NORMAL.
        """
        short = len(vertices) <= _SHORT_INDICES
        corners = np.asarray(faces, np.uint16 if short else np.uint32).ravel()
        points = np.asarray(vertices, np.float32)
        normals = unit_normals(points, faces).astype(np.float32)
        accessors = {
            "POSITION": self.numbers(points, _VERTICES, bounds=True),
            "NORMAL": self.numbers(normals, _VERTICES),
        }
        for attribute, values in (attributes or {}).items():
            accessors[attribute] = self._once(values, _VERTICES)
        primitive = {
            "attributes": accessors,
            "indices": self._once(corners, _CORNERS),
            "material": self.add("materials", _material(name, colour)),
        }
        return self.add("meshes", {"name": name, "primitives": [primitive]})

    def _once(self, values: np.ndarray, target: int) -> int:
        """Store an array unless an equal one of meshes is stored; return its accessor's index."""
        key = (target, values.dtype.name, values.tobytes())
        if key not in self._of_meshes:
            self._of_meshes[key] = self.numbers(values, target)
        return self._of_meshes[key]

    def encode(self, roots: Sequence[int]) -> bytes:
        """Return the file.

        Args:
            roots: nodes that have no parent.
        """
        description = {
            "asset": {"version": "2.0", "generator": "pare-jax"},
            "scene": 0,
            "scenes": [{"nodes": list(roots)}],
            **self.scene,
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": len(self._numbers)}],
        }
        text = json.dumps(description, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = b"".join(
            struct.pack("<I4s", len(content), kind) + content
            for kind, content in ((b"JSON", text), (b"BIN\0", bytes(self._numbers)))
        )
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def glb_bytes(meshes: Sequence[Mesh]) -> bytes:
    """Encode meshes as one GLB, each with a node of its own.

    Vertices are stored relative to the middle of their mesh, and the node holds the translation:
    numbers near zero are more precise, and programs can remove the translation.

    Args:
        meshes: at least one.

    Returns:
        The file, in the viewer's frame.
    """
    if not meshes:
        raise ValueError("no meshes to write")
    writer = GlbWriter()
    roots = []
    for mesh in meshes:
        vertices = to_viewer(mesh.vertices).astype(np.float64)
        middle = ((vertices.min(0) + vertices.max(0)) / 2).astype(np.float32)
        stored = writer.mesh(mesh.name, mesh.colour, vertices - middle, mesh.faces)
        node = {"name": mesh.name, "mesh": stored, "translation": middle.tolist()}
        roots.append(writer.add("nodes", node))
    return writer.encode(roots)


def _material(name: str, colour: Colour) -> dict[str, Any]:
    # glTF's factors are linear; our colours are sRGB (IEC 61966-2-1).
    value = np.asarray(colour, np.float64) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return {
        "name": name,
        "pbrMetallicRoughness": {
            "baseColorFactor": [*np.round(linear, 6).tolist(), 1.0],
            "metallicFactor": 0.0,
            "roughnessFactor": 0.8,
        },
    }


def _append(items: list[Any], item: Any) -> int:
    items.append(item)
    return len(items) - 1
