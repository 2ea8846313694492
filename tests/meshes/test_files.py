"""OBJ, PLY and GLB files hold their meshes upright and not mirrored."""

import numpy as np
import pytest

from pare_jax.meshes.formats import MESH_SUFFIXES, mesh_bytes
from pare_jax.meshes.mesh import Mesh, plain_name, to_viewer
from tests.meshes.glb_reader import Glb

# A pyramid in the camera frame (y down): its tip is the highest point, 5 m before the camera.
VERTICES = np.array(
    [[0.0, -1.0, 5.0], [-1.0, 0.5, 4.0], [1.0, 0.5, 4.0], [1.0, 0.5, 6.0], [-1.0, 0.5, 6.0]]
)
FACES = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1], [1, 4, 3], [1, 3, 2]])
PYRAMID = Mesh(VERTICES, FACES.astype(np.int32), (250, 128, 10), "left hand <1>")
SMALLER = Mesh(VERTICES * 0.5, FACES.astype(np.int32), (0, 255, 51), "other")


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Return the volume, negative if faces run clockwise seen from outside."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.einsum("fi,fi->f", a, np.cross(b, c)).sum() / 6)


def read_obj(content: bytes):
    """Return each object's (name, vertices, colours, normals, faces); its first vertex is 0."""
    objects = []
    for line in content.decode("ascii").splitlines():
        kind, *words = line.split()
        if kind == "o":
            start = sum(len(other[1]) for other in objects)
            objects.append((words, [], [], [], []))
        elif kind == "v":
            objects[-1][1].append([float(word) for word in words[:3]])
            objects[-1][2].append([float(word) for word in words[3:]])
        elif kind == "vn":
            objects[-1][3].append([float(word) for word in words])
        elif kind == "f":
            corners = [word.split("//") for word in words]
            assert all(vertex == normal for vertex, normal in corners)
            objects[-1][4].append([int(vertex) - 1 - start for vertex, _ in corners])
    return [(" ".join(name), *map(np.array, rest)) for name, *rest in objects]


def read_ply(content: bytes):
    """Return the header's lines, the table of vertices and the faces."""
    text, numbers = content.split(b"end_header\n", 1)
    header = text.decode("ascii").splitlines()
    assert header[:2] == ["ply", "format binary_little_endian 1.0"]
    kinds = {"float": "<f4", "uchar": "u1"}
    counts = {words[1]: int(words[2]) for line in header if (words := line.split())[0] == "element"}
    columns = [
        (words[2], kinds[words[1]])
        for line in header
        if (words := line.split())[0] == "property" and words[1] != "list"
    ]
    table = np.frombuffer(numbers, np.dtype(columns), counts["vertex"])
    rest = numbers[table.nbytes :]
    faces = np.frombuffer(rest, np.dtype([("n", "u1"), ("corners", "<i4", 3)]), counts["face"])
    assert len(rest) == faces.nbytes
    assert (faces["n"] == 3).all()
    return header, table, faces["corners"]


def test_the_viewers_frame_is_half_a_turn_about_x():
    turn = to_viewer(np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_array_equal(to_viewer(np.array([1.0, 2.0, 3.0])), [1, -2, -3])
    assert volume(VERTICES, FACES) > 0
    assert volume(to_viewer(VERTICES), FACES) == pytest.approx(volume(VERTICES, FACES))


def test_obj():
    first, second = read_obj(mesh_bytes([PYRAMID, SMALLER], ".obj"))
    assert (first[0], second[0]) == ("left_hand_1", "other")
    for (_, vertices, colours, normals, faces), mesh in ((first, PYRAMID), (second, SMALLER)):
        np.testing.assert_allclose(vertices, to_viewer(mesh.vertices), atol=1e-5)
        np.testing.assert_array_equal(faces, mesh.faces)
        np.testing.assert_allclose(colours[0], np.array(mesh.colour) / 255, atol=1e-4)
        # Normals of a convex body point away from its middle.
        outward = vertices - vertices.mean(0)
        assert (np.einsum("vi,vi->v", normals, outward) > 0).all()
    assert first[1][:, 1].argmax() == 0  # the tip is on top


def test_ply():
    header, table, faces = read_ply(mesh_bytes([PYRAMID, SMALLER], ".ply"))
    vertices = np.stack([table["x"], table["y"], table["z"]], -1)
    wanted = np.concatenate([PYRAMID.vertices, SMALLER.vertices])
    np.testing.assert_allclose(vertices, to_viewer(wanted), atol=1e-6)
    np.testing.assert_array_equal(faces, np.concatenate([FACES, FACES + 5]))
    np.testing.assert_array_equal(table["red"], [250] * 5 + [0] * 5)
    np.testing.assert_array_equal(table["blue"], [10] * 5 + [51] * 5)
    assert "comment left_hand_1: vertices 0 to 4" in header
    assert "comment other: vertices 5 to 9" in header


def test_glb():
    glb = Glb(mesh_bytes([PYRAMID, SMALLER], ".glb"))
    nodes = glb.scene["nodes"]
    assert [node["name"] for node in nodes] == ["left hand <1>", "other"]
    assert glb.scene["scenes"][0]["nodes"] == [0, 1]
    for number, mesh in enumerate((PYRAMID, SMALLER)):
        vertices, faces = glb.still(number)
        np.testing.assert_allclose(vertices, to_viewer(mesh.vertices), atol=1e-6)
        np.testing.assert_array_equal(faces, mesh.faces)
    # Linear values: sRGB 51 is 0.0331 (IEC 61966-2-1); 0 and 255 are 0 and 1.
    colour = glb.scene["materials"][1]["pbrMetallicRoughness"]["baseColorFactor"]
    np.testing.assert_allclose(colour, [0, 1, 0.0331, 1], atol=1e-4)
    # The same faces are stored once.
    indices = [mesh["primitives"][0]["indices"] for mesh in glb.scene["meshes"]]
    assert indices[0] == indices[1]
    for view in glb.scene["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["target"] in (34962, 34963)


def test_a_large_mesh_has_long_indices():
    vertices = np.random.default_rng(0).normal(size=(70_000, 3))
    faces = np.array([[0, 1, 2], [0, 1, 65_535], [0, 1, 69_999]])
    _, read = Glb(mesh_bytes([Mesh(vertices, faces)], ".glb")).still(0)
    np.testing.assert_array_equal(read, faces)


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_a_file_without_meshes_is_refused(suffix):
    with pytest.raises(ValueError, match="meshes"):
        mesh_bytes([], suffix)


def test_bad_meshes_are_refused():
    for vertices in (VERTICES * np.nan, VERTICES[:4], VERTICES[:0]):
        with pytest.raises(ValueError, match="'bad'"):
            Mesh(vertices, FACES, name="bad")
    with pytest.raises(ValueError, match=r"\(5, 2\)"):
        Mesh(VERTICES[:, :2], FACES)
    with pytest.raises(ValueError, match=r"\.stl"):
        mesh_bytes([PYRAMID], ".stl")


@pytest.mark.parametrize(
    ("name", "word"),
    [("person 3", "person_3"), ("a\nb/c", "a_b_c"), ("é", "person"), ("", "person")],
)
def test_plain_names_are_one_word(name, word):
    assert plain_name(name) == word
