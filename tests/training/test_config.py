"""Every experiment in configs/ is valid, and bad values are named before anything starts."""

import importlib
from pathlib import Path

import pytest
from flax import nnx

from configs.common import get_base
from data_pipelines import datasets
from pare_jax.errors import UserError
from pare_jax.models import build_model
from pare_jax.training import config as config_lib

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(p.stem for p in (ROOT / "configs").glob("[a-z]*.py") if p.stem != "common")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_valid_and_their_networks_exist(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    config_lib.validate(config)
    datasets.check_config(config)
    nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))


def test_networks_that_saw_synthetic_people_alone_have_a_warning():
    config = get_base()
    assert config_lib.warning_of(config) == config_lib.SYNTHETIC_ALONE
    config.pretrained.path = "resnet50.pth"  # a backbone, which knows no bodies
    assert config_lib.warning_of(config) == config_lib.SYNTHETIC_ALONE
    config.pretrained.format = "pare"
    assert config_lib.warning_of(config) is None
    for train in ((("mpii", 1.0),), (("synthetic", 0.5), ("pw3d", 0.5))):
        config = get_base()
        config.data.train = train
        assert config_lib.warning_of(config) is None


@pytest.mark.parametrize(
    "key", ["precision", "pretrained.freeze_epochs", "augment.occlusion", "loss.parts"]
)
def test_an_option_is_used_by_an_experiment(key):
    """CONTRIBUTING: an option exists because a config in this repository uses it."""
    values = set()
    for name in EXPERIMENTS:
        value = importlib.import_module(f"configs.{name}").get_config()
        for part in key.split("."):
            value = value[part]
        values.add(value)
    assert len(values) > 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", -8),
        ("batch_size", 0),
        ("image_size", 100),
        ("precision", "float16"),
        ("optimizer.learning_rate", 0.0),
        ("optimizer.schedule", "linear"),
        ("augment.flip", 1.5),
        ("loss.pose", -1.0),
        ("data.memory", -1.0),
        ("data.cache", "host"),
        ("data.train", ()),
        ("data.train", (("synthetic", -1.0),)),
        ("data.train", (("synthetic", float("inf")),)),
        ("data.labels", "labels.json"),
        ("data.eval", ("synthetic",)),
        ("data.eval", ()),
        ("data.train", (("synthetic", "much"),)),
        ("model.backbone", "resnet51"),
        ("model.num_blocks", 0),
        ("num_epochs", float("inf")),
        ("eval.every_epochs", float("inf")),
        ("eval.attention_joints", ("nose",)),
        ("eval.protocol", "h36m"),
        ("eval.protocol", "j14"),
        ("profile", (5, 2)),
        ("pretrained.format", "caffe"),
        ("pretrained.freeze_epochs", -1.0),
    ],
)
def test_a_bad_value_is_named(key, value):
    config = get_base()
    with config.ignore_type():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=key.replace(".", r"\.")) as caught:
        config_lib.validate(config)
    assert "\n" not in str(caught.value)


def test_an_experiment_of_its_own_that_lacks_a_key_is_told_which():
    config = get_base().unlock()
    del config.loss.pose
    with pytest.raises(UserError, match=r"config\.loss\.pose"):
        config_lib.validate(config)


def test_a_weight_of_no_term_is_named():
    config = get_base().unlock()
    config.loss.poze = 1.0
    with pytest.raises(UserError, match=r"config\.loss\.poze"):
        config_lib.validate(config)


def test_an_experiment_cannot_misspell_a_key():
    with pytest.raises(AttributeError, match="learnig_rate"):
        get_base().optimizer.learnig_rate = 1e-4


def test_part_loss_without_part_maps_is_refused():
    config = get_base()
    config.model.name = "baseline"
    config.loss.parts = 60.0
    with pytest.raises(UserError, match="baseline"):
        config_lib.validate(config)


def test_part_loss_on_maps_finer_than_the_labels_is_refused():
    config = get_base()
    config.loss.parts = 60.0
    config.model.num_blocks = 4
    with pytest.raises(UserError, match="num_blocks"):
        config_lib.validate(config)


def test_differences_name_keys_and_both_values():
    old, new = get_base(), get_base()
    new.model.num_blocks = 2
    new.data.train = (("synthetic", 0.5),)
    changed = "model.num_blocks: 3 -> 2"
    assert changed in config_lib.differences(old, new)
    assert config_lib.differences(old, new, ("model", "data.memory")) == [changed]
    assert len(config_lib.differences(old, new, ("data.train",))) == 1
    assert config_lib.differences(old, get_base()) == []
