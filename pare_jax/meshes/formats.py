"""Meshes in the format that a file's name asks for."""

from collections.abc import Sequence

from pare_jax.meshes.glb import glb_bytes
from pare_jax.meshes.mesh import Mesh
from pare_jax.meshes.polygons import obj_bytes, ply_bytes

_WRITERS = {".obj": obj_bytes, ".ply": ply_bytes, ".glb": glb_bytes}
MESH_SUFFIXES = tuple(_WRITERS)


def mesh_bytes(meshes: Sequence[Mesh], suffix: str) -> bytes:
    """Encode meshes in the format that a file name's suffix asks for.

    Args:
        meshes: at least one.
        suffix: one of `MESH_SUFFIXES`.

    Raises:
        ValueError: no meshes, or another suffix.
    """
    if suffix not in _WRITERS:
        raise ValueError(f"meshes are written as {', '.join(_WRITERS)}, not {suffix!r}")
    return _WRITERS[suffix](meshes)
