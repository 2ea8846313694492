"""A run on keypoints from its config to the shipped files, on a few drawn bodies."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import keypoints
from data_pipelines import datasets
from pare_jax.errors import UserError
from pare_jax.export import stablehlo
from pare_jax.pretrained.convert import to_torch
from pare_jax.sensitivity import cli as sensitivity
from pare_jax.training import config as config_lib
from pare_jax.training.shipped import load_shipped
from pare_jax.training.train import train
from pare_jax.training.trained_run import load_model
from scripts.ship_keypoint_network import ship
from tests.fakes import Recorder, keypoints_of


def tiny(root, num_steps=4):
    """Return the recipe with a small network, few bodies and few steps."""
    config = keypoints.get_config()
    config.batch_size = config.eval.batch_size = 16
    config.num_steps = num_steps
    config.model.points_width, config.model.points_blocks = 16, (1, 1)
    config.data.root = str(root)
    bodies = config.data.bodies
    bodies.poses, bodies.held_out, bodies.test, bodies.epoch = 1_000, 200, 24, 64
    # The first half of a run does not depend on its length.
    config.optimizer.warmup, config.optimizer.schedule = 0, "constant"
    config.checkpoint.every_steps = 2
    config.eval.pictures = 2
    config.log_every_steps = 2
    return config


def check(config):
    config_lib.validate(config)
    datasets.check_config(config)


def train_in(workdir, config, writer=None):
    check(config)
    return train(
        config, workdir, lambda: datasets.load(config, workdir), lambda: writer or Recorder()
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    workdir, writer = tmp_path_factory.mktemp("run"), Recorder()
    return workdir, writer, train_in(workdir, tiny(root), writer)


def test_a_run_measures_both_splits_and_draws_its_input(run):
    workdir, writer, _ = run
    splits = json.loads((workdir / "eval" / "metrics.json").read_text())["splits"]
    assert splits.keys() == {"bodies/test", "bodies/test_noisy"}
    assert all(split["count"] == 24 and split["mpjpe"] > 0 for split in splits.values())
    pictures = writer.images[4]["bodies/test/predictions"]
    assert pictures.shape[0] == 2
    assert pictures.std() > 5
    assert (workdir / "eval" / "bodies_test_worst.png").exists()


def test_a_resumed_run_ends_with_the_same_bits(run, root, tmp_path):
    workdir, _, undisturbed = run
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    resumed = train_in(tmp_path / "run", tiny(root))
    for ours, theirs in zip(jax.tree.leaves(resumed), jax.tree.leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def shipped(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    ship(run[0], folder)
    return folder


def test_shipped_files_hold_the_network_and_its_errors(run, shipped):
    workdir, _, _ = run
    config, network, body = load_shipped(shipped)
    _, trained = load_model(workdir)
    inputs = keypoints_of(4)
    # Only float16 is between them.
    np.testing.assert_allclose(network(inputs).rotations, trained(inputs).rotations, atol=5e-3)
    assert config.model.points_width == 16
    assert config.data.root == "data"
    assert len(body.template) == 12272
    text = (shipped / "keypoints.json").read_text()
    assert str(workdir.parent) not in text
    splits = json.loads((workdir / "eval" / "metrics.json").read_text())["splits"]
    for name, errors in json.loads(text)["errors"].items():
        assert errors["mpjpe"] == pytest.approx(splits[name]["mpjpe"], abs=0.1)


def test_damaged_shipped_files_are_not_used(shipped, tmp_path):
    shutil.copytree(shipped, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "keypoints.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"keypoints\.safetensors"):
        load_shipped(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match=r"keypoints\.safetensors"):
        load_shipped(tmp_path)


def test_commands_for_pixels_refuse_a_network_on_keypoints(run, tmp_path, capsys):
    workdir, _, _ = run
    with pytest.raises(UserError, match="keypoints"):
        to_torch(workdir, tmp_path / "x.ckpt")
    arguments = ["x", f"--checkpoint={workdir}", f"--output={tmp_path}/out", "photo.jpg"]
    assert sensitivity.main(arguments) == 2
    assert "keypoints" in capsys.readouterr().err
    arguments = [f"--checkpoint={workdir}", f"--output={tmp_path}/x.jax", "--crop_scale=1.1"]
    assert stablehlo.main(["x", *arguments]) == 2
    assert "--crop_scale" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.input": "image"}, "model.input"),
        ({"data.train": (("bodies", 0.5), ("synthetic", 0.5))}, "synthetic"),
        ({"data.eval": ("synthetic/test",)}, "synthetic"),
        ({"data.eval": ("bodies/validation",)}, "bodies/validation"),
        ({"pretrained.path": "x.pth"}, "pretrained.path"),
        ({"loss.parts": 1.0}, "loss.parts"),
        ({"precision": "bfloat16"}, "precision"),
        ({"model.points_blocks": ()}, "points_blocks"),
        ({"model.points_width": 0}, "points_width"),
        ({"model.name": "pare", "model.input": "image"}, "config.loss.points_2d|bodies"),
    ],
)
def test_what_does_not_go_with_keypoints_is_named(changes, named, root):
    config = tiny(root)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=named) as caught:
        check(config)
    assert "\n" not in str(caught.value)
