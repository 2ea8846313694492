"""Compares PCKh with its definition, and checks MPII's table."""

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pare_jax.evaluation.pckh import HEADINGS, hits, pck_of_box, pckh, table
from tests.evaluation.metric_references import MPII_POINTS, reference_pck_of_box, reference_pckh


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def pictures(rng):
    """Predicted and true points of 2,000 people in pixels, their weights and head sizes."""
    true = rng.uniform(0, 1000, size=(2000, 25, 2)).astype(np.float32)
    head_size = rng.uniform(20, 200, size=2000).astype(np.float32)
    error = rng.normal(size=true.shape) * head_size[:, None, None] * 0.45
    known = (rng.uniform(size=(2000, 25)) > 0.3).astype(np.float32)
    known[:10] = 0
    head_size[5:20] = 0
    return (true + error).astype(np.float32), true, known, head_size


def test_pckh_agrees_with_float64(pictures):
    expected = reference_pckh(*pictures)
    assert 0.3 < np.nanmean(expected) < 0.7
    assert np.isnan(expected[:20]).all()
    found = pckh(*pictures)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(pckh)(*pictures), expected, atol=1e-6)


def test_pckh_is_the_same_in_any_crop(pictures):
    pred, true, known, head_size = (part.astype(np.float64) for part in pictures)
    turn = Rotation.from_rotvec([0, 0, 0.7]).as_matrix()[:2, :2]
    zoom, shift = 0.0123, np.array([3.0, -8.0])
    moved = pckh(zoom * pred @ turn + shift, zoom * true @ turn + shift, known, zoom * head_size)
    np.testing.assert_allclose(moved, pckh(*pictures), atol=1e-6)


def test_pck_of_the_box_agrees_with_float64(pictures):
    pred, true, known, _ = pictures
    known[10] = np.arange(25) == 4
    pred[11] = np.nan
    expected = reference_pck_of_box(pred, true, known)
    assert np.isnan(expected[:11]).all()
    assert expected[11] == 0
    assert 0.3 < np.nanmean(expected) < 0.9
    np.testing.assert_allclose(pck_of_box(pred, true, known), expected, atol=1e-6)


def test_pckh_includes_the_threshold_and_counts_nan_as_a_miss():
    true = np.zeros((5, 25, 2))
    pred = np.zeros((5, 25, 2))
    pred[0, 7, 0] = 10.0
    pred[1, 7, 1] = 10.0001
    pred[2, 7] = np.nan
    pred[3, 0] = np.nan  # the pelvis, which does not count
    pred[4, 4:6] = np.inf
    known, heads = np.ones((5, 25)), np.full(5, 20.0)
    found = pckh(pred, true, known, heads)
    np.testing.assert_allclose(found, [1, 13 / 14, 13 / 14, 1, 12 / 14], rtol=1e-6)
    assert hits(pred, true, known, heads)[2, 7] == 0
    wider = pckh(pred, true, known, heads, threshold=0.6)
    np.testing.assert_allclose(wider, [1, 1, 13 / 14, 1, 12 / 14], rtol=1e-6)
    true[1, 7] = np.nan  # a NaN annotation is not judged
    assert np.isnan(hits(pred, true, known, heads)[1, 7])
    np.testing.assert_allclose(pckh(pred, true, known, heads)[1], 1)
    with pytest.raises(ValueError, match="point sets"):
        pckh(np.zeros((4, 25, 3)), np.zeros((4, 25, 3)), np.ones((4, 25)), np.ones(4))


def test_the_share_is_the_mean_of_the_hits(pictures):
    found = np.asarray(hits(*pictures))
    _, _, known, head_size = pictures
    np.testing.assert_array_equal(np.isfinite(found), (known > 0) & (head_size[:, None] > 0))
    judged = found[20:, list(MPII_POINTS)]
    np.testing.assert_allclose(np.nanmean(judged, 1), pckh(*pictures)[20:], atol=1e-6)


def test_the_table_is_mpiis(pictures):
    """Columns are means of two points' shares; the total is the share of all points."""
    found = np.asarray(hits(*pictures))
    by_point, groups = table(found)
    assert tuple(groups) == HEADINGS
    neck, top = (100 * np.nanmean(found[:, point]) for point in (12, 24))
    assert by_point["neck"] == pytest.approx(neck)
    assert by_point["head_top"] == pytest.approx(top)
    assert groups["Head"] == pytest.approx((neck + top) / 2)
    ankles = [100 * np.nanmean(found[:, point]) for point in (7, 8)]
    assert groups["Ankle"] == pytest.approx(np.mean(ankles))
    assert groups["Total"] == pytest.approx(100 * np.nanmean(found[:, list(MPII_POINTS)]))


def test_points_that_nobody_has_are_none_in_the_table():
    found = np.full((3, 25), np.nan)
    assert set(table(found)[1].values()) == {None}
    found[:, 12] = [1, 0, 1]
    _, groups = table(found)
    assert groups["Head"] == groups["Total"] == pytest.approx(200 / 3)
    assert groups["Wrist"] is None
