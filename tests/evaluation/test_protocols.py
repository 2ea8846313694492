"""Compares protocols with float64 bodies and metrics written from the definitions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.common import get_base
from pare_jax import sharding, skeleton
from pare_jax.body.io import GENDERS
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.evaluation import evaluate, protocols, report
from pare_jax.models.prediction import Prediction
from pare_jax.training import config as config_lib
from tests.body.small_bodies import random_body_fields, random_pose, reference_body
from tests.evaluation.compilations import compiled_programs
from tests.evaluation.metric_references import (
    reference_auc,
    reference_errors,
    reference_pa_mpjpe,
)
from tests.fakes import fake_batch

BATCH = 16
TOLERANCE = 1e-3
BETAS, _, POSE = random_pose(np.random.default_rng(3))
J14_ROWS = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]


class ConstantNetwork(nnx.Module):
    """Predicts the same body for every image."""

    def __init__(self):
        self.rotations = nnx.Param(jnp.asarray(POSE, jnp.float32))
        self.betas = nnx.Param(jnp.asarray(BETAS, jnp.float32))

    def __call__(self, images):
        count = len(images)
        rotations = jnp.broadcast_to(self.rotations[...], (count, 24, 3, 3))
        betas = jnp.broadcast_to(self.betas[...], (count, 10))
        return Prediction(rotations, betas, jnp.tile(jnp.array([0.9, 0, 0]), (count, 1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three bodies and a regressor, each with 60 vertices."""
    folder = tmp_path_factory.mktemp("bodies")
    for seed, name in enumerate(("SMPL_NEUTRAL", "SMPL_MALE", "basicModel_f_lbs_v1.0.0")):
        np.savez(folder / f"{name}.npz", **random_body_fields(seed))
    weights = np.random.default_rng(9).random((17, 60)) ** 30
    np.save(folder / "J_regressor_h36m.npy", weights / weights.sum(1, keepdims=True))
    return folder


@pytest.fixture
def config(folder):
    config = get_base()
    config.body_model = str(folder / "SMPL_NEUTRAL.npz")
    config.eval.protocol = "j14"
    config.eval.joint_regressor = str(folder / "J_regressor_h36m.npy")
    config.eval.bodies = str(folder)
    return config


@pytest.fixture(scope="module")
def people():
    """A batch with people of all three genders."""
    rng = np.random.default_rng(11)
    batch = fake_batch(BATCH, 4)
    betas, _, rotations = random_pose(rng, BATCH)
    batch["betas"], batch["rotations"] = betas.astype(np.float32), rotations.astype(np.float32)
    batch["gender"] = (np.arange(BATCH) % 3).astype(np.int32)
    return batch


GRAPHDEF, PARAMS, REST = nnx.split(ConstantNetwork(), nnx.Param, ...)
STEP = jax.jit(functools.partial(evaluate.eval_step, graphdef=GRAPHDEF))


def make_setup(config):
    body = load_body_model(config.body_model)
    mesh = sharding.make_mesh()
    return evaluate.make_setup(config.eval, body, mesh).with_baseline(np.zeros((24, 3), np.float32))


def measure(setup, *batches):
    return evaluate.measure(STEP, evaluate.Weights(PARAMS, REST, "last", 1), setup, batches)


def posed(batch, gender_of=lambda gender: gender):
    """True and predicted vertices and joints, (B, ...) float64, from the formulas."""
    truth = [
        reference_body(
            random_body_fields(gender_of(gender)),
            betas.astype(np.float64),
            rotations.astype(np.float64),
        )
        for betas, rotations, gender in zip(
            batch["betas"], batch["rotations"], batch["gender"], strict=True
        )
    ]
    true_vertices, true_joints = (np.stack(part) for part in zip(*truth, strict=True))
    vertices, joints = reference_body(random_body_fields(0), BETAS, POSE)
    return (true_vertices, true_joints), (
        np.broadcast_to(vertices, true_vertices.shape),
        np.broadcast_to(joints, true_joints.shape),
    )


def test_regressor_rows_are_those_of_other_projects():
    names = [skeleton.H36M_NAMES[row] for row in J14_ROWS]
    assert names == list(skeleton.J14_NAMES)
    assert names[:3] == ["right_ankle", "right_knee", "right_hip"]
    limbs = [skeleton.J14_NAMES[joint] for joint in protocols.j14(np.zeros((17, 3))).pck_joints]
    assert limbs == [skeleton.JOINT_NAMES[joint] for joint in skeleton.PCK_JOINTS]


def test_j14_agrees_with_float64(config, folder, people):
    errors = measure(make_setup(config), people)
    regressor = np.load(folder / "J_regressor_h36m.npy")
    (true_vertices, _), (vertices, _) = posed(people)
    true, pred = regressor @ true_vertices, regressor @ vertices
    # The root is the pelvis, row 0 of the regressor, which is not one of the fourteen.
    true_root, root = true[:, :1], pred[:, :1]
    true, pred = true[:, J14_ROWS] - true_root, pred[:, J14_ROWS] - root
    per_joint = reference_errors(pred, true, root=None)
    limbs = per_joint[:, [skeleton.J14_NAMES.index(n) for n in skeleton.J14_NAMES[:12]]]
    pve = 1000 * np.linalg.norm((vertices - root) - (true_vertices - true_root), axis=-1).mean(-1)

    np.testing.assert_allclose(errors.per_joint, per_joint, atol=TOLERANCE, rtol=0)
    expected = {
        "mpjpe": per_joint.mean(-1),
        "pa_mpjpe": reference_pa_mpjpe(pred, true),
        "pve": pve,
        "pck": 100 * (limbs <= 50).mean(-1),
        "auc": 100 * reference_auc(limbs),
        # PARE's code compares the vertices as the body model returns them.
        "v2v": 1000 * np.linalg.norm(vertices - true_vertices, axis=-1).mean(-1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(errors.values[name], values, atol=TOLERANCE, err_msg=name)
    # The mean of the fourteen joints is unknown, so there is no mean-pose baseline.
    summary = report.summarise(errors)
    assert summary["mean_pose_mpjpe"] is None
    assert list(summary["per_joint_mpjpe"]) == list(skeleton.J14_NAMES)
    assert summary["protocol"] == "j14"
    table = report.table({"pw3d/test": summary})
    assert "j14" in table
    # Both errors of vertices stand in the table, and differ.
    assert "PVE mm  V2V mm" in table
    assert abs(summary["v2v"] - summary["pve"]) > 1


def test_smpl24_compares_with_the_labels_and_the_mesh_of_the_gender(config, people):
    config.eval.protocol = "smpl24"
    errors = measure(make_setup(config), people)
    (true_vertices, true_joints), (vertices, joints) = posed(people)
    mpjpe = reference_errors(joints, people["joints_3d"].astype(np.float64)).mean(-1)
    pve = (vertices - joints[:, :1]) - (true_vertices - true_joints[:, :1])
    pve = 1000 * np.linalg.norm(pve, axis=-1).mean(-1)

    np.testing.assert_allclose(errors.values["mpjpe"], mpjpe, atol=TOLERANCE)
    np.testing.assert_allclose(errors.values["pve"], pve, atol=TOLERANCE)
    # V2V belongs to PARE's protocol.
    summary = report.summarise(errors)
    assert summary["v2v"] is None
    assert "V2V" not in report.table({"pw3d/test": summary})
    assert errors.truth_body == {
        "neutral": "SMPL_NEUTRAL",
        "male": "SMPL_MALE",
        "female": "basicModel_f_lbs_v1.0.0",
    }
    assert errors.gendered_truth is True
    assert "neutral body" not in report.table({"pw3d/test": report.summarise(errors)})


def test_a_batch_of_one_gender_is_posed_by_its_body_alone():
    two = load_body_model().only([0, 1])
    bodies = [dataclasses.replace(two, template=two.template + number) for number in range(3)]
    truth = protocols.TrueBodies(tuple(bodies))
    betas, rotations = np.zeros((2, 10), np.float32), np.tile(np.eye(3), (2, 24, 1, 1))
    # Whoever has no body of their own has the neutral one.
    for genders, number in (([2, 2], 2), ([1, 1], 1), ([0, 0], 0), ([7, 7], 0)):
        posed = truth(betas, rotations, np.array(genders))
        np.testing.assert_array_equal(posed.vertices, bodies[number](betas, rotations).vertices)


@pytest.mark.parametrize("protocol", protocols.NAMES)
def test_labels_posed_with_a_neutral_body_are_reported_in_one_line(config, people, protocol):
    config.eval.protocol, config.eval.bodies = protocol, ""
    errors = measure(make_setup(config), people)
    (true_vertices, true_joints), (vertices, joints) = posed(people, lambda gender: 0)
    if protocol == "smpl24":
        pve = (vertices - joints[:, :1]) - (true_vertices - true_joints[:, :1])
        pve = 1000 * np.linalg.norm(pve, axis=-1).mean(-1)
        np.testing.assert_allclose(errors.values["pve"], pve, atol=TOLERANCE)
    summary = report.summarise(errors)
    assert summary["truth_body"] == dict.fromkeys(GENDERS, "SMPL_NEUTRAL")
    assert summary["gendered_truth"] is False
    lines = report.table({"pw3d/test": summary}).splitlines()
    (line,) = [line for line in lines if "neutral body SMPL_NEUTRAL" in line]
    assert "male and female" in line
    assert "config.eval.bodies" in line

    neutral = people | {"gender": np.zeros(BATCH, np.int32)}
    summary = report.summarise(measure(make_setup(config), neutral))
    # Nobody's labels have a body that could be gendered.
    assert summary["gendered_truth"] is None
    assert "neutral body" not in report.table({"synthetic/test": summary})


def test_samples_without_pose_or_shape_are_not_measured_by_j14(config, people):
    batch = {name: value.copy() for name, value in people.items()}
    batch["pose_weight"][0] = 0
    batch["betas_weight"][1] = 0
    batch["joints_3d_weight"][2] = 0
    errors = measure(make_setup(config), batch)
    assert list(np.flatnonzero(~errors.labelled)) == [0, 1]
    assert list(np.flatnonzero(np.isnan(errors.values["mpjpe"]))) == [0, 1]


def test_one_program_serves_every_gender(config, people):
    setup = make_setup(config)
    with compiled_programs() as names:
        for gender in (0, 1, 2):
            measure(setup, people | {"gender": np.full(BATCH, gender, np.int32)})
    assert sorted(names) in ([], ["batch_errors"], ["batch_errors", "eval_step"])


def test_predictions_are_the_same_by_either_protocol(config, people):
    found = []
    for name in protocols.NAMES:
        config.eval.protocol = name
        found.append(measure(make_setup(config), people).predictions)
    np.testing.assert_array_equal(found[0].joints, found[1].joints)
    _, joints = reference_body(random_body_fields(0), BETAS, POSE)
    np.testing.assert_allclose(found[0].joints[5], joints - joints[0], atol=1e-6)
    assert found[0].orientations.shape == (BATCH, 9, 3, 3)
    np.testing.assert_allclose(found[0].orientations[3, 0], POSE[0], atol=1e-6)


def broken_regressor(folder, kind):
    path = folder / f"{kind}.npy"
    good = np.ones((17, 60)) / 60
    contents = {
        "rows": good[:14],
        "vertices": np.ones((17, 6890)),
        "text": np.full((17, 60), "a"),
        "nan": good * np.nan,
    }
    if kind in contents:
        np.save(path, contents[kind])
    elif kind == "damaged":
        path.write_bytes(b"\x93NUMPY not really")
    elif kind == "archive":
        with path.open("wb") as file:
            np.savez(file, a=good)
    return path


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("missing", ["missing.npy"]),
        ("rows", ["rows.npy", "(14, 60)", "(17, vertices)"]),
        ("vertices", ["vertices.npy", "6890", "SMPL_NEUTRAL", "60"]),
        ("text", ["text.npy", "<U1"]),
        ("nan", ["nan.npy", "NaN"]),
        ("damaged", ["damaged.npy"]),
        ("archive", ["archive.npy"]),
    ],
)
def test_an_unusable_regressor_is_refused_in_one_line(config, tmp_path, kind, named):
    config.eval.joint_regressor = str(broken_regressor(tmp_path, kind))
    with pytest.raises(UserError) as caught:
        protocols.load(config.eval, load_body_model(config.body_model))
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in named)


def save_body(path, **settings):
    np.savez(path, **random_body_fields(**settings))


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (None, []),
        ({"SMPL_MALE.npz": 60}, ["no female", "SMPL_MALE.npz"]),
        ({"SMPL_NEUTRAL.npz": 60}, ["no male", "no female", "SMPL_NEUTRAL.npz"]),
        ({"SMPL_FEMALE.npz": 60, "male.npz": 60}, ["no male", "SMPL_FEMALE.npz"]),
        ({"SMPL_MALE.npz": 60, "SMPL_FEMALE.npz": 70}, ["SMPL_FEMALE.npz", "70", "60"]),
    ],
)
def test_unusable_bodies_are_refused_in_one_line(config, tmp_path, files, named):
    config.eval.bodies = str(tmp_path / "bodies")
    if files is not None:
        (tmp_path / "bodies").mkdir()
        for name, vertices in files.items():
            save_body(tmp_path / "bodies" / name, vertices=vertices)
    with pytest.raises(UserError) as caught:
        protocols.load(config.eval, load_body_model(config.body_model))
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    assert all(name in message for name in named)


def test_j14_without_a_regressor_is_refused_by_the_config(config):
    config.eval.joint_regressor = ""
    with pytest.raises(UserError, match=r"config\.eval\.joint_regressor"):
        config_lib.validate(config)


def test_usable_bodies_and_regressors_pass(config):
    config_lib.validate(config)
    body = load_body_model(config.body_model)
    protocols.load(config.eval, body)
    config.eval.bodies = ""
    protocols.load(config.eval, body)
