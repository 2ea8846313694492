"""Losses against float64 references written from their definitions."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from configs.pare import get_config
from data_pipelines.example import BATCH_FIELDS
from pare_jax import geometry
from pare_jax.models.prediction import Prediction
from pare_jax.training import losses

BATCH = 5


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    rotations = Rotation.random(BATCH * 48, random_state=1).as_matrix().reshape(2, BATCH, 24, 3, 3)
    prediction = Prediction(
        rotations=jnp.asarray(rotations[0], jnp.float32),
        betas=jnp.asarray(rng.normal(size=(BATCH, 10)), jnp.float32),
        camera=jnp.asarray(
            np.c_[rng.uniform(0.5, 1.2, BATCH), rng.normal(0, 0.1, (BATCH, 2))], jnp.float32
        ),
        part_logits=jnp.asarray(rng.normal(size=(BATCH, 4, 4, 25)), jnp.float32),
        attention=None,
    )
    joints = jnp.asarray(rng.normal(0, 0.4, (BATCH, 24, 3)), jnp.float32)
    head_top = jnp.asarray(rng.normal(0, 0.4, (BATCH, 3)), jnp.float32)
    labels = rng.integers(0, 25, (BATCH, 16, 16)).astype(np.uint8)
    labels[0, :8] = 255
    batch = {
        "joints_3d": rng.normal(0, 0.4, (BATCH, 24, 3)).astype(np.float32),
        "joints_3d_weight": np.array([1, 0, 1, 1, 0], np.float32),
        "joints_2d": rng.normal(0, 0.4, (BATCH, 24, 2)).astype(np.float32),
        "joints_2d_weight": rng.uniform(0, 1, (BATCH, 24)).astype(np.float32),
        "head_top": rng.normal(0, 0.4, (BATCH, 2)).astype(np.float32),
        "head_top_weight": np.array([1, 0, 0.3, 0, 1], np.float32),
        "rotations": rotations[1].astype(np.float32),
        "pose_weight": np.array([0, 1, 1, 0, 1], np.float32),
        "betas": rng.normal(size=(BATCH, 10)).astype(np.float32),
        "betas_weight": np.array([0, 1, 1, 0, 1], np.float32),
        "part_labels": labels,
        "parts_weight": np.array([1, 1, 0, 0, 1], np.float32),
    }
    return prediction, joints, head_top, batch


WEIGHTS = {
    "joints_3d": 300.0,
    "joints_2d": 150.0,
    "pose": 60.0,
    "shape": 0.06,
    "camera": 1.0,
    "parts": 60.0,
}


def projected(points, camera):
    """Points (n, 3) in crop units, float64."""
    scale, tx, ty = np.asarray(camera, np.float64)
    translation = np.array([tx, ty, 2 * 5000 / (224 * scale + 1e-9)])
    moved = np.asarray(points, np.float64) + translation
    return 5000 * moved[:, :2] / moved[:, 2:] / 112


def reference(prediction, joints, head_top, batch):
    """Sample by sample, in float64, from the definitions."""
    joints = np.asarray(joints, np.float64)
    logits = np.asarray(prediction.part_logits, np.float64)
    terms = {name: [] for name in WEIGHTS}
    for i in range(BATCH):
        if batch["joints_3d_weight"][i]:
            ours, true = joints[i] - joints[i, 0], batch["joints_3d"][i] - batch["joints_3d"][i, 0]
            terms["joints_3d"].append(np.mean((ours - true) ** 2))
        points = np.concatenate([joints[i], np.asarray(head_top)[[i]]])
        true = np.concatenate([batch["joints_2d"][i], batch["head_top"][[i]]])
        weights = np.append(batch["joints_2d_weight"][i], batch["head_top_weight"][i])
        squares = (projected(points, prediction.camera[i]) - true) ** 2
        terms["joints_2d"].append(np.sum(squares * weights[:, None]) / 48)
        if batch["pose_weight"][i]:
            difference = np.asarray(prediction.rotations[i], np.float64) - batch["rotations"][i]
            terms["pose"].append(np.mean(difference**2))
            terms["shape"].append(
                np.mean((np.asarray(prediction.betas[i], np.float64) - batch["betas"][i]) ** 2)
            )
        terms["camera"].append(np.exp(-10 * np.float64(prediction.camera[i, 0])) ** 2)
        if batch["parts_weight"][i]:
            entropy = []
            for y in range(4):
                for x in range(4):
                    label = batch["part_labels"][i, 4 * y + 2, 4 * x + 2]
                    if label != 255:
                        z = logits[i, y, x]
                        entropy.append(np.log(np.exp(z).sum()) - z[label])
            terms["parts"].append(np.mean(entropy))
    return {name: WEIGHTS[name] * np.mean(values) for name, values in terms.items()}


def test_terms_match_the_definitions(case):
    prediction, joints, head_top, batch = case
    total, terms = losses.total_loss(prediction, joints, head_top, batch, WEIGHTS)
    wanted = reference(prediction, joints, head_top, batch)
    for name, value in wanted.items():
        np.testing.assert_allclose(terms[name], value, rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(total, sum(wanted.values()), rtol=2e-5)


def test_terms_of_parts_add_up_to_those_of_the_batch(case):
    """Though the parts have different numbers of labels: one of them has none for some terms."""
    *predicted, batch = case
    whole = losses.total_loss(*predicted, batch, WEIGHTS)
    rows = [jax.tree.map(operator.itemgetter(slice(i, i + 1)), tuple(case)) for i in range(BATCH)]
    stacked = {name: value[:, None] for name, value in batch.items()}
    shares = losses.shares(stacked, WEIGHTS)
    parts = [
        losses.total_loss(*row, {name: WEIGHTS[name] * shares[name][i] for name in WEIGHTS})
        for i, row in enumerate(rows)
    ]
    jax.tree.map(
        lambda total, *each: np.testing.assert_allclose(sum(each), total, rtol=1e-5), whole, *parts
    )


ABSOLUTE = {"joints_l1": 10.0, "pose_l1": 2.0, "points_2d": 5.0}


def test_absolute_terms_match_the_definitions(case):
    prediction, joints, head_top, batch = case
    rng = np.random.default_rng(4)
    points = rng.normal(0, 0.4, (BATCH, 7, 3)).astype(np.float32)
    batch |= {
        "points_3d": rng.normal(0, 0.4, (BATCH, 7, 3)).astype(np.float32),
        "points_2d": rng.normal(0, 0.6, (BATCH, 7, 2)).astype(np.float32),
        "keypoints": rng.integers(0, 2, (BATCH, 7, 5)).astype(np.float32),
    }
    total, terms = losses.total_loss(prediction, joints, head_top, batch, ABSOLUTE, points)
    root = np.asarray(joints, np.float64)[:, :1]
    distance = [
        np.mean(np.abs(joints[i] - root[i] - batch["joints_3d"][i]))
        + np.mean(np.abs(points[i] - root[i] - batch["points_3d"][i]))
        for i in range(BATCH)
        if batch["joints_3d_weight"][i]
    ]
    turns = [
        np.mean(np.abs(np.asarray(prediction.rotations[i], np.float64) - batch["rotations"][i]))
        for i in range(BATCH)
        if batch["pose_weight"][i]
    ]
    missed = []
    for i in range(BATCH):
        pixels = projected(points[i], prediction.camera[i])
        for point, pixel in enumerate(pixels):
            true, seen = batch["points_2d"][i, point], batch["keypoints"][i, point, 2] > 0
            far = 1 + np.abs(true).max() ** 2
            missed.append(min(np.linalg.norm(pixel - true), 1) * (1.5 if seen else 0.5) / far)
    wanted = {"joints_l1": distance, "pose_l1": turns, "points_2d": missed}
    for name, values in wanted.items():
        np.testing.assert_allclose(
            terms[name], ABSOLUTE[name] * np.mean(values), rtol=1e-4, err_msg=name
        )
    np.testing.assert_allclose(total, sum(terms.values()), rtol=1e-5)


def test_the_term_of_keypoints_matches_the_definition(case):
    prediction, joints, head_top, batch = case
    rng = np.random.default_rng(5)
    points = rng.normal(0, 0.4, (BATCH, 41, 3)).astype(np.float32)
    weight = rng.uniform(0, 1, (BATCH, 41)) * rng.integers(0, 2, (BATCH, 41))
    weight[2] = 0  # a person without keypoints does not count
    batch |= {
        "points_2d": rng.normal(0, 0.6, (BATCH, 41, 2)).astype(np.float32),
        "points_2d_weight": weight.astype(np.float32),
    }
    total, _ = losses.total_loss(prediction, joints, head_top, batch, {"keypoints_2d": 3.0}, points)
    people = []
    for i in (0, 1, 3, 4):
        missed = projected(points[i], prediction.camera[i]) - batch["points_2d"][i]
        people.append(np.average(np.minimum((missed**2).sum(-1), 1) / 2, weights=weight[i]))
    np.testing.assert_allclose(total, 3 * np.mean(people), rtol=2e-5)
    with pytest.raises(ValueError, match="keypoints_2d"):
        losses.total_loss(prediction, joints, head_top, batch, {"keypoints_2d": 3.0})


def test_unknown_joints_and_rotations_do_not_count(case):
    prediction, joints, head_top, batch = case
    known = np.ones((BATCH, 24), np.float32)
    whole = losses.total_loss(prediction, joints, head_top, batch, WEIGHTS)
    masks = {"joints_3d_known": known, "rotations_known": known}
    same = losses.total_loss(prediction, joints, head_top, batch | masks, WEIGHTS)
    np.testing.assert_array_equal(same[0], whole[0])
    known = known.copy()
    known[:, 5:] = 0
    masks = {"joints_3d_known": known, "rotations_known": known}
    batch["joints_3d"][:, 5:] = batch["rotations"][:, 5:] = 1e3
    _, terms = losses.total_loss(prediction, joints, head_top, batch | masks, WEIGHTS)
    first = batch["pose_weight"] > 0
    difference = np.asarray(prediction.rotations)[first, :5] - batch["rotations"][first, :5]
    wanted = 60 * np.mean(difference**2) * 5 / 24
    np.testing.assert_allclose(terms["pose"], wanted, rtol=1e-5)
    assert terms["joints_3d"] < whole[1]["joints_3d"]


def test_without_a_pelvis_joints_are_compared_about_their_mean(case):
    prediction, joints, head_top, batch = case
    known = np.ones((BATCH, 24), np.float32)
    known[:, :4] = 0
    batch |= {"joints_3d_known": known, "joints_3d": np.add(joints, [0.1, -0.2, 3.0])}
    batch["joints_3d"][:, 0] = 7.0
    weights = {"joints_3d": 1.0}
    total, _ = losses.total_loss(prediction, joints, head_top, batch, weights)
    assert total < 1e-9
    known[:, 0] = 1
    total, _ = losses.total_loss(prediction, joints, head_top, batch, weights)
    assert total > 1


def test_every_term_has_its_definition_here_and_reads_known_labels():
    assert {*WEIGHTS, *ABSOLUTE, "keypoints_2d"} == losses.TERMS.keys()
    assert set(losses.fields_to_read()) <= BATCH_FIELDS.keys()


def test_a_term_without_a_weight_is_not_computed(case):
    prediction, joints, head_top, batch = case
    total, terms = losses.total_loss(prediction, joints, head_top, batch, {"pose": 2.0})
    assert terms.keys() == {"pose"}
    assert total == terms["pose"]


def pare_loss(prediction, joints, batch):
    """PARE's loss, term by term as its code averages and weighs them, float64.

    Its 2D term has 49 joints. The first 25 weigh nothing; ours stand for the 24 others. A batch is
    averaged over all samples there, over those with the label in the other terms.
    """
    joints, known = np.asarray(joints, np.float64), batch["joints_3d_weight"] > 0
    camera = np.asarray(prediction.camera, np.float64)
    pixels = np.stack([projected(j, c) for j, c in zip(joints, camera, strict=True)])
    squares = batch["joints_2d_weight"][..., None] * (pixels - batch["joints_2d"]) ** 2
    padded = np.concatenate([np.zeros((len(joints), 25, 2)), squares], axis=1)
    about_root = (points - points[:, :1] for points in (joints[known], batch["joints_3d"][known]))
    difference_3d = np.subtract(*about_root)
    fitted = batch["pose_weight"] > 0
    rotations = np.asarray(prediction.rotations, np.float64)[fitted] - batch["rotations"][fitted]
    betas = np.asarray(prediction.betas, np.float64)[fitted] - batch["betas"][fitted]
    # It interpolates the scores, whose corners lie on the corner pixels' centres, at every label.
    labels, logits = batch["part_labels"], np.asarray(prediction.part_logits, np.float64)
    scores = np.empty((*labels.shape, 25))
    row, column = np.meshgrid(*[(4 * np.arange(16) + 1.5) * 3 / 63] * 2, indexing="ij")
    for sample in range(len(labels)):
        for part in range(25):
            scores[sample, ..., part] = map_coordinates(
                logits[sample, ..., part], [row, column], order=1
            )
    supervised = batch["parts_weight"] > 0
    picked = np.take_along_axis(scores, labels[..., None].astype(int), -1)[..., 0]
    entropy = (np.log(np.exp(scores).sum(-1)) - picked)[supervised]
    return 60 * (
        5 * padded.mean()
        + 5 * np.mean(difference_3d**2)
        + 1 * np.mean(rotations**2)
        + 0.001 * np.mean(betas**2)
        + np.mean(np.exp(-10 * camera[:, 0]) ** 2)
        + 1 * entropy.mean()
    )


def test_the_weights_of_configs_pare_give_pares_loss(case):
    prediction, joints, head_top, batch = case
    prediction = prediction.replace(align_corners=True)
    batch["head_top_weight"][:] = 0
    batch["part_labels"][batch["part_labels"] == 255] = 0
    weights = get_config().loss
    total, terms = losses.total_loss(prediction, joints, head_top, batch, weights)
    np.testing.assert_allclose(total, pare_loss(prediction, joints, batch), rtol=2e-5)
    # PARE also averages over the samples without 2D joints: its term shrinks with their share.
    batch["joints_2d_weight"][:3] = 0
    wanted = pare_loss(prediction, joints, batch)
    total, terms = losses.total_loss(prediction, joints, head_top, batch, weights)
    np.testing.assert_allclose(total - 3 / 5 * terms["joints_2d"], wanted, rtol=2e-5)


@pytest.mark.parametrize("cells", [56, 28, 7])
def test_maps_with_aligned_corners_are_read_where_the_labels_are(cells):
    """A map whose values are the places of its cells gives the places of the labels."""
    cell_pixels = np.linspace(0, 223, cells)
    label_pixels = 4 * np.arange(56) + 1.5
    weights = losses.label_weights(cells, 56)
    np.testing.assert_allclose(weights @ cell_pixels, label_pixels, atol=1e-4)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    # Reading each label in its own cell would be off by up to 1.5 pixels, of four that a cell has.
    if cells == 56:
        assert np.abs(cell_pixels - label_pixels).max() == pytest.approx(1.5)


def test_a_batch_without_labels_gives_zero_and_finite_gradients(case):
    prediction, joints, head_top, batch = case
    empty = {k: np.zeros_like(v) if k.endswith("weight") else v for k, v in batch.items()}
    empty["part_labels"] = np.full_like(batch["part_labels"], 255)

    def loss(joints, prediction):
        return losses.total_loss(prediction, joints, head_top, empty, {**WEIGHTS, "camera": 0.0})[0]

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(joints, prediction)
    assert value == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_a_batch_without_head_tops_has_the_loss_of_the_joints_to_the_bit(case):
    prediction, joints, head_top, batch = case
    batch["head_top_weight"][:] = 0
    batch["joints_2d_weight"][3] = 0
    translation = geometry.camera_translation(prediction.camera)
    squares = (geometry.project(joints, translation) - batch["joints_2d"]) ** 2
    per_sample = jnp.mean(batch["joints_2d_weight"][..., None] * squares, axis=(1, 2))
    wanted = jnp.sum(per_sample * np.float32([1, 1, 1, 0, 1])) / 4
    for top in (head_top, 100.0 * head_top):
        found = losses.joints_2d_loss(losses.Posed(prediction, joints, top), batch)
        assert float(found) == float(wanted)


def test_a_head_top_alone_makes_a_sample_count(case):
    prediction, joints, head_top, batch = case
    batch["joints_2d_weight"][:] = 0
    batch["head_top_weight"][:] = [0, 1, 0, 0, 0]
    squares = (projected(head_top[1:2], prediction.camera[1]) - batch["head_top"][1]) ** 2
    found = losses.joints_2d_loss(losses.Posed(prediction, joints, head_top), batch)
    np.testing.assert_allclose(found, squares.sum() / 48, rtol=1e-5)


def test_unlabelled_samples_do_not_dilute_the_others(case):
    prediction, _, _, batch = case
    only = batch["pose_weight"] > 0
    whole = losses.squared_error(prediction.rotations, batch["rotations"], batch["pose_weight"])
    part = losses.squared_error(
        prediction.rotations[only], batch["rotations"][only], np.ones(only.sum())
    )
    np.testing.assert_allclose(whole, part, rtol=1e-6)


def test_camera_prior_stays_finite_for_a_scale_far_below_zero():
    value, gradient = jax.value_and_grad(losses.camera_prior)(jnp.array([[-50.0, 0.0, 0.0]]))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_part_loss_without_part_maps_says_what_to_change(case):
    *_, batch = case
    with pytest.raises(ValueError, match=r"set loss\.parts to 0"):
        losses.part_cross_entropy(None, batch["part_labels"], batch["parts_weight"])
