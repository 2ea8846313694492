"""Reading body files; everything that is not a body is refused in one line."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

from pare_jax.body.io import load_body_data
from pare_jax.errors import UserError
from pare_jax.skeleton import PARENTS
from tests.body.small_bodies import random_body_fields
from tests.io import legacy_pickle_writer as legacy


def save_npz(path, **changes):
    fields = random_body_fields() | changes
    np.savez(path, **{k: v for k, v in fields.items() if v is not None})
    return path


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        load_body_data(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_npz_and_legacy_pickle_give_the_same_body(tmp_path):
    fields = random_body_fields(shapes=300)
    np.savez(tmp_path / "body.npz", **fields)
    (tmp_path / "body.pkl").write_bytes(legacy.smpl_file(fields))
    one, other = load_body_data(tmp_path / "body.npz"), load_body_data(tmp_path / "body.pkl")
    assert one.parents == PARENTS
    assert one.shape_basis.shape == (60, 3, 10)
    for name in ("template", "shape_basis", "pose_basis", "weights", "joint_regressor", "faces"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.joint_regressor, fields["J_regressor"], rtol=1e-6)
    np.testing.assert_array_equal(one.faces, fields["f"])


def test_a_file_is_read_once_until_it_changes(tmp_path):
    path = save_npz(tmp_path / "body.npz")
    data = load_body_data(path)
    assert load_body_data(str(path)) is data
    (tmp_path / "SMPL_MALE.npz").symlink_to(path)
    named = load_body_data(tmp_path / "SMPL_MALE.npz")
    assert (named.name, named.digest) == ("SMPL_MALE", data.digest)
    with pytest.raises(ValueError, match="read-only"):
        data.template[0] = 0
    save_npz(path, **random_body_fields(seed=1))
    os.utime(path, ns=(1, 1))
    assert load_body_data(path).digest != data.digest
    path.write_bytes(b"")
    refusal(path)


def test_joints_of_the_shape_come_from_the_regressor(tmp_path):
    fields = random_body_fields()
    data = load_body_data(save_npz(tmp_path / "body.npz"))
    betas = np.linspace(-2, 2, 10)
    wanted = fields["J_regressor"] @ (fields["v_template"] + fields["shapedirs"] @ betas)
    np.testing.assert_allclose(data.joint_template + data.joint_basis @ betas, wanted, atol=1e-6)


def test_missing_pose_correctives_cost_no_memory(tmp_path):
    data = load_body_data(save_npz(tmp_path / "body.npz", posedirs=np.zeros((60, 3, 207), "i1")))
    assert not data.has_pose_basis
    assert data.pose_basis.shape == (60, 3, 207)
    assert not any(data.pose_basis.strides)


def test_hostile_pickle_is_refused_and_not_run(tmp_path):
    touched = tmp_path / "touched"
    for module, name in (("os", "system"), ("posix", "system"), ("__builtin__", "eval")):
        path = tmp_path / "body.pkl"
        command = f"touch {touched}" if name == "system" else f"open({str(touched)!r}, 'w')"
        hostile = legacy.call(module, name, legacy.text(command))
        path.write_bytes(legacy.smpl_file(random_body_fields(), extra=hostile))
        assert f"{module}.{name}" in refusal(path)
        assert not touched.exists()


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_truncated_files(tmp_path, size):
    (tmp_path / "body.pkl").write_bytes(legacy.smpl_file(random_body_fields())[:size])
    refusal(tmp_path / "body.pkl")
    whole = save_npz(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "body.npz").write_bytes(whole[:size])
    refusal(tmp_path / "body.npz")


def test_damaged_npz(tmp_path):
    path = save_npz(tmp_path / "body.npz")
    raw = bytearray(path.read_bytes())
    raw[1000:1400] = bytes(400)
    path.write_bytes(raw)
    refusal(path)


def test_missing_file_names_the_free_body(tmp_path):
    message = refusal(tmp_path / "nothing.pkl")
    assert "free body" in message


def test_files_that_are_not_bodies(tmp_path):
    (tmp_path / "text.pkl").write_text("hello, I am not a body at all")
    refusal(tmp_path / "text.pkl")
    (tmp_path / "text.npz").write_text("hello, I am not a body at all")
    refusal(tmp_path / "text.npz")
    (tmp_path / "list.pkl").write_bytes(legacy.legacy_pickle(b"](" + legacy.text("a") + b"e"))
    refusal(tmp_path / "list.pkl")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert "v_template" in refusal(tmp_path / "other.npz")
    refusal(tmp_path)


def test_other_kinds_of_files_are_called_no_body_models(tmp_path):
    for name, content in (("README.md", b"# A title"), ("photo.jpg", b"\xff\xd8\xff\xe0")):
        (tmp_path / name).write_bytes(content)
        message = refusal(tmp_path / name)
        assert "not a body model" in message
        assert ".npz" in message
        assert "pickle" not in message


@pytest.mark.parametrize("save", ["npz", "pkl"])
@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix"])
def test_files_that_were_saved_again(tmp_path, kind, save):
    """Sparse regressors, lists, and objects that only other programs use."""
    fields = random_body_fields(shapes=300)
    changes = {
        "J_regressor": getattr(scipy.sparse, kind)(fields["J_regressor"]),
        "pose_training_info": {"a": 1},
        "kintree_table": np.array(fields["kintree_table"], object).astype(np.int64),
    }
    path = tmp_path / f"body.{save}"
    if save == "npz":
        np.savez(path, **(fields | changes))
    else:
        changes["f"] = fields["f"].tolist()
        path.write_bytes(pickle.dumps(fields | changes, 2))
    np.savez(tmp_path / "plain.npz", **fields)
    assert load_body_data(path).digest == load_body_data(tmp_path / "plain.npz").digest


def test_shapes_behind_a_view_of_chumpy(tmp_path):
    """A file that was pickled again after [:, :, :10] holds its 300 directions and the places."""
    fields = random_body_fields(shapes=300)
    places = np.arange(60 * 3 * 300).reshape(60, 3, 300)[:, :, :10].ravel()
    view = {
        "a": legacy.chumpy(fields["shapedirs"]),
        "idxs": legacy.array(places),
        "preferred_shape": b"(K\x3cK\x03K\x0at",
    }
    selected = legacy.instance("chumpy.reordering", "Select", view)
    (tmp_path / "view.pkl").write_bytes(legacy.smpl_file(fields, shapedirs=selected))
    np.savez(tmp_path / "plain.npz", **fields)
    assert (
        load_body_data(tmp_path / "view.pkl").digest
        == load_body_data(tmp_path / "plain.npz").digest
    )


def test_an_object_that_is_not_understood_counts_only_where_it_is_needed(tmp_path):
    source = {"a": legacy.chumpy(np.ones((2, 3)))}
    turned = legacy.instance("chumpy.reordering", "transpose", source)
    path = tmp_path / "body.pkl"
    path.write_bytes(legacy.smpl_file(random_body_fields(), unused=turned))
    load_body_data(path)
    path.write_bytes(legacy.smpl_file(random_body_fields(), weights=turned))
    message = refusal(path)
    assert "weights" in message
    assert "chumpy.reordering.transpose" in message
    assert "clean_ch.py" in message
    np.savez(tmp_path / "body.npz", **(random_body_fields() | {"weights": {"a": 1}}))
    assert "weights" in refusal(tmp_path / "body.npz")


@pytest.mark.parametrize(
    ("joints", "name"), [(55, "SMPL-X"), (52, "SMPL+H"), (16, "MANO"), (35, "another body model")]
)
def test_other_body_models_are_named(tmp_path, joints, name):
    table = np.zeros((2, joints), np.int64)
    path = save_npz(tmp_path / "body.npz", kintree_table=table, joint2num={"pelvis": 0})
    assert name in refusal(path)
    assert str(joints) in refusal(path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"weights": None}, "weights"),
        ({"weights": np.ones((60, 55))}, "weights has shape (60, 55)"),
        ({"posedirs": np.ones((60, 3, 9))}, "posedirs"),
        ({"shapedirs": np.ones((60, 3, 4))}, "shapedirs"),
        ({"v_template": np.zeros((0, 3))}, "v_template"),
        ({"v_template": np.full((60, 3), "a")}, "v_template"),
        ({"J_regressor": np.full((24, 60), np.nan)}, "J_regressor"),
        ({"f": np.full((4, 3), 60)}, " f "),
        ({"v_template": scipy.sparse.coo_matrix((2**31 - 1, 3))}, "v_template"),
        ({"weights": np.full((60, 24), 1e300)}, "weights"),
        ({"posedirs": np.full((60, 3, 207), "a")}, "posedirs"),
        ({"kintree_table": np.zeros((2, 24), int)}, "kintree_table"),
    ],
)
def test_wrong_arrays(tmp_path, changes, named):
    assert named in refusal(save_npz(tmp_path / "body.npz", **changes))


def test_reading_and_the_numpy_body_do_not_import_jax():
    code = "import sys, pare_jax.body.io, pare_jax.body.numpy_body; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
