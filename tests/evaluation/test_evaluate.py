"""Evaluation of a network that always predicts one body, on people made for it."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from scipy.spatial.transform import Rotation

from configs.common import get_base
from pare_jax import geometry, sharding
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.evaluation import evaluate, protocols, report, sample_errors
from pare_jax.evaluation.evaluate import Weights
from pare_jax.evaluation.protocols import TrueBodies
from pare_jax.evaluation.sequences import SampleName, SplitNames
from pare_jax.models import build_model
from pare_jax.models.prediction import Prediction
from tests.body.small_bodies import random_body_fields
from tests.evaluation.compilations import compiled_programs
from tests.fakes import IMAGE_SIZE, TINY_MODEL, fake_batch

BATCH = 8
CAMERA = np.array([0.9, 0.02, -0.05], np.float32)
POSE = Rotation.random(24, random_state=5).as_matrix().astype(np.float32)


class ConstantNetwork(nnx.Module):
    """Predicts the same pose for every image; NaN where the image is all white."""

    def __init__(self):
        self.rotations = nnx.Param(jnp.asarray(POSE))

    def __call__(self, images):
        white = jnp.min(images, axis=(1, 2, 3)) > 1.5
        betas = jnp.where(white[:, None], jnp.nan, jnp.zeros((len(images), 10)))
        rotations = jnp.broadcast_to(self.rotations[...], (len(images), 24, 3, 3))
        return Prediction(rotations, betas, jnp.tile(CAMERA, (len(images), 1)))


@pytest.fixture(scope="module")
def body():
    return load_body_model()


def make_setup(body, mean_joints):
    return evaluate.make_setup(get_base().eval, body, sharding.make_mesh()).with_baseline(
        mean_joints
    )


@pytest.fixture(scope="module")
def setup(body):
    mean_joints = np.zeros((24, 3), np.float32)
    mean_joints[:, 1] = 1.0  # an offset, which root alignment removes
    return make_setup(body, mean_joints)


GRAPHDEF, PARAMS, REST = nnx.split(ConstantNetwork(), nnx.Param, ...)
STEP = jax.jit(functools.partial(evaluate.eval_step, graphdef=GRAPHDEF))
WEIGHTS = Weights(PARAMS, REST, "last", 7)


def people(body, seed=0):
    """Make a batch whose labels are the network's own prediction."""
    batch = fake_batch(BATCH, seed)
    batch["image"] //= 2
    batch["rotations"] = np.broadcast_to(POSE, (BATCH, 24, 3, 3)).copy()
    batch["betas"] = np.zeros((BATCH, 10), np.float32)
    joints = np.asarray(body.joints(batch["betas"], batch["rotations"]))
    batch["joints_3d"] = joints - joints[:, :1]
    batch["head_size"][:] = 0
    return batch


def people_in_2d(body, seed=0, head_size=0.2):
    """Make a batch with the network's own 2D prediction as its only labels."""
    batch = people(body, seed)
    predicted = body(batch["betas"], batch["rotations"])
    highest = body.template[1].argmax()  # in the rest pose, y up
    points = jnp.concatenate([predicted.joints, predicted.vertices[:, highest, None]], axis=1)
    projected = geometry.project(points, geometry.camera_translation(jnp.tile(CAMERA, (BATCH, 1))))
    batch["joints_2d"] = np.array(projected[:, :24])
    batch["head_top"] = np.array(projected[:, 24])
    batch["head_size"][:] = head_size
    batch["joints_3d"][:] = 0
    for name in ("joints_3d_weight", "pose_weight", "betas_weight", "parts_weight"):
        batch[name][:] = 0
    return batch


def measure(setup, *batches):
    return evaluate.measure(STEP, WEIGHTS, setup, batches)


def draw(setup, batches, rows):
    return evaluate.draw(STEP, WEIGHTS, setup, batches, rows)


def write_results(folder, setup, errors, batches):
    """Write results of splits that have one batch each."""
    evals = {name: (lambda batch=batch: [batch]) for name, batch in batches.items()}
    return report.write_results(folder, STEP, WEIGHTS, setup, errors, evals)


def test_the_truth_has_no_error(setup, body):
    errors = measure(setup, people(body))
    for name in ("mpjpe", "pa_mpjpe", "pve", "mpjae", "pa_mpjae"):
        np.testing.assert_allclose(errors.values[name], 0.0, atol=0.05, err_msg=name)
    assert (errors.values["pck"] == 100.0).all()
    assert errors.labelled.all()


def test_errors_are_in_millimetres_and_the_mean_pose_is_root_aligned(setup, body):
    batch = people(body)
    batch["joints_3d"][3, 10] += [0.0, 0.24, 0.0]
    errors = measure(setup, batch)
    np.testing.assert_allclose(errors.per_joint[3, 10], 240.0, atol=0.05)
    np.testing.assert_allclose(errors.values["mpjpe"][3], 10.0, atol=0.05)
    lengths = 1000 * np.linalg.norm(batch["joints_3d"], axis=-1)
    np.testing.assert_allclose(errors.mean_pose_per_joint, lengths, rtol=1e-4, atol=0.05)


def test_an_unknown_mean_pose_is_reported_as_none(body, tmp_path):
    unknown = np.full((24, 3), np.nan, np.float32)
    setup = make_setup(body, unknown)
    batch = people(body)
    errors = {"some/split": measure(setup, batch)}

    found = write_results(tmp_path, setup, errors, {"some/split": batch})
    summary = found["splits"]["some/split"]
    assert summary["mpjpe"] < 1.0
    assert summary["mean_pose_mpjpe"] is None
    assert set(summary["mean_pose_per_joint_mpjpe"].values()) == {None}
    assert all(part["mean_pose_mpjpe"] is None for part in summary["by_hidden_share"])
    json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert "mean-pose" not in report.table(found["splits"])


def test_padding_is_left_out(setup, body):
    whole, part = people(body), people(body, 1)
    part["sample_weight"][3:] = 0
    part["joints_3d"][3:] += 5.0
    errors = measure(setup, whole, part)
    assert len(errors.values["mpjpe"]) == BATCH + 3
    assert errors.values["mpjpe"].max() < 1.0


def test_samples_without_a_label_are_not_measured(setup, body):
    batch = people(body)
    batch["joints_3d_weight"][0] = 0
    batch["pose_weight"][1] = 0
    batch["betas_weight"][2] = 0
    batch["visible_weight"][4] = 0
    batch["visible_weight"][5, [3, 20]] = 0
    errors = measure(setup, batch)
    assert list(np.flatnonzero(np.isnan(errors.values["mpjpe"]))) == [0]
    assert list(np.flatnonzero(np.isnan(errors.values["mpjae"]))) == [0, 1]
    assert list(np.flatnonzero(np.isnan(errors.values["pve"]))) == [0, 1, 2]
    assert list(np.flatnonzero(np.isnan(errors.visible).all(1))) == [4]
    assert list(np.flatnonzero(np.isnan(errors.visible[5]))) == [3, 20]
    assert not np.isnan(errors.visible[[0, 1, 2, 3, 6, 7]]).any()
    assert report.summarise(errors)["count"] == BATCH - 1
    assert report.summarise(errors)["non_finite"] == 0


def test_visible_and_hidden_joints_have_their_own_means(setup, body):
    batch = people(body)
    batch["visible"][:] = 1
    batch["visible"][:, 20] = 0
    batch["joints_3d"][:, 20] += [0.1, 0.0, 0.0]
    summary = report.summarise(measure(setup, batch))
    assert summary["occluded"]["joints"] == BATCH
    assert summary["visible"]["joints"] == 23 * BATCH
    np.testing.assert_allclose(summary["occluded"]["mpjpe"], 100.0, atol=0.05)
    np.testing.assert_allclose(summary["visible"]["mpjpe"], 0.0, atol=0.05)
    np.testing.assert_allclose(summary["per_joint_mpjpe"]["left_wrist"], 100.0, atol=0.05)


def test_predictions_that_are_not_finite_are_counted_and_reported(setup, body):
    batch = people(body)
    batch["image"][:2] = 255
    summary = report.summarise(measure(setup, batch))
    assert summary["count"] == BATCH - 2
    assert summary["non_finite"] == 2
    assert summary["mpjpe"] < 1.0
    assert "2 of some/split" in report.table({"some/split": summary})
    batch["image"][:] = 255
    with pytest.raises(UserError, match="not finite"):
        measure(setup, batch)


def test_a_split_without_joints_is_refused(setup, body):
    batch = people(body)
    for name in ("joints_3d_weight", "joints_2d_weight", "head_top_weight"):
        batch[name][:] = 0
    with pytest.raises(UserError, match="3D joints"):
        measure(setup, batch)
    with pytest.raises(UserError, match="3D joints"):
        measure(setup)


def test_a_split_with_2d_joints_alone_gets_its_pckh(setup, body):
    batch = people_in_2d(body)
    batch["joints_2d"][0, 7] += [0.0, 0.11]  # more than half of 0.2
    batch["joints_2d"][0, 8] += [0.09, 0.0]
    batch["joints_2d"][0, 15] += 1.0  # SMPL's head, which MPII does not annotate
    batch["joints_2d_weight"][1] = 0
    batch["head_top_weight"][1] = 0
    batch["joints_2d_weight"][1, 20] = 1
    batch["head_top"][3] += [0.11, 0.0]
    batch["head_top_weight"][4] = 0
    batch["joints_2d"][1, 20] -= 0.1
    batch["head_size"][2] = 0
    errors = measure(setup, batch)
    shares = errors.values["pckh"][[0, 1, 3]]
    np.testing.assert_allclose(shares, [1300 / 14, 0, 1300 / 14], rtol=1e-5)
    assert list(np.flatnonzero(np.isnan(errors.values["pckh"]))) == [2]
    summary = report.summarise(errors)
    assert summary["count"] == BATCH - 1
    assert summary["non_finite"] == 0
    # All people's points together: five people have 14, two of these wrong; one has 13 right; one
    # has a single wrong one.
    assert summary["pckh"] == pytest.approx(100 * (5 * 14 + 13 - 2) / (5 * 14 + 13 + 1), rel=1e-5)
    groups = summary["pckh_groups"]
    assert groups["Total"] == summary["pckh"]
    # The mean of a pair's two shares: six necks, all right; five head tops, one of them wrong.
    assert groups["Head"] == pytest.approx((100 + 80) / 2)
    assert groups["Ankle"] == pytest.approx((100 * 5 / 6 + 100) / 2)
    assert groups["Wrist"] == pytest.approx((100 * 6 / 7 + 100) / 2)
    assert groups["Knee"] == groups["Hip"] == groups["Elbow"] == groups["Shoulder"] == 100
    assert summary["per_joint_pckh"]["head_top"] == pytest.approx(80)
    assert "pelvis" not in summary["per_joint_pckh"]
    for name in ("mpjpe", "pa_mpjpe", "pve", "pck", "mpjae", "mean_pose_mpjpe"):
        assert summary[name] is None


def test_2d_predictions_that_are_not_finite_are_misses(setup, body):
    batch = people_in_2d(body)
    batch["image"][:3] = 255
    batch["head_size"][3] = 0
    summary = report.summarise(measure(setup, batch))
    assert (summary["count"], summary["non_finite"]) == (BATCH - 1, 3)
    assert summary["pckh"] == pytest.approx(100 * (BATCH - 4) / (BATCH - 1))
    assert summary["per_joint_pckh"]["head_top"] == pytest.approx(summary["pckh"])
    text = report.table({"some/pictures": summary})
    assert "3 of some/pictures" in text
    assert "missed" in text
    assert "skipped" not in text
    batch["image"][:] = 255
    with pytest.raises(UserError, match="not finite"):
        measure(setup, batch)


def test_2d_joints_without_a_heads_size_are_scored_by_the_box(setup, body, tmp_path):
    """An own dataset may have nothing else."""
    batch = people_in_2d(body, head_size=0)
    longer = np.ptp(batch["joints_2d"], axis=1).max(-1)
    batch["head_top_weight"][:] = 0
    batch["joints_2d"][0, 20] += [0.0, 0.11 * longer[0]]
    batch["joints_2d"][1, 20] += [0.0, 0.09 * longer[1]]
    batch["image"][2] = 255  # the prediction is NaN: a miss
    batch["joints_2d_weight"][3, 1:] = 0  # one joint has no box
    errors = {"own/pictures": measure(setup, batch)}
    found = write_results(tmp_path, setup, errors, {"own/pictures": batch})
    summary = found["splits"]["own/pictures"]
    expected = [100 * 23 / 24, 100, 0, *[100] * (BATCH - 4)]
    assert summary["pck_2d"] == pytest.approx(np.mean(expected))
    assert (summary["count"], summary["non_finite"]) == (BATCH - 1, 1)
    assert summary["pckh"] is None
    assert summary["mpjpe"] is None
    assert (tmp_path / "own_pictures_worst.png").exists()
    text = report.table(found["splits"])
    assert "PCK@0.1 2D" in text.splitlines()[0]
    assert "1 of own/pictures" in text
    # Where people have a head's length, PCKh alone counts.
    batch["head_size"][5] = 0.2
    assert report.summarise(measure(setup, batch))["pck_2d"] is None


def test_one_report_has_3d_and_2d_splits(setup, body, tmp_path):
    batches = {"some/people": people(body), "some/pictures": people_in_2d(body)}
    batches["some/pictures"]["joints_2d"][:4, 20] += 1.0
    errors = {name: measure(setup, batch) for name, batch in batches.items()}

    found = write_results(tmp_path, setup, errors, batches)
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    drawn = {path.name for path in tmp_path.glob("some_pictures_*.png")}
    assert drawn == {"some_pictures_median.png", "some_pictures_worst.png"}
    assert (tmp_path / "some_people_per_joint.png").exists()
    text = report.table(found["splits"])
    lines = [line.split() for line in text.splitlines()]
    headings = ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Total"]
    assert ["PCKh@0.5", "%", *headings] in lines
    assert ["some/pictures", *["100.0"] * 3, "75.0", *["100.0"] * 3, "96.4"] in lines
    header, *rows = text.partition("\n\n")[0].splitlines()
    assert "MPJPE mm" in header
    assert "PCKh@0.5" in header
    (row,) = (row.split() for row in rows if "some/pictures" in row)
    assert row == ["some/pictures", "8", *7 * "-", "96.4", "-", "-"]
    alone = report.table({"some/pictures": found["splits"]["some/pictures"]})
    assert "MPJPE mm" not in alone.splitlines()[0]
    without = report.table({"some/people": found["splits"]["some/people"]})
    assert "PCKh" not in without
    assert found["splits"]["some/people"]["pckh_groups"] is None


def test_results_hold_the_errors_and_are_the_same_twice(setup, body, tmp_path):
    batch = people(body)
    batch["joints_3d"][:, 15] += np.linspace(0, 0.3, BATCH)[:, None]
    errors = {"some/split": measure(setup, batch)}

    passes = []

    def one_pass():
        passes.append(1)
        return [batch]

    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        found = report.write_results(folder, STEP, WEIGHTS, setup, errors, {"some/split": one_pass})
        # One pass over the split serves both sheets.
        assert len(passes) == 1
        passes.clear()
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
        assert json.loads((folder / "metrics.json").read_text()) == found
    assert written[0] == written[1]
    kinds = ("per_joint", "occlusion", "median", "worst")
    assert set(written[0]) == {"metrics.json", *(f"some_split_{kind}.png" for kind in kinds)}
    assert found["step"] == 7
    assert found["weights"] == "last"
    head = found["splits"]["some/split"]["per_joint_mpjpe"]["head"]
    expected = 1000 * np.sqrt(3) * 0.15
    np.testing.assert_allclose(head, expected, rtol=1e-3)


def test_only_figures_of_earlier_evaluations_are_removed(setup, body, tmp_path):
    batch = people_in_2d(body)
    errors = measure(setup, batch)

    mine = {"notes.txt", "my_plot.png", "worst.png"}
    earlier = {"pw3d_test_worst.png", "old_split_per_joint.png", "a_b_occlusion.png"}
    for name in mine | earlier:
        (tmp_path / name).write_text("earlier")
    for split in ("a/b", "c/d"):
        write_results(tmp_path, setup, {split: errors}, {split: batch})
        prefix = split.replace("/", "_")
        figures = {f"{prefix}_median.png", f"{prefix}_worst.png"}
        assert {path.name for path in tmp_path.iterdir()} == mine | figures | {"metrics.json"}


def test_drawn_samples_are_at_the_given_rows(setup, body):
    batches = [people(body, 0), people(body, 1)]
    drawn = draw(setup, batches, [9, 2])
    assert [one.index for one in drawn] == [9, 2]
    np.testing.assert_array_equal(drawn[0].image, batches[1]["image"][1])
    assert drawn[1].vertices.shape == (body.template.shape[-1], 3)
    assert drawn[0].image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    assert drawn[0].attention is None


def test_drawing_closes_the_stream_of_batches(setup, body):
    batch = people(body)

    class Stream:
        def __init__(self, batches):
            self.batches, self.closed = iter(batches), False

        def __iter__(self):
            return self.batches

        def close(self):
            self.closed = True

    found = Stream([batch, batch])
    assert len(draw(setup, found, [0])) == 1
    assert len(list(found.batches)) == 1
    broken = Stream([None])
    with pytest.raises(TypeError):
        draw(setup, broken, [0])
    assert found.closed
    assert broken.closed


def test_sequences_have_the_means_over_people(setup, body):
    """PCKh is missing, because a split's is the share of all points, not a mean over people."""
    errors = measure(setup, people_in_2d(body) | {"joints_3d_weight": np.ones(BATCH)})
    names = SplitNames([SampleName(f"walk {n // 4}", 0, n % 4) for n in range(BATCH)])
    summary = report.summarise(errors, names)
    assert summary["pckh"] == 100
    assert summary["sequences"]["walk 0"]["mpjpe"] == pytest.approx(
        errors.values["mpjpe"][:4].mean()
    )
    assert all("pckh" not in entry for entry in summary["sequences"].values())


def test_an_error_of_one_of_several_splits_names_the_split(setup, body):
    empty = people(body)
    for name in ("joints_3d_weight", "joints_2d_weight", "head_top_weight"):
        empty[name][:] = 0
    evals = {"good/test": lambda: [people(body)], "empty/test": lambda: [empty]}
    with pytest.raises(UserError, match=r"^empty/test: "):
        evaluate.measure_splits(STEP, WEIGHTS, setup, evals)


def test_several_batches_and_drawings_compile_two_programs(setup, body):
    fresh = jax.jit(functools.partial(evaluate.eval_step, graphdef=GRAPHDEF))
    network = (fresh, WEIGHTS, setup)
    batch = people(body)
    # A batch of another size: other tests have compiled the metrics of theirs.
    batches = [{name: value[:6] for name, value in batch.items()}] * 3
    with compiled_programs() as names:
        evaluate.measure_splits(*network, {"a/b": lambda: batches, "c/d": lambda: batches})
        evaluate.draw(*network, batches, [1, 7])
        evaluate.panels(*network, batches, 2, ("head",))
    assert sorted(names) == ["batch_errors", "eval_step"]


def test_smpl_sized_bodies_are_arguments_of_both_programs(tmp_path):
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **random_body_fields(vertices=6890))
    body = load_body_model(tmp_path / "SMPL_NEUTRAL.npz")
    protocol, truth = protocols.j14(np.ones((17, 6890))), TrueBodies((body, body, body))
    model = build_model(ConfigDict(TINY_MODEL), rngs=nnx.Rngs(0))
    model.eval()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    step = jax.jit(functools.partial(evaluate.eval_step, graphdef=graphdef))
    batch = fake_batch(2)
    image = {"image": batch["image"]}
    lowered = step.lower(params, rest, body, image)
    assert len(lowered.as_text()) < 1_000_000
    outputs = jax.eval_shape(step, params, rest, body, image)
    labels = {name: batch[name] for name in sample_errors.LABELS}
    lowered = sample_errors.batch_errors.lower(outputs, labels, protocol, truth, np.zeros((24, 3)))
    assert len(lowered.as_text()) < 1_000_000
