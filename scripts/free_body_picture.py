"""Draws the free body for docs/body.md, as a visual check."""

import cv2
import numpy as np

from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

LIGHT = np.array([0.3, 0.5, 0.8])


def draw(vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray, turn: float) -> np.ndarray:
    """Return a BGR picture of a body turned about its axis; draws the farthest triangle first."""
    size = 320
    cosine, sine = np.cos(turn), np.sin(turn)
    turned = vertices @ np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    # Draws at twice the size and shrinks, for smooth edges.
    points = np.stack([turned[:, 0], 0.87 - turned[:, 1]], 1) * size + [size, 0]
    corners = turned[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) + 1e-12
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    light = np.clip(normal @ LIGHT, 0, 1) * 0.7 + 0.3
    view = np.full((2 * size, 2 * size, 3), 255, np.uint8)
    for face in np.argsort(corners[..., 2].mean(1)):
        if normal[face, 2] > 0:
            colour = colours[faces[face, 0]] * light[face]
            cv2.fillConvexPoly(view, np.rint(points[faces[face]]).astype(int), colour.tolist())
    return cv2.resize(view, (size, size), interpolation=cv2.INTER_AREA)


def sheet(body: dict[str, np.ndarray]) -> np.ndarray:
    """Draw regions, parts, the coarse mesh, random people and the first shape directions."""
    rng = np.random.default_rng(3)
    palette, joint_palette = rng.uniform(60, 255, (2, NUM_JOINTS, 3))
    regions, parts = palette[body["region_of_vertex"]], joint_palette[body["part_of_vertex"]]
    grey = np.full((len(regions), 3), 190.0)
    around = (0.0, -np.pi / 2, np.pi)
    mean, faces, basis = body["v_template"], body["f"], body["shapedirs"].astype(np.float32)
    coarse = body["coarse_template"], body["coarse_faces"], palette[body["coarse_region_of_vertex"]]
    people = [mean + basis @ rng.normal(size=NUM_BETAS) for _ in range(3)]
    ends = [mean + sign * basis[..., k] for k in range(3) for sign in (-2.5, 2.5)]
    rows = (
        [draw(mean, faces, colours, turn) for colours in (regions, parts) for turn in around],
        [draw(*coarse, turn) for turn in around] + [draw(p, faces, grey, 0.5) for p in people],
        [draw(shaped, faces, grey, 0.5) for shaped in ends],
    )
    return np.vstack([np.hstack(row) for row in rows])
