"""Heat maps of keypoints, and the networks that see them."""

import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.keypoints.sets import NUM_BODY_POINTS
from pare_jax.models import build_model
from pare_jax.models.folding import fold
from pare_jax.models.keypoint_maps import heat_maps
from tests.fakes import TINY_MODEL, keypoints_of


def test_a_bump_is_at_its_point_and_an_unknown_point_has_none():
    keypoints = np.zeros((1, NUM_BODY_POINTS, 5), np.float32)
    keypoints[0, 3] = [2.5 / 8 - 1, 11.5 / 8 - 1, 0.5, -0.25, 1.0]
    keypoints[0, 4] = [0.0, 0.0, 0.5, 0.0, 0.0]
    maps = np.asarray(heat_maps(keypoints, 16))
    assert maps.shape == (1, 16, 16, 2 * NUM_BODY_POINTS)
    np.testing.assert_allclose(maps[0, 11, 2, 3], 0.5, rtol=1e-5)
    np.testing.assert_allclose(maps[0, 11, 2, NUM_BODY_POINTS + 3], -0.25, rtol=1e-5)
    assert maps[..., 3].max() == maps[0, 11, 2, 3]
    assert not np.delete(maps, [3, 4, NUM_BODY_POINTS + 3], -1).any()


@pytest.mark.parametrize("name", ["pare", "baseline"])
def test_a_network_on_maps_predicts_people_and_can_be_folded(name):
    config = ConfigDict(TINY_MODEL | {"name": name, "input": "keypoints", "map_side": 16})
    network = build_model(config, rngs=nnx.Rngs(0))
    network.eval()
    keypoints = keypoints_of(3)
    prediction, folded = network(keypoints), fold(network)(keypoints)
    assert prediction.rotations.shape == (3, 24, 3, 3)
    np.testing.assert_allclose(folded.rotations, prediction.rotations, atol=1e-4)


def test_a_backbone_without_a_stem_for_maps_is_refused():
    changes = {"input": "keypoints", "map_side": 16, "backbone": "hrnet_w32", "backbone_width": 4}
    with pytest.raises(UserError, match="hrnet_w32"):
        build_model(ConfigDict(TINY_MODEL | changes), rngs=nnx.Rngs(0))
