"""The energy of a body in a photograph, with its gradient and Gauss-Newton matrix.

Terms: reprojection with a robust error (Geman-McClure), pose prior, limits of joints, shape prior,
uprightness, and optional 3D points. Each is a negative log likelihood, so that weights are
about one. SMPLify (Bogo et al., "Keep it SMPL", 2016) has the same terms but uprightness.
"""

import functools
import operator
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pare_jax.fitting.linearise import Linearised, linearise
from pare_jax.fitting.prior import FITTED_JOINTS, PosePrior
from pare_jax.geometry import axis_angle_to_matrix, cross_matrix, matrix_to_axis_angle
from pare_jax.keypoints.body_points import PointBody
from pare_jax.skeleton import NUM_BETAS

_EXACT = jax.lax.Precision.HIGHEST


class EnergyWeights(NamedTuple):
    """Weights and scales of the terms.

    Attributes:
        sigma: standard deviation of a sure keypoint, crop units.
        outlier: distance, in sigmas, at which a keypoint's error stops to count.
        pose: weight of the pose prior.
        tail: degrees of freedom of the pose prior's tails; fewer let rare poses through.
        limits: weight of the joints' limits; 1 stands for a standard deviation of 0.05 radians.
        shape: weight of the shape prior, a standard normal distribution.
        upright: weight of uprightness; 1 stands for a standard deviation of 0.5.
        world: weight of the 3D points; 1 stands for a standard deviation of 0.05 m.
        smooth: weight of smoothness in clips; 1 stands for points within 0.03 m of where the
            frames before and after put them.
    """

    sigma: float = 0.02
    outlier: float = 8.0
    pose: float = 0.5
    tail: float = 100.0
    limits: float = 1.0
    shape: float = 0.5
    upright: float = 5.0
    world: float = 1.0
    smooth: float = 1.0


_LIMIT_SIGMA, _UPRIGHT_SIGMA, _WORLD_SIGMA, _WORLD_OUTLIER = 0.05, 0.5, 0.05, 3.0
_SMOOTH_SIGMA, _SMOOTH_OUTLIER = 0.03, 5.0


class Problem(NamedTuple):
    """The targets of a fit; leaves with a leading batch axis but for body and prior.

    Attributes:
        body: its points are those of the other fields.
        prior: of poses.
        points: keypoints, crop units.
        shares: confidence over variance, relative to a sure keypoint's; 0 for unknown ones.
        lens: focal length, and x and y of the principal point, crop units.
        world: 3D keypoints, metres, camera axes; None without any.
        world_shares: as `shares`.
        near: points relative to the root joint, metres, that the body stays close to: the middle of
            the frames before and after; None outside of clips.
    """

    body: PointBody
    prior: PosePrior
    points: Float[Array, "batch points 2"]
    shares: Float[Array, "batch points"]
    lens: Float[Array, "batch 3"]
    world: Float[Array, "batch points 3"] | None = None
    world_shares: Float[Array, "batch points"] | None = None
    near: Float[Array, "batch points 3"] | None = None


class Pose(NamedTuple):
    """The unknowns.

    Attributes:
        rotations: relative to the parents; the root's into the camera frame.
        betas: shape coefficients.
        camera: crop camera (s, tx, ty).
    """

    rotations: Float[Array, "batch 24 3 3"]
    betas: Float[Array, "batch 10"]
    camera: Float[Array, "batch 3"]


class Unknowns(NamedTuple):
    """The unknowns that a solve changes.

    Attributes:
        joints: `ALL_JOINTS`, or some of them; the pose prior needs all.
        shape: whether the shape coefficients change.
    """

    joints: tuple[int, ...]
    shape: bool


ALL_JOINTS = (0, *FITTED_JOINTS)


EVERYTHING = Unknowns(ALL_JOINTS, True)
POSE_ALONE = Unknowns(ALL_JOINTS, False)


class Normal(NamedTuple):
    """Energy, gradient and Gauss-Newton matrix in the changes of turns, betas and camera."""

    energy: Float[Array, " batch"]
    gradient: Float[Array, "batch unknowns"]
    matrix: Float[Array, "batch unknowns unknowns"]


def moved(pose: Pose, step: Float[Array, "batch unknowns"], unknowns: Unknowns) -> Pose:
    """Return the unknowns after a step: turns in radians, betas, log s, tx, ty."""
    rows, turns = len(step), 3 * len(unknowns.joints)
    change = axis_angle_to_matrix(step[:, :turns].reshape(rows, -1, 3))
    chosen = np.array(unknowns.joints)
    turned = jnp.matmul(pose.rotations[:, chosen], change, precision=_EXACT)
    rotations = pose.rotations.at[:, chosen].set(turned)
    betas = pose.betas + step[:, turns:-3] if unknowns.shape else pose.betas
    scale = pose.camera[:, :1] * jnp.exp(step[:, -3:-2])
    return Pose(rotations, betas, jnp.concatenate([scale, pose.camera[:, 1:] + step[:, -2:]], 1))


def normal_equations(
    problem: Problem, pose: Pose, weights: EnergyWeights, unknowns: Unknowns
) -> tuple[Normal, Float[Array, "batch points"]]:
    """Return the normal equations at a pose, and each keypoint's squared error in sigmas."""
    found = linearise(problem.body, pose.rotations, pose.betas, unknowns.joints, unknowns.shape)
    energy, rows, residuals, squared = _reprojection(problem, pose, weights, found)
    extras = []
    if problem.world is not None:
        extras.append(_world(problem, weights, found))
    if problem.near is not None:
        error = (found.points - problem.near.transpose(1, 2, 0)) / _SMOOTH_SIGMA
        shares = jnp.full(error[:, 0].shape, weights.smooth)
        extras.append(_robust_3d(error, shares, _SMOOTH_SIGMA, _SMOOTH_OUTLIER, found))
    for extra in extras:
        energy += extra[0]
        rows = jnp.concatenate([rows, extra[1]], 1)
        residuals = jnp.concatenate([residuals, extra[2]], 1)
    matrix = jnp.einsum("brm,brn->bmn", rows, rows, precision=_EXACT)
    gradient = jnp.einsum("brm,br->bm", rows, residuals, precision=_EXACT)
    count = rows.shape[-1]
    for extra_energy, extra_gradient, extra_matrix, start in _priors(
        problem.prior, pose, weights, unknowns
    ):
        energy += extra_energy
        after = count - start - extra_gradient.shape[-1]
        gradient += jnp.pad(extra_gradient, ((0, 0), (start, after)))
        matrix += jnp.pad(extra_matrix, ((0, 0), (start, after), (start, after)))
    return Normal(energy, gradient, matrix), squared


def _reprojection(problem: Problem, pose: Pose, weights: EnergyWeights, found: Linearised):
    """Return energy, weighted Jacobian, weighted residuals, and squared errors in sigmas."""
    scale, shift_x, shift_y = pose.camera.T
    focal, centre_x, centre_y = problem.lens.T
    inverse = 1.0 / scale
    offset = jnp.stack(
        [shift_x - centre_x * inverse, shift_y - centre_y * inverse, focal * inverse]
    )
    place = found.points + found.root + offset
    depth = jnp.maximum(place[:, 2], 0.1)
    slope = place[:, :2] / depth[:, None]
    seen = focal * slope + problem.lens.T[1:]
    error = (seen - problem.points.transpose(1, 2, 0)) / weights.sigma
    squared = (error**2).sum(1)
    cut = weights.outlier**2
    shares = problem.shares.T
    energy = 0.5 * (shares * cut * squared / (cut + squared)).sum(0)
    root_weight = jnp.sqrt(shares) * cut / (cut + squared)
    # Rows of d(seen) / d(place), weighted.
    gain = root_weight * focal / depth / weights.sigma
    zero = jnp.zeros_like(gain)
    covectors = jnp.stack(
        [
            jnp.stack([gain, zero, -gain * slope[:, 0]], 1),
            jnp.stack([zero, gain, -gain * slope[:, 1]], 1),
        ],
        1,
    )
    by_scale = jnp.stack([centre_x, centre_y, -focal]) * inverse
    camera = jnp.stack([(covectors * by_scale).sum(2), covectors[:, :, 0], covectors[:, :, 1]], 2)
    rows = _rows(covectors, found, camera, with_root=True)
    residuals = (error * root_weight[:, None]).transpose(2, 0, 1).reshape(len(pose.betas), -1)
    return energy, rows, residuals, squared.T


def _rows(
    covectors: Float[Array, "points rows 3 batch"],
    found: Linearised,
    camera: Float[Array, "points rows 3 batch"],
    with_root: bool,
) -> Float[Array, "batch rows unknowns"]:
    """Return the Jacobian of covectors times points; the camera's part is given."""
    ours, levers = covectors[:, :, None], found.levers[:, None]
    # a . (axis x c) = axis . (c x a)
    crossed = jnp.cross(levers, ours, axis=3)
    turns = _sum(found.axes[None, None, :, k] * crossed[..., k, None, :] for k in range(3))
    points, rows, _, batch = covectors.shape
    parts = [turns.reshape(points, rows, -1, batch)]
    if found.shapes is not None:
        shapes = found.shapes + found.root_shapes[:, :, None] if with_root else found.shapes
        parts.append(_sum(covectors[:, :, k, None] * shapes[:, None, k] for k in range(3)))
    jacobian = jnp.concatenate([*parts, camera], 2)
    return jacobian.reshape(points * rows, -1, batch).transpose(2, 0, 1)


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def _world(problem: Problem, weights: EnergyWeights, found: Linearised):
    """Return energy, Jacobian and residuals of the 3D points, up to scale and translation."""
    assert problem.world is not None
    assert problem.world_shares is not None
    shares = problem.world_shares.T
    total = shares.sum(0) + 1e-9
    parts = shares / total
    theirs = problem.world.transpose(1, 2, 0)
    theirs = theirs - (parts[:, None] * theirs).sum(0)
    found = _about_mean(found, parts)
    ours = found.points
    size = (parts * (theirs**2).sum(1)).sum(0) + 1e-9
    scale = (parts * (theirs * ours).sum(1)).sum(0) / size
    error = (ours - jnp.clip(scale, 0.7, 1.4) * theirs) / _WORLD_SIGMA
    return _robust_3d(error, shares * weights.world, _WORLD_SIGMA, _WORLD_OUTLIER, found)


def _robust_3d(error: Array, shares: Array, sigma: float, outlier: float, found: Linearised):
    """Return energy, weighted Jacobian and residuals of errors (points, 3, batch) in sigmas."""
    squared, cut = (error**2).sum(1), outlier**2
    energy = 0.5 * (shares * cut * squared / (cut + squared)).sum(0)
    root_weight = jnp.sqrt(shares) * cut / (cut + squared)
    axes = jnp.eye(3)[None, :, :, None] * (root_weight / sigma)[:, None, None]
    rows = _rows(axes, found, jnp.zeros_like(axes), with_root=False)
    residuals = (error * root_weight[:, None]).transpose(2, 0, 1).reshape(len(rows), -1)
    return energy, rows, residuals


def _about_mean(found: Linearised, parts: Float[Array, "points batch"]) -> Linearised:
    """Return points and derivatives relative to the points' weighted mean."""

    def centred(x):
        wide = parts.reshape(len(parts), *[1] * (x.ndim - 2), -1)
        return x - (wide * x).sum(0)

    shapes = None if found.shapes is None else centred(found.shapes)
    return found._replace(points=centred(found.points), levers=centred(found.levers), shapes=shapes)


@jax.jit
def prior_energy(
    prior: PosePrior,
    rotations: Float[Array, "batch 24 3 3"],
    betas: Float[Array, "batch 10"],
    weights: EnergyWeights,
) -> Float[Array, " batch"]:
    """Return the energy of pose, limits and shape, without keypoints and uprightness."""
    pose = Pose(rotations, betas, jnp.zeros((len(betas), 3)))
    return _pose_terms(prior, pose, weights)[0] + 0.5 * weights.shape * (betas**2).sum(-1)


def _priors(prior: PosePrior, pose: Pose, weights: EnergyWeights, unknowns: Unknowns):
    """Yield energy, gradient, matrix and first unknown of each prior."""
    yield (*_upright(pose, weights), 0)
    turns = 3 * len(unknowns.joints)
    if unknowns.shape:
        eye = jnp.broadcast_to(weights.shape * jnp.eye(NUM_BETAS), (len(pose.betas), 10, 10))
        energy = 0.5 * weights.shape * (pose.betas**2).sum(-1)
        yield energy, weights.shape * pose.betas, eye, turns
    if unknowns.joints == ALL_JOINTS:
        yield (*_pose_terms(prior, pose, weights), 3)


def _upright(pose: Pose, weights: EnergyWeights):
    """Penalise a body axis away from the picture's vertical; of two views, few are upside down."""
    root = pose.rotations[:, 0]
    error = root[:, :, 1] - jnp.array([0.0, -1.0, 0.0])
    squared = (error**2).sum(-1) / _UPRIGHT_SIGMA**2
    # Someone who lies costs a limited amount.
    cut = 9.0
    weight = weights.upright * (cut / (cut + squared)) ** 2 / _UPRIGHT_SIGMA**2
    # A turn by d in the root's frame moves its axis y by root @ (d x y).
    jacobian = jnp.stack([root[:, :, 2], jnp.zeros_like(error), -root[:, :, 0]], -1)
    gradient = weight[:, None] * jnp.einsum("bij,bi->bj", jacobian, error)
    matrix = weight[:, None, None] * jnp.einsum("bij,bik->bjk", jacobian, jacobian)
    return 0.5 * weights.upright * cut * squared / (cut + squared), gradient, matrix


def _pose_terms(prior: PosePrior, pose: Pose, weights: EnergyWeights):
    """Return the mixture's and the limits' energy, gradient and matrix in the joints' turns."""
    vectors = matrix_to_axis_angle(pose.rotations[:, np.array(FITTED_JOINTS)])
    batch, joints = vectors.shape[:2]
    flat = vectors.reshape(batch, -1)
    centred = flat[:, None] - prior.means
    products = jnp.einsum("bkm,kmn->bkn", centred, prior.precisions, precision=_EXACT)
    distance = (products * centred).sum(-1)
    # Student's t with the components' means and covariances.
    size = flat.shape[-1]
    freedom = weights.tail
    each = 0.5 * (freedom + size) * jnp.log1p(distance / freedom) + prior.offsets
    best = jnp.argmin(each, -1)
    chosen = jnp.take_along_axis(distance, best[:, None], 1)
    slope = weights.pose * (freedom + size) / (freedom + chosen)
    gradient = slope * jnp.take_along_axis(products, best[:, None, None], 1)[:, 0]
    matrix = slope[..., None] * prior.precisions[best]
    excess = jnp.maximum(flat - prior.highest, 0) - jnp.maximum(prior.lowest - flat, 0)
    stiffness = weights.limits / _LIMIT_SIGMA**2
    gradient += stiffness * excess
    matrix += jnp.eye(size) * (stiffness * (excess != 0))[:, None]
    energy = weights.pose * jnp.take_along_axis(each, best[:, None], 1)[:, 0]
    energy += 0.5 * stiffness * (excess**2).sum(-1)
    # From axis-angle vectors to turns in the joints' frames.
    change = _inverse_right_jacobian(vectors)
    gradient = jnp.einsum("bji,bjik->bjk", gradient.reshape(batch, joints, 3), change)
    matrix = matrix.reshape(batch, joints, 3, joints, 3)
    matrix = _sum(matrix[:, :, i, None] * change[:, :, i, :, None, None] for i in range(3))
    matrix = _sum(matrix[..., i, None] * change[:, None, None, :, i] for i in range(3))
    return energy, gradient.reshape(batch, -1), matrix.reshape(batch, size, size)


def _inverse_right_jacobian(vectors: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Return d log(R exp(d)) / dd at d = 0 (Chirikjian, "Stochastic Models ...", 2012, 10.86)."""
    squared = (vectors**2).sum(-1)[..., None, None]
    small = squared < 1e-4
    safe = jnp.where(small, 1.0, squared)
    angle = jnp.sqrt(safe)
    # (1 + cos) / sin = cot(angle / 2)
    large = 1.0 / safe - 0.5 / (angle * jnp.tan(0.5 * angle))
    cross = cross_matrix(vectors)
    squares = jnp.matmul(cross, cross, precision=_EXACT)
    return jnp.eye(3) + 0.5 * cross + jnp.where(small, 1 / 12.0, large) * squares
