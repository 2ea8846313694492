"""Build pare_jax/fitting/pose_prior.npz, the pose prior, from poses of our own generator.

It draws poses, fits a mixture of Gaussians to the axis-angle vectors of the fitted joints by
expectation maximisation, takes the ends of their ranges, and keeps the poses nearest to the centres
of a k-means clustering of joint positions as the dictionary of starts.

    python scripts/build_pose_prior.py [--output=pare_jax/fitting/pose_prior.npz]
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from scipy.special import logsumexp

from data_pipelines.synthetic.meshes import load_mesh
from data_pipelines.synthetic.pose_pool import draw_pose_pool
from pare_jax.body.numpy_body import forward_kinematics
from pare_jax.fitting.prior import FITTED_JOINTS, PRIOR_FILE
from pare_jax.skeleton import NUM_BETAS

SEED, NUM_POSES, EVERYDAY = 13, 60_000, 0.8
COMPONENTS, ROUNDS = 24, 40
# Added to variances, radians squared: real people vary more than the generator's actions.
EXTRA_VARIANCE = 0.1**2
# Shares of poses beyond the ends of a range, and the slack added to them, radians.
BEYOND, SLACK = 0.001, 0.1
DICTIONARY = 1200
# A generator's pose of a mixture needs some poses of its component for its covariance.
_RIDGE = 1e-4


def fit_mixture(
    samples: np.ndarray, components: int, rounds: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit a mixture of Gaussians; returns means, covariances and weights.

    Args:
        samples: (n, d).
        components: number of Gaussians.
        rounds: of expectation maximisation.
        rng: chooses the first means.
    """
    size = samples.shape[1]
    _, labels = kmeans2(samples, components, minit="++", rng=rng)
    shares = np.eye(components)[labels]
    for _ in range(rounds):
        counts = shares.sum(0) + 1e-9
        weights = counts / counts.sum()
        means = shares.T @ samples / counts[:, None]
        covariances = np.empty((components, size, size))
        logs = np.empty_like(shares)
        for k in range(components):
            centred = samples - means[k]
            covariances[k] = (centred * shares[:, k : k + 1]).T @ centred / counts[k]
            covariances[k] += _RIDGE * np.eye(size)
            root = np.linalg.cholesky(covariances[k])
            whitened = np.linalg.solve(root, centred.T)
            logs[:, k] = np.log(weights[k]) - np.log(np.diag(root)).sum()
            logs[:, k] -= 0.5 * (whitened**2).sum(0)
        shares = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    return means, covariances, weights


def build(rotations: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of the prior's file.

    Args:
        rotations: poses, (n, 24, 3, 3), the root's with y up and the person facing +z.
    """
    rng = np.random.default_rng(SEED)
    vectors = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec()
    vectors = vectors.reshape(len(rotations), -1, 3)
    samples = vectors[:, FITTED_JOINTS].reshape(len(rotations), -1)
    means, covariances, weights = fit_mixture(samples, COMPONENTS, ROUNDS, rng)
    covariances += EXTRA_VARIANCE * np.eye(samples.shape[1])
    rows, columns = np.tril_indices(samples.shape[1])
    chosen = dictionary(rotations, rng)
    return {
        "means": means.astype(np.float32),
        "covariances": covariances[:, rows, columns].astype(np.float32),
        "weights": weights.astype(np.float32),
        "lowest": (np.quantile(samples, BEYOND, axis=0) - SLACK).astype(np.float32),
        "highest": (np.quantile(samples, 1 - BEYOND, axis=0) + SLACK).astype(np.float32),
        "poses": vectors[chosen].astype(np.float16),
    }


def dictionary(rotations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of poses that are near to all others."""
    rest = load_mesh("coarse").rest_joints(np.zeros(NUM_BETAS))
    places = np.stack([forward_kinematics(rest, pose)[1].ravel() for pose in rotations])
    centres, _ = kmeans2(places, DICTIONARY, minit="points", rng=rng, iter=15)
    return np.unique(cKDTree(places).query(centres)[1])


def main() -> None:
    """Draw poses and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PRIOR_FILE)
    output = parser.parse_args().output
    rotations = draw_pose_pool(SEED, NUM_POSES, EVERYDAY).rotations
    np.savez_compressed(output, **build(rotations))
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
