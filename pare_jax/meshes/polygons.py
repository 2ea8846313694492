"""Writes OBJ (Wavefront) and PLY (Stanford) files, which every mesh program reads."""

from collections.abc import Sequence

import numpy as np

from pare_jax.meshes.mesh import Mesh, plain_name, to_viewer, unit_normals


def obj_bytes(meshes: Sequence[Mesh]) -> bytes:
    """Encode meshes as one OBJ text, each as an object.

    The coordinates of each vertex are followed by its colour, as MeshLab and Blender read it.
    Coordinates have five decimals: a hundredth of a millimetre.

    Args:
        meshes: at least one.

    Returns:
        The file, in the viewer's frame.
    """
    _check(meshes)
    lines = ["# x right, y up, z towards the viewer, metres"]
    first = 1
    for mesh in meshes:
        vertices = to_viewer(mesh.vertices)
        red, green, blue = (f"{value / 255:.4f}" for value in mesh.colour)
        lines.append(f"o {plain_name(mesh.name)}")
        lines += [f"v {x:.5f} {y:.5f} {z:.5f} {red} {green} {blue}" for x, y, z in vertices]
        lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in unit_normals(vertices, mesh.faces)]
        lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in np.asarray(mesh.faces) + first]
        first += len(vertices)
    return ("\n".join(lines) + "\n").encode("ascii")


def ply_bytes(meshes: Sequence[Mesh]) -> bytes:
    """Encode meshes as one binary PLY with normals and vertex colours.

    PLY has no objects: the meshes follow each other, and a comment gives each one's vertices.

    Args:
        meshes: at least one.

    Returns:
        The file, little-endian, in the viewer's frame.
    """
    _check(meshes)
    kinds = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    kinds += [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.zeros(sum(len(mesh.vertices) for mesh in meshes), np.dtype(kinds))
    faces = np.zeros(
        sum(len(mesh.faces) for mesh in meshes), np.dtype([("count", "u1"), ("corners", "<i4", 3)])
    )
    faces["count"] = 3
    header = ["ply", "format binary_little_endian 1.0"]
    header.append("comment x right, y up, z towards the viewer, metres")
    vertex, face = 0, 0
    for mesh in meshes:
        points = to_viewer(mesh.vertices)
        rows = vertices[vertex : vertex + len(points)]
        columns = [*points.T, *unit_normals(points, mesh.faces).T, *mesh.colour]
        for (name, _), values in zip(kinds, columns, strict=True):
            rows[name] = values
        faces["corners"][face : face + len(mesh.faces)] = np.asarray(mesh.faces) + vertex
        last = vertex + len(points) - 1
        header.append(f"comment {plain_name(mesh.name)}: vertices {vertex} to {last}")
        vertex, face = vertex + len(points), face + len(mesh.faces)
    names = {"<f4": "float", "u1": "uchar"}
    header.append(f"element vertex {len(vertices)}")
    header += [f"property {names[kind]} {name}" for name, kind in kinds]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    text = "\n".join([*header, "end_header", ""])
    return text.encode("ascii") + vertices.tobytes() + faces.tobytes()


def _check(meshes: Sequence[Mesh]) -> None:
    if not meshes:
        raise ValueError("no meshes to write")
