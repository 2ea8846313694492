"""The pose prior: this package's file, and SMPLify's pickle."""

import pickle

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.fitting.prior import FITTED_JOINTS, PRIOR_FILE, load_pose_prior
from pare_jax.io.safe_pickle import RefusedPickle


def smplify(count=2, size=69):
    means = np.arange(count * size, dtype=float).reshape(count, size)
    covariances = np.tile(np.eye(size) * 0.5, (count, 1, 1))
    return {"means": means, "covars": covariances, "weights": np.full(count, 1 / count)}


def written(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


def test_the_shipped_prior_is_small_and_its_mixture_proper():
    prior = load_pose_prior()
    assert PRIOR_FILE.stat().st_size < 1e6
    assert (np.linalg.eigvalsh(np.asarray(prior.precisions, np.float64)) > 0).all()
    assert (np.asarray(prior.lowest) < np.asarray(prior.highest)).all()
    knee = 3 * FITTED_JOINTS.index(4)
    assert prior.lowest[knee] > -0.3
    assert prior.highest[knee] > 1.5


def test_smplifys_mixture_keeps_the_fitted_joints(tmp_path):
    prior = load_pose_prior(written(tmp_path / "gmm_08.pkl", smplify()))
    columns = [3 * (joint - 1) for joint in FITTED_JOINTS]
    np.testing.assert_array_equal(prior.means[0, ::3], columns)
    np.testing.assert_allclose(prior.precisions[1], 2 * np.eye(57))
    np.testing.assert_array_equal(prior.poses, load_pose_prior().poses)


def test_other_files_are_refused(tmp_path):
    broken = smplify()
    broken["covars"][0] *= -1
    cases = {
        "63": smplify(size=63),
        "weights": {"means": np.zeros((1, 69)), "covars": np.eye(69)[None]},
        "positive": broken,
        "NaN": {**smplify(), "means": np.full((2, 69), np.nan)},
        "covars": [1, 2],
    }
    for name, content in cases.items():
        with pytest.raises(UserError, match=name):
            load_pose_prior(written(tmp_path / "gmm.pkl", content))
    with pytest.raises(UserError, match="missing"):
        load_pose_prior(tmp_path / "missing.pkl")


class Evil:
    def __reduce__(self):
        return eval, ("1",)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    with pytest.raises(RefusedPickle) as refused:
        load_pose_prior(written(tmp_path / "gmm_08.pkl", Evil()))
    assert refused.value.culprit.endswith("eval")
