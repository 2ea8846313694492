"""Make the free body's surface a neutral figure, as in a shop window, without anatomical detail.

Chest, navel, crotch, seat, eyes, mouth, nostrils and ears become smooth. The same linear operator
smooths the template and every shape direction, so that no coefficient brings a detail back. Joints
stay where they are: the joint regressor takes up the change.

    python scripts/neutral_figure.py DETAILED.npz NEUTRAL.npz

`build_free_body.py` does the same as its last step.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from pare_jax.skeleton import MIRROR

_TRUNK = ("torso", "pelvis", "thigh")
_HEAD = ("face", "ears", "scalp", "eyes", "brows", "lips")


class Zone(NamedTuple):
    """A place to smooth, in metres on the mean shape; x counts from the middle to either side.

    Attributes:
        regions: only vertices of these regions change.
        path: corners of a line; distances count from it.
        core: closer vertices are laid out anew, which removes folds.
        reach: vertices farther away stay.
        length: details shorter than this vanish on the path; it falls to a tenth of `reach`.
    """

    regions: tuple[str, ...]
    path: tuple[tuple[float, float, float], ...]
    core: float
    reach: float
    length: float


# From the waist behind, between the legs, to the lower belly.
_BETWEEN_THE_LEGS = (
    *((0, 0.07, -0.09), (0, 0, -0.1), (0, -0.07, -0.09), (0, -0.11, -0.04)),
    *((0, -0.115, 0.02), (0, -0.09, 0.08), (0, -0.04, 0.11)),
)
_EYE = Zone(_HEAD, ((0.035, 0.652, 0.097), (0.035, 0.652, 0.126)), 0.014, 0.021, 0.06)
_MOUTH = Zone(
    _HEAD, ((0, 0.594, 0.143), (0, 0.582, 0.143), (0.018, 0.582, 0.134)), 0.011, 0.031, 0.1
)
_NOSTRIL = Zone(_HEAD, ((0.009, 0.606, 0.138),), 0.0, 0.016, 0.007)
_ZONES = (
    Zone(_TRUNK, ((0.079, 0.287, 0.143),), 0.022, 0.1, 0.03),
    Zone(_TRUNK, ((0, 0.095, 0.123),), 0.022, 0.06, 0.2),
    Zone(_TRUNK, _BETWEEN_THE_LEGS, 0.032, 0.1, 0.1),
    Zone(("face", "brows"), ((0, 0.63, 0.13),), 0.0, 0.05, 0.004),
    Zone(("ears",), ((0.077, 0.632, 0.036),), 0.0, 0.06, 0.006),
    *(_EYE, _MOUTH, _NOSTRIL),
)
# Eye sockets, the inside of the mouth and of the nose lie behind the face within these bounds.
_BEHIND_THE_FACE = ((-0.046, 0.54, 0.03), (0.046, 0.68, 0.2))
_HIDDEN_BY = 5e-4  # metres
_LENGTH_OF_HIDDEN = 0.1
_LAYOUT_ROUNDS = 12
# Bounds of the cotangent weights: flat and crowded triangles have extreme ones.
_LEAST_WEIGHT, _LARGEST_COTANGENT = 0.02, 5.0
_MOST_JOINT_ERROR = 1e-6  # metres; of the mean shape, and for each shape coefficient


def distance_to(path, points: np.ndarray) -> np.ndarray:
    """Return the distances (N,) of points (N, 3) to a line with the given corners."""
    best = np.full(len(points), np.inf)
    for start, end in zip(path, path[1:] or path, strict=False):
        a, along = np.array(start), np.array(end) - start
        share = np.clip((points - a) @ along / max(along @ along, 1e-12), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - share[:, None] * along, axis=1))
    return best


def behind_the_face(template: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return which vertices (V,) are inside the head: a face is between them and the front."""
    low, high = _BEHIND_THE_FACE
    near = ((template > low) & (template < high)).all(1)
    corners = template[faces[near[faces].any(1)]]
    a, u, v = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    size = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    seen = np.abs(size) > 1e-12
    a, u, v, size = a[seen], u[seen], v[seen], size[seen]
    hidden = np.zeros(len(template), bool)
    for vertex in np.flatnonzero(near):
        p = template[vertex] - a
        s = (p[:, 0] * v[:, 1] - p[:, 1] * v[:, 0]) / size
        t = (u[:, 0] * p[:, 1] - u[:, 1] * p[:, 0]) / size
        in_front = s * u[:, 2] + t * v[:, 2] - p[:, 2] > _HIDDEN_BY
        hidden[vertex] = ((s >= 0) & (t >= 0) & (s + t <= 1) & in_front).any()
    return hidden


def edges(faces: np.ndarray, values: np.ndarray, count: int) -> sp.csr_matrix:
    """Return a symmetric (V, V) matrix from a value for each corner (F, 3): its opposite edge's."""
    first, second = faces[:, [1, 2, 0]].ravel(), faces[:, [2, 0, 1]].ravel()
    both = np.concatenate([first, second]), np.concatenate([second, first])
    return sp.csr_matrix((np.tile(values.ravel(), 2), both), (count, count))


def laplacian(weights: sp.csr_matrix) -> sp.csr_matrix:
    """Return the graph Laplacian of symmetric weights (V, V)."""
    return sp.csr_matrix(sp.diags(np.asarray(weights.sum(1)).ravel()) - weights)


def layout(core: np.ndarray, links: sp.csr_matrix, points: np.ndarray) -> np.ndarray:
    """Lay out the core's vertices anew, each at a weighted mean of its neighbours (Tutte 1963).

    Weights are the squares of the edges' lengths, or the bottom of a deep fold would shrink to a
    dot.

    Args:
        core: (V,) bool.
        links: (V, V), 1 for neighbours.
        points: (V, n), n any number of fields on the surface; the first three are coordinates.

    Returns:
        (V, n)
    """
    inside, outside = np.flatnonzero(core), np.flatnonzero(~core)
    first, second = links.nonzero()
    weights, result = np.ones(len(first)), points.copy()
    for _ in range(_LAYOUT_ROUNDS):
        matrix = laplacian(sp.csr_matrix((weights, (first, second)), links.shape))
        right = -matrix[inside][:, outside] @ points[outside]
        result[inside] = splu(matrix[inside][:, inside].tocsc()).solve(right)
        length = np.linalg.norm(result[first, :3] - result[second, :3], axis=1)
        weights = np.sqrt(weights) * length  # tends to the squared length
    return result


def fairing(template: np.ndarray, faces: np.ndarray, mirror: np.ndarray):
    """Return the thin-plate energy (V, V) of a surface and the areas (V,) around its vertices.

    It is the discrete integral of the squared Laplacian, with cotangent weights (Botsch and
    Kobbelt, "An intuitive framework for real-time freeform modeling", 2004).
    """
    corners = template[faces]
    u = np.roll(corners, -1, 1) - corners
    v = np.roll(corners, -2, 1) - corners
    twice_area = np.maximum(np.linalg.norm(np.cross(u, v), axis=2), 1e-12)
    cotangents = np.clip((u * v).sum(2) / twice_area, -_LARGEST_COTANGENT, _LARGEST_COTANGENT)
    weights = edges(faces, cotangents / 2, len(template))
    weights.data = np.maximum(weights.data, _LEAST_WEIGHT)
    areas = np.bincount(faces.ravel(), twice_area.ravel() / 6, len(template))
    # The mesh is symmetric, but not its diagonals.
    weights = (weights + weights[mirror][:, mirror]) / 2
    areas = np.maximum((areas + areas[mirror]) / 2, 1e-9)
    operator = laplacian(weights)
    return sp.csr_matrix(operator @ sp.diags(1 / areas) @ operator), areas


def smooth(lengths: np.ndarray, energy: sp.csr_matrix, areas: np.ndarray, points: np.ndarray):
    """Remove details shorter than `lengths` (V,) from points (V, n); length 0 keeps a vertex."""
    free, fixed = np.flatnonzero(lengths), np.flatnonzero(lengths == 0)
    stiffness = areas[free] / lengths[free] ** 4
    result = points.copy()
    system = energy[free][:, free] + sp.diags(stiffness)
    right = stiffness[:, None] * points[free] - energy[free][:, fixed] @ points[fixed]
    result[free] = splu(system.tocsc()).solve(right)
    return result


def same_joints(regressor: np.ndarray, old: np.ndarray, new: np.ndarray, mirror: np.ndarray):
    """Return a regressor (24, V) that finds on the new surface the joints of the old one.

    The change is the least in squares, among the vertices that each joint reads already.

    Args:
        regressor: (24, V) for the old surface.
        old: (V, n) fields on the surface: template and shape directions.
        new: (V, n) on the new surface.
        mirror: (V,) each vertex's mirror image.
    """
    result = regressor.astype(np.float64)
    one = np.ones((len(old), 1))
    error = result @ np.hstack([old, one]) - result @ np.hstack([new, one])
    for joint in range(len(result)):
        if MIRROR[joint] < joint:
            result[joint] = result[MIRROR[joint]][mirror]
            continue
        read = np.flatnonzero(regressor[joint])
        fields = np.hstack([new, one])[read]
        result[joint, read] += np.linalg.lstsq(fields.T, error[joint], rcond=None)[0]
    return result.astype(np.float32)


def neutral_figure(body: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a free body whose surface is a neutral figure.

    Vertices keep their number and order. Faces, the coarse mesh and the joints of all shapes stay.
    Skinning weights are smoothed like the surface, or folds would come back in a seated pose.
    """
    template, faces = body["v_template"].astype(np.float64), body["f"]
    count = len(template)
    mirror = cKDTree(template).query(template * [-1, 1, 1])[1]
    hidden = behind_the_face(template, faces)
    hidden |= hidden[mirror]
    links = edges(faces, np.ones(faces.shape), count)
    links = links + links[mirror][:, mirror]
    links.data[:] = 1
    core, lengths = plan(body, hidden, links)
    core, lengths = core | core[mirror], np.maximum(lengths, lengths[mirror])

    shapes = np.hstack([template, body["shapedirs"].reshape(count, -1)]).astype(np.float64)
    laid_out = layout(core, links, np.hstack([shapes, body["weights"]]))
    energy, areas = fairing(laid_out[:, :3], faces, mirror)
    points, basis, weights = np.split(
        smooth(lengths, energy, areas, laid_out), [3, shapes.shape[1]], axis=1
    )
    basis = basis.reshape(body["shapedirs"].shape)
    middle = mirror == np.arange(count)
    points[middle, 0], basis[middle, 0] = 0, 0  # not 1e-17, which would be a side
    moves = (lengths > 0)[:, None]
    new = body | {
        "v_template": points.astype(np.float32),
        "shapedirs": basis.astype(body["shapedirs"].dtype),
        "weights": np.where(moves, four_largest(weights), body["weights"]).astype(np.float32),
        "region_of_vertex": _regions_of_hidden(body, hidden, points),
    }
    stored = np.hstack([new["v_template"], new["shapedirs"].reshape(count, -1)]).astype(np.float64)
    new["J_regressor"] = same_joints(body["J_regressor"], shapes, stored, mirror)
    moved = new["J_regressor"].astype(np.float64) @ stored - body["J_regressor"] @ shapes
    assert np.abs(moved).max() < _MOST_JOINT_ERROR, "the joints have moved"
    return new


def plan(body, hidden: np.ndarray, links: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return which vertices (V,) are laid out anew, and the smoothing lengths (V,), metres."""
    half, names = _one_side(body["v_template"]), list(body["region_names"])
    core = hidden | (links @ hidden > 0)
    lengths = np.where(hidden, _LENGTH_OF_HIDDEN, 0.0)
    for zone in _ZONES:
        distance = distance_to(zone.path, half)
        inside = np.isin(body["region_of_vertex"], [names.index(name) for name in zone.regions])
        core |= inside & (distance < zone.core)
        share = np.clip((distance - zone.core) / (zone.reach - zone.core), 0, 1)
        length = zone.length * (zone.reach / 10 / zone.length) ** share
        lengths = np.maximum(lengths, np.where(inside & (distance < zone.reach), length, 0))
    return core, lengths


def _one_side(points: np.ndarray) -> np.ndarray:
    return np.column_stack([np.abs(points[:, 0]), points[:, 1:]])


def four_largest(weights: np.ndarray) -> np.ndarray:
    """Return skinning weights (V, 24) with the four largest of each vertex, which sum to one."""
    fifth = -np.sort(-weights, axis=1)[:, [4]]
    weights = np.where((weights > fifth) & (weights > 1e-3), weights, 0)
    return weights / weights.sum(1, keepdims=True)


def _regions_of_hidden(body, hidden: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Return the regions (V,), where sockets and mouth, now on the surface, are eyes and lips."""
    half = _one_side(template)
    nearest = np.argmin([distance_to(z.path, half) for z in (_EYE, _MOUTH, _NOSTRIL)], axis=0)
    regions, names = body["region_of_vertex"].copy(), list(body["region_names"])
    for number, name in enumerate(("eyes", "lips", "face")):
        regions[hidden & (nearest == number)] = names.index(name)
    return regions


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="free body with anatomical detail")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    with np.load(args.input) as arrays:
        detailed = dict(arrays)
    body = neutral_figure(detailed)
    np.savez_compressed(args.output, **body)
    moved = np.linalg.norm(body["v_template"] - detailed["v_template"], axis=1) * 1000
    print(f"{(moved > 0).sum()} vertices moved, {(moved > 1).sum()} of them by more than 1 mm")
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
