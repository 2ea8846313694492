"""Evaluates and exports a made-up dataset of sequences, and scores the files by definition."""

import functools
import json
import pickle
import pickletools
import shutil

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx
from scipy.spatial.transform import Rotation

from data_pipelines import datasets
from data_pipelines.reading import storage
from pare_jax import sharding
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.evaluation import challenge, evaluate, report
from pare_jax.evaluation.sample_errors import SplitPredictions
from pare_jax.evaluation.sequences import Extent, SampleName, SplitNames
from pare_jax.models import build_model
from pare_jax.skeleton import PARENTS
from tests.body.small_bodies import random_body_fields, random_pose, reference_body
from tests.data_pipelines.conftest import make_record
from tests.fakes import tiny_config

PARTS = [0, 1, 2, 4, 5, 16, 17, 18, 19]
SIZES = {"courtyard": (2, 5), "downtown": (2, 3)}
# (person, frame) pairs that the protocol skips.
SKIPPED = {"courtyard": {(0, 1), (0, 4), (1, 2)}, "downtown": {(1, 2)}}


def make_truth():
    """Make betas, rotations and joints of every person and frame by sequence, float64."""
    rng = np.random.default_rng(21)
    truth = {}
    for sequence, (people, frames) in SIZES.items():
        betas, _, rotations = random_pose(rng, people, frames)
        joints = np.empty((people, frames, 24, 3))
        for person in range(people):
            body = random_body_fields(1 + person)
            for frame in range(frames):
                at = person, frame
                joints[at] = reference_body(body, betas[at], rotations[at])[1]
        truth[sequence] = {"betas": betas, "rotations": rotations, "joints": joints}
    return truth


def make_records(truth):
    for sequence, (people, frames) in SIZES.items():
        for at in np.ndindex(people, frames):
            if at in SKIPPED[sequence]:
                continue
            joints = truth[sequence]["joints"][at]
            yield make_record(
                seed=at[1],
                joints_3d=(joints - joints[0]).astype(np.float32),
                rotations=truth[sequence]["rotations"][at].astype(np.float32),
                betas=truth[sequence]["betas"][at].astype(np.float32),
                gender=("male", "female")[at[0]],
                sequence=sequence,
                person=np.int32(at[0]),
                frame=np.int32(at[1]),
            )


class MadeUp(tfds.core.GeneratorBasedBuilder):
    """The dataset, written like any other."""

    name = "made_up"
    VERSION = tfds.core.Version(storage.VERSION)
    url_infos = {}  # noqa: RUF012

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=storage.stored_features(), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        pictures = (make_record(seed, sequence=f"picture {seed}") for seed in range(8))
        return {"train": enumerate(pictures), "test": enumerate(make_records(make_truth()))}

    def _generate_examples(self):
        """TFDS's base class requires this; the splits have their examples already."""
        return iter(())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    builder = MadeUp(data_dir=str(root), file_format="array_record")
    builder.download_and_prepare(download_dir=str(root / "downloads"))
    path = storage.find_dataset(root, "made_up")
    extents = {name: {"people": p, "frames": n, "fps": 30} for name, (p, n) in SIZES.items()}
    (path / storage.SEQUENCES_FILE).write_text(json.dumps({"test": extents}))
    return root


@pytest.fixture(scope="module")
def config(prepared, tmp_path_factory):
    bodies = tmp_path_factory.mktemp("bodies")
    for seed, name in enumerate(("NEUTRAL", "MALE", "FEMALE")):
        np.savez(bodies / f"SMPL_{name}.npz", **random_body_fields(seed))
    config = tiny_config()
    config.num_steps = 1
    config.model.name, config.loss.parts = "baseline", 0.0
    config.swa.start_epoch = -1.0
    config.data.root = str(prepared)
    config.data.train = (("made_up", 1.0),)
    config.data.eval = ("made_up/test",)
    config.body_model = str(bodies / "SMPL_NEUTRAL.npz")
    config.eval.bodies = str(bodies)
    config.eval.pictures = 0
    config.eval.export = True
    return config


@pytest.fixture(scope="module")
def evaluation(config, tmp_path_factory):
    """An untrained network, its setup and the data to evaluate it on."""
    data = datasets.load_held_out(config, tmp_path_factory.mktemp("statistics"), config)
    model = build_model(config.model, rngs=nnx.Rngs(0))
    model.eval()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    step = jax.jit(functools.partial(evaluate.eval_step, graphdef=graphdef))
    body = load_body_model(config.body_model)
    setup = evaluate.make_setup(config.eval, body, sharding.make_mesh()).with_baseline(
        data.mean_joints
    )
    return step, evaluate.Weights(params, rest, "last", 1), setup, data


def write_all(folder, evaluation, splits):
    """Evaluate, and write the results and the predictions of `splits`; returns the notes."""
    *network, data = evaluation
    errors = evaluate.measure_splits(*network, data.evals)
    report.write_results(folder, *network, errors, data.evals, data.eval_names)
    return challenge.export(folder / "res", splits, errors, data.eval_names)


@pytest.fixture(scope="module")
def folder(evaluation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "eval"
    *_, data = evaluation
    write_all(folder, evaluation, challenge.exportable(data.eval_names))
    return folder


def globals_of(rotations):
    composed = np.empty_like(rotations)
    for joint, parent in enumerate(PARENTS):
        local = rotations[..., joint, :, :]
        composed[..., joint, :, :] = local if parent < 0 else composed[..., parent, :, :] @ local
    return composed


def procrustes(pred, true):
    """Return the aligned prediction, the rotation and the centred truth (Umeyama 1991)."""
    p, t = pred - pred.mean(0), true - true.mean(0)
    u, values, vt = np.linalg.svd(t.T @ p / len(p))
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = np.trace(np.diag(values) @ sign) / p.var(0).sum()
    return scale * p @ rotation.T, rotation, t


def angles(pred, true):
    return np.degrees(Rotation.from_matrix(pred @ np.swapaxes(true, -1, -2)).magnitude())


def score(folder, truth):
    """Score exported files by the challenge's definitions, without this package's code."""
    by_sequence = {}
    for sequence, (people, frames) in SIZES.items():
        with (folder / f"{sequence}.pkl").open("rb") as file:
            exported = pickle.load(file)
        positions, turns = exported["jointPositions"], exported["orientations"]
        assert positions.shape == (people, frames, 24, 3)
        assert turns.shape == (people, frames, 9, 3, 3)
        rows = []
        for at in np.ndindex(people, frames):
            if at in SKIPPED[sequence]:
                assert not positions[at].any()
                assert (turns[at] == np.eye(3)).all()
                continue
            pred, true = positions[at].astype(np.float64), truth[sequence]["joints"][at]
            true_turns = globals_of(truth[sequence]["rotations"][at])[PARTS]
            pred_turns = turns[at].astype(np.float64)
            aligned, rotation, centred = procrustes(pred, true)
            moved = (pred - pred[0]) - (true - true[0])
            rows.append(
                {
                    "mpjpe": 1000 * np.linalg.norm(moved, axis=-1).mean(),
                    "pa_mpjpe": 1000 * np.linalg.norm(aligned - centred, axis=-1).mean(),
                    "mpjae": angles(pred_turns, true_turns).mean(),
                    "pa_mpjae": angles(rotation @ pred_turns, true_turns).mean(),
                }
            )
        by_sequence[sequence] = rows
    return by_sequence


def test_another_scorer_agrees_with_metrics_json(folder):
    ours = json.loads((folder / "metrics.json").read_text())["splits"]["made_up/test"]
    scores = score(folder / "res" / "test", make_truth())
    assert list(ours["sequences"]) == sorted(SIZES)
    everybody = [row for rows in scores.values() for row in rows]
    assert ours["count"] == len(everybody) == 12
    for found, rows in [(ours, everybody)] + [
        (ours["sequences"][name], rows) for name, rows in scores.items()
    ]:
        assert found["count"] == len(rows)
        for metric in rows[0]:
            mean = np.mean([row[metric] for row in rows])
            assert found[metric] == pytest.approx(mean, abs=1e-3), metric
    assert ours["truth_body"] == {"male": "SMPL_MALE", "female": "SMPL_FEMALE"}


def test_evaluating_twice_writes_the_same_bytes(folder, evaluation):
    def content():
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first = content()
    lines = write_all(folder, evaluation, ["made_up/test"])
    assert content() == first
    assert {"metrics.json", "courtyard.pkl", "downtown.pkl"} <= first.keys()
    assert "sequences.json" not in "".join(lines)


def test_an_evaluation_without_export_removes_the_exported_files(folder, evaluation, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "eval")
    assert write_all(copy, evaluation, []) == []
    assert not (copy / "res").exists()


def test_a_dataset_of_single_pictures_cannot_be_exported(config, tmp_path):
    other = config.copy_and_resolve_references()
    other.data.eval = ("made_up/train",)
    data = datasets.load_held_out(other, tmp_path, config)
    with pytest.raises(UserError, match="made_up/train") as caught:
        challenge.exportable(data.eval_names)
    assert "\n" not in str(caught.value)


def test_damaged_sequences_and_skipped_files_are_refused(prepared, tmp_path):
    source = storage.open_split(storage.find_dataset(prepared, "made_up"), "test")
    source.path = tmp_path
    assert source.names().extents == {}
    assert source.names().left_out == {}
    skipped = [
        {"what": "courtyard frame 1 person 0", "reason": "picture missing", "broken": True},
        {"what": "court frame yard frame 2 person 1", "reason": "person not detected"},
        {"what": "courtyard frame 3 person 0", "reason": "picture missing", "broken": True},
    ]
    (tmp_path / storage.SKIPPED_FILE).write_text(json.dumps({"test": {"skipped": skipped}}))
    assert source.names().left_out == {
        "courtyard": {"picture missing": 2},
        "court frame yard": {"person not detected": 1},
    }
    (tmp_path / storage.SKIPPED_FILE).write_text('{"test": {"skipped": [{}]}}')
    with pytest.raises(UserError, match=r"skipped\.json"):
        source.names()
    (tmp_path / storage.SKIPPED_FILE).unlink()
    for content in ("{", '{"test": {"courtyard": {"people": 2}}}', "[]"):
        (tmp_path / storage.SEQUENCES_FILE).write_text(content)
        with pytest.raises(UserError, match=r"sequences\.json"):
            source.names()


def names_of(*samples, **extents):
    return SplitNames([SampleName(*sample) for sample in samples], extents)


def predictions_of(count):
    rng = np.random.default_rng(count)
    joints = rng.normal(size=(count, 24, 3)).astype(np.float32)
    return SplitPredictions(joints, rng.normal(size=(count, 9, 3, 3)).astype(np.float32))


def test_without_sequences_json_the_largest_numbers_count_and_are_reported(tmp_path):
    names = names_of(("a", 1, 3), ("b", 0, 0), ("a", 0, 2), b=Extent(2, 2))
    predictions = predictions_of(3)
    zeros, line = challenge.write(tmp_path, predictions, names)
    assert "sequences.json" in line
    assert "1 sequence " in line
    assert "9 people and frames" in zeros
    assert "9 for unknown reasons" in zeros
    found = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert found["jointPositions"].shape == (2, 4, 24, 3)
    np.testing.assert_array_equal(found["jointPositions"][1, 3], predictions.joints[0])
    np.testing.assert_array_equal(found["orientations"][0, 2], predictions.orientations[2])
    assert pickle.loads((tmp_path / "b.pkl").read_bytes())["jointPositions"].shape[:2] == (2, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pkl", "b.pkl"]


def test_missing_predictions_are_counted_by_reason(tmp_path):
    left_out = {
        "a": {"camera pose not valid": 2, "outside the photograph": 1},
        "b": {"picture missing": 4},
        "unreadable": {"sequence file unreadable": 30},  # of a sequence that is not exported
    }
    extents = {"a": Extent(1, 5), "b": Extent(2, 2)}
    names = SplitNames([SampleName("a", 0, 1), SampleName("a", 0, 4)], extents, left_out)
    (line,) = challenge.write(tmp_path, predictions_of(2), names)
    assert line.startswith(f"{tmp_path}: ")
    assert "7 people and frames" in line
    skipped, counted = line.split(";")
    assert "2 camera pose not valid" in skipped
    assert "1 outside the photograph, 4 picture missing" in counted
    assert "unreadable" not in line
    # A sequence without any sample has its file as well.
    found = pickle.loads((tmp_path / "b.pkl").read_bytes())
    assert found["jointPositions"].shape == (2, 2, 24, 3)
    assert not found["jointPositions"].any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pkl", "b.pkl"]


def test_any_python_and_numpy_can_read_the_files(tmp_path):
    challenge.write(tmp_path, predictions_of(1), names_of(("a", 0, 0)))
    operations = list(pickletools.genops((tmp_path / "a.pkl").read_bytes()))
    assert operations[0][1] == 2
    modules = {argument for operation, argument, _ in operations if operation.name == "GLOBAL"}
    assert modules <= {
        "numpy.core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
        "_codecs encode",
    }


def test_only_files_of_an_earlier_export_are_removed(tmp_path):
    exported = tmp_path / "res"
    challenge.remove(exported)
    for split in ("validation", "test"):
        challenge.write(exported / split, predictions_of(1), names_of(("a", 0, 0)))
    (exported / "test" / "notes.txt").write_text("mine")
    challenge.remove(exported)
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert list(map(str, left)) == ["res/test/notes.txt"]
    assert not (exported / "validation").exists()
    (exported / "test" / "notes.txt").unlink()
    challenge.remove(exported)
    assert not exported.exists()


def test_samples_outside_their_sequence_and_bad_names_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"^a .*frame 5.*sequences\.json.*5 frames"):
        challenge.write(tmp_path, predictions_of(1), names_of(("a", 0, 5), a=Extent(2, 5)))
    with pytest.raises(UserError, match="a/b"):
        challenge.write(tmp_path, predictions_of(1), names_of(("a/b", 0, 0)))


def test_splits_that_would_share_a_folder_are_refused():
    walk = names_of(("a", 0, 0), ("a", 0, 1))
    picture = names_of(("a", 0, 0), ("a", 1, 0), ("b", 0, 0))
    names = {"pw3d/test": lambda: walk, "mine/validation": lambda: picture}
    assert challenge.exportable(names) == ["pw3d/test"]
    with pytest.raises(UserError, match="pw3d/test, mine/test"):
        challenge.exportable(names | {"mine/test": lambda: walk})
