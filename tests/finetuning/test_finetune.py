"""Fine-tuning at a tiny size: a run with random weights, photographs of noise, a COCO file."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest
from flax import nnx

from configs import finetune as recipe
from data_pipelines import datasets
from data_pipelines.fits import fit_file
from data_pipelines.fits.fit_file import empty_columns, fits_path, read_fits, write_fits
from data_pipelines.reading import storage
from pare_jax.body.io import load_body_data
from pare_jax.errors import UserError
from pare_jax.finetuning import finetune as finetuning
from pare_jax.finetuning import own_photographs
from pare_jax.finetuning.adopt import adopted
from pare_jax.finetuning.comparison import compare
from pare_jax.finetuning.earlier_data import splits_at_hand
from pare_jax.models import build_model
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.config import SYNTHETIC_ALONE
from pare_jax.training.trained_run import load_config, load_model, warning_of_run
from pare_jax.training.workdir import write_config
from tests.fakes import tiny_config

PHOTOGRAPHS = 12


def write_run(workdir, change=lambda config: None):
    """Write a run of a tiny network with random weights."""
    config = tiny_config()
    change(config)
    write_config(workdir, config)
    model = build_model(config.model, rngs=nnx.Rngs(3))
    checkpoints = Checkpoints(workdir)
    checkpoints.save_weights(*nnx.split(model, nnx.Param, ...)[1:])
    checkpoints.close()
    return workdir


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("first"))


def write_photographs(folder, count=PHOTOGRAPHS):
    """Write noise with one person each; returns the COCO file."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        name = f"{number}.jpg"
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (90, 70, 3), dtype=np.uint8))
        places = np.stack([rng.uniform(20, 50, 17), rng.uniform(10, 80, 17)], 1)
        points = np.concatenate([places, np.full((17, 1), 2)], 1)
        images.append({"id": number, "file_name": name, "width": 70, "height": 90})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [15, 5, 40, 80],
                "num_keypoints": 17,
                "keypoints": [float(x) for x in points.ravel()],
            }
        )
    path = folder.with_suffix(".json")
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def config_for(run, photos, labels, **overrides):
    config = recipe.get_config()
    values = {"pretrained.path": str(run), "data.photos": str(photos)}
    values |= {"data.labels": str(labels), "batch_size": 8, "num_epochs": 2.0} | overrides
    config.update_from_flattened_dict(values)
    return adopted(config, values)


def fake_fits(error):
    """Return a replacement of `fit_split` whose fits have this error, in no time."""

    def fit_split(source, starts):
        columns = empty_columns(len(source))
        columns.rotations[:] = np.eye(3)
        columns.error[:], columns.agreement[:], columns.plausibility[:] = error, 1.0, 1.0
        columns.verdict[:] = fit_file.VERDICTS.index("good")
        body = load_body_data()
        header = fit_file.make_header(
            source.path,
            {"name": body.name, "digest": body.digest},
            {"name": "a fake", "digest": ""},
            {},
        )
        path = fits_path(source.path, source.split)
        path.parent.mkdir(exist_ok=True)
        write_fits(path, header, columns)
        return read_fits(path)

    return fit_split


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(finetuning, "_FEWEST_STEPS", 2)
    monkeypatch.setattr(own_photographs, "fit_split", fake_fits(0.0))
    monkeypatch.setattr(own_photographs, "NetworkStarts", lambda *_: None)


def warning_at(place, workdir):
    return warning_of_run(place, load_config(workdir))


def params_of(place):
    _, network = load_model(place)
    return [leaf[...] for _, leaf in nnx.to_flat_state(nnx.state(network))]


def test_the_better_weights_are_kept_and_the_page_says_which(
    run, quick, tmp_path, capsys, monkeypatch
):
    """Noise betters nothing; then the comparison is made again, as after a kill, and replaced."""
    photos, workdir = tmp_path / "photos", tmp_path / "mine"
    config = config_for(run, photos, write_photographs(photos))
    finetuning.finetune(config, workdir)
    folder = workdir / "finetuning"
    result = json.loads((folder / "comparison.json").read_text())
    assert not result["is_better"]
    page = (folder / "index.html").read_text()
    assert "not better" in page
    assert page.count("<img") >= 5
    for ours, theirs in zip(params_of(workdir), params_of(run), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert json.loads((workdir / "eval" / "metrics.json").read_text())["step"] == 5
    # The weights that were kept have seen drawn people alone, those that were trained have not.
    assert warning_at(workdir, workdir) == SYNTHETIC_ALONE
    assert warning_at(workdir / "checkpoints" / str(result["step"]), workdir) is None
    # The same command again does nothing and says the same.
    capsys.readouterr()
    finetuning.finetune(config, workdir)
    assert "not better" in capsys.readouterr().out
    assert Checkpoints(workdir, read_only=True).latest_step() == 5

    monkeypatch.setattr(
        finetuning, "compare", lambda *them: dataclasses.replace(compare(*them), is_better=True)
    )
    shutil.rmtree(workdir / "checkpoints" / "5")
    (folder / "evaluations" / "5.npz").unlink()
    finetuning.finetune(config, workdir)
    result = json.loads((folder / "comparison.json").read_text())
    assert Checkpoints(workdir, read_only=True).latest_step() == result["checkpoint"] == 5
    assert warning_at(workdir, workdir) is None
    chosen = params_of(workdir / "checkpoints" / str(result["step"]))
    for ours, theirs in zip(params_of(workdir), chosen, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_people_with_poses_are_not_fitted(run, tmp_path, monkeypatch):
    monkeypatch.setattr(own_photographs, "fit_split", None)
    photos = tmp_path / "photos"
    write_photographs(photos)
    labels = tmp_path / "labels.npz"
    np.savez(
        labels,
        imgname=np.array([f"{number}.jpg" for number in range(PHOTOGRAPHS)]),
        center=np.full((PHOTOGRAPHS, 2), 40.0),
        scale=np.full(PHOTOGRAPHS, 0.4),
        part=np.random.default_rng(0).uniform(20, 50, (PHOTOGRAPHS, 24, 3)),
        pose=np.zeros((PHOTOGRAPHS, 72)),
        shape=np.zeros((PHOTOGRAPHS, 10)),
    )
    config, workdir = config_for(run, photos, labels), tmp_path / "mine"
    found = own_photographs.prepare_photographs(config, workdir)
    assert len(found.train) + len(found.held_out) == PHOTOGRAPHS
    assert datasets.load(config, workdir).steps_per_epoch


def test_a_run_on_drawn_people_has_the_warning_of_its_first_run(run, tmp_path):
    """First weights that have seen photographs leave no warning; a missing first run does."""
    config = config_for(run, tmp_path, "")
    write_config(tmp_path / "mine", config)
    config = tiny_config()
    config.pretrained.path = str(tmp_path / "mine")
    assert warning_of_run(tmp_path / "next", config) is None
    config.pretrained.path = str(run)
    assert warning_of_run(tmp_path / "next", config) == SYNTHETIC_ALONE
    config.pretrained.path = str(tmp_path / "moved")
    assert warning_of_run(tmp_path / "next", config) == SYNTHETIC_ALONE


def test_fits_that_all_fail_are_refused(run, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(own_photographs, "fit_split", fake_fits(1.0))
    photos = tmp_path / "photos"
    labels = write_photographs(photos)
    with pytest.raises(UserError, match="photos"):
        finetuning.finetune(config_for(run, photos, labels), tmp_path / "mine")


@pytest.mark.parametrize(("count", "others"), [(4, False), (12, True)])
def test_few_photographs_and_labels_of_others_are_refused(run, count, others, tmp_path):
    photos = tmp_path / "photos"
    labels = write_photographs(photos, count)
    if others:
        text = labels.read_text().replace(".jpg", "_other.jpg")
        labels.write_text(text)
    with pytest.raises(UserError, match="photos") as caught:
        finetuning.finetune(config_for(run, photos, labels), tmp_path / "mine")
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        finetuning.finetune(config_for(run, tmp_path / "nowhere", ""), tmp_path / "mine")


def test_a_missing_file_of_labels_is_refused_by_its_key(run, tmp_path):
    config = config_for(run, tmp_path, "")
    config.data.labels = str(tmp_path / "labels.json")
    with pytest.raises(UserError, match=r"config\.data\.labels=.*labels\.json"):
        finetuning.finetune(config, tmp_path / "mine")


def test_the_network_and_a_tenth_of_the_learning_rate_are_the_runs(run, tmp_path):
    config = config_for(run, tmp_path, "", **{"augment.flip": 0.0})
    assert config.model.backbone_width == 4
    assert config.image_size == 32
    assert config.optimizer.learning_rate == pytest.approx(1e-4)
    assert config.augment.flip == 0.0
    assert config.data.train == (("photographs", 1.0),)
    assert config.loss.parts == 0


def test_other_data_is_mixed_in_by_its_share(run, tmp_path):
    config = config_for(run, tmp_path, "", **{"data.photos_share": 0.25})
    assert config.data.train == (("photographs", 0.25), ("synthetic", 0.75))


def test_data_of_the_first_run_is_looked_for_where_the_fine_tuning_has_its_data(monkeypatch):
    opened = []
    monkeypatch.setattr(storage, "open_split", lambda path, split: opened.append(path))
    config = tiny_config()
    assert splits_at_hand(config, "elsewhere") == list(config.data.eval)
    assert opened
    assert all(path.is_relative_to("elsewhere") for path in opened)


def test_a_run_on_keypoints_is_refused(tmp_path):
    def on_keypoints(config):
        config.model.input = "keypoints"

    config = tiny_config()
    on_keypoints(config)
    write_config(tmp_path, config)
    with pytest.raises(UserError, match="--refine"):
        config_for(tmp_path, tmp_path, "")


def test_photographs_need_a_first_network(tmp_path):
    with pytest.raises(UserError, match=r"pretrained\.path"):
        config_for("", tmp_path, "")
