"""Chooses the mesh format (OBJ, PLY, GLB) by a file name's suffix."""

from collections.abc import Sequence

from pare_jax.meshes.glb import glb_bytes
from pare_jax.meshes.mesh import Mesh
from pare_jax.meshes.polygons import obj_bytes, ply_bytes

_WRITERS = {".obj": obj_bytes, ".ply": ply_bytes, ".glb": glb_bytes}
MESH_SUFFIXES = tuple(_WRITERS)


def mesh_bytes(meshes: Sequence[Mesh], suffix: str) -> bytes:
    """Encode meshes in the format of a file name's suffix.

    Args:
        meshes: at least one.
        suffix: one of `MESH_SUFFIXES`.

    Raises:
        ValueError: there are no meshes, or the suffix is another.
    """
    if suffix not in _WRITERS:
        raise ValueError(f"expected a mesh suffix of {', '.join(_WRITERS)}, not {suffix!r}")
    return _WRITERS[suffix](meshes)
