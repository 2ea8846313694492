"""Conversion tables: layouts, both directions, errors and the report."""

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.pretrained import table
from pare_jax.pretrained.table import Entry

TABLE = [
    *table.conv("backbone.conv1", "conv1", bias=True),
    *table.batch_norm("backbone.bn1", "bn1"),
    Entry("params.heads.pose.layers.0.kernel", "pose_mlp.weight", table.PER_JOINT),
    Entry("batch_stats.heads.mean_betas", "init_shape", required=False),
]
SHAPES = {
    "params.backbone.conv1.kernel": (3, 3, 2, 4),
    "params.backbone.conv1.bias": (4,),
    "params.backbone.bn1.scale": (4,),
    "params.backbone.bn1.bias": (4,),
    "batch_stats.backbone.bn1.mean": (4,),
    "batch_stats.backbone.bn1.var": (4,),
    "params.heads.pose.layers.0.kernel": (24, 5, 6),
    "params.heads.pose.layers.0.bias": (24, 6),
    "batch_stats.heads.mean_betas": (10,),
}
TEMPLATE = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


def theirs(prefix=""):
    rng = np.random.default_rng(0)
    shapes = {
        "conv1.weight": (4, 2, 3, 3),
        **dict.fromkeys(("conv1.bias", "bn1.weight", "bn1.bias"), (4,)),
        **dict.fromkeys(("bn1.running_mean", "bn1.running_var"), (4,)),
        "pose_mlp.weight": (1, 6, 5, 24, 1, 1),
        "init_shape": (10,),
    }
    return {
        prefix + name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }


def test_layouts_reorder_the_axes():
    tensors = theirs()
    flat, _ = table.to_ours(TABLE, tensors, TEMPLATE, file="file")
    assert all(flat[name].shape == SHAPES[name] for name in flat)
    assert all(value.flags.c_contiguous for value in flat.values())
    conv = flat["params.backbone.conv1.kernel"]
    assert conv[2, 1, 0, 3] == tensors["conv1.weight"][3, 0, 2, 1]
    pose = flat["params.heads.pose.layers.0.kernel"]
    assert pose[23, 4, 2] == tensors["pose_mlp.weight"][0, 2, 4, 23, 0, 0]
    np.testing.assert_array_equal(flat["batch_stats.backbone.bn1.var"], tensors["bn1.running_var"])


def test_the_round_trip_is_exact():
    tensors = theirs()
    flat, _ = table.to_ours(TABLE, tensors, TEMPLATE, file="file")
    back = table.to_torch(TABLE, flat)
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].flags.c_contiguous
    again, _ = table.to_ours(TABLE, back, TEMPLATE, file="file")
    assert all((again[name] == flat[name]).all() for name in flat)


def test_an_optional_array_that_is_missing_keeps_its_initial_value():
    tensors = theirs()
    del tensors["init_shape"]
    flat, report = table.to_ours(TABLE, tensors, TEMPLATE, file="file")
    assert "batch_stats.heads.mean_betas" not in flat
    assert report.fresh == {
        "params.heads.pose.layers.0.bias": 144,
        "batch_stats.heads.mean_betas": 10,
    }
    assert "init_shape" not in table.to_torch(TABLE, flat)


def test_the_report_is_one_readable_table():
    tensors = theirs("model.") | {"model.fc.weight": np.zeros((7, 5)), "x": np.zeros(3)}
    _, report = table.to_ours(TABLE, tensors, TEMPLATE, file="a.pth", prefix="model.")
    assert report.ignored == {"model.fc.weight": 35, "x": 3}
    assert len(report.used) == len(TABLE)
    lines = str(report).splitlines()
    assert "a.pth" in lines[0]
    row = next(line for line in lines if "fc" in line)
    assert row.split() == ["ignored", "model.fc", "1", "tensor", "35", "numbers"]
    assert any(line.startswith("not in the file") and "heads.pose" in line for line in lines)


def test_missing_and_misshapen_tensors_are_named():
    tensors = theirs()
    del tensors["bn1.running_mean"]
    with pytest.raises(UserError, match=r"^file .*bn1\.running_mean"):
        table.to_ours(TABLE, tensors, TEMPLATE, file="file")
    with pytest.raises(UserError, match=r"conv1\.weight, conv1\.bias, bn1\.weight and 4 more"):
        table.to_ours(TABLE, {}, TEMPLATE, file="file")
    tensors = theirs() | {"conv1.weight": np.zeros((4, 2, 5, 5))}
    with pytest.raises(UserError, match=r"conv1\.weight .*\(4, 2, 5, 5\) .*\(4, 2, 3, 3\)"):
        table.to_ours(TABLE, tensors, TEMPLATE, file="file")
    tensors = theirs() | {"pose_mlp.weight": np.zeros((6, 5, 24))}
    with pytest.raises(UserError, match=r"pose_mlp\.weight .*\(1, 6, 5, 24, 1, 1\)"):
        table.to_ours(TABLE, tensors, TEMPLATE, file="file")
    with pytest.raises(UserError, match=r"params\.backbone\.conv1\.kernel"):
        table.to_torch(TABLE, {})
