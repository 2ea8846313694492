"""Weight files as other projects save them, and files that are not weights."""

import argparse
import collections
import json
import pathlib
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.pretrained.read import read_weights

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
# The first three are exact in bfloat16, all four in float16.
HALVES = np.array([1.5, -2.0, 0.25, 0.333251953125], np.float32)


def safetensors(path, tensors, metadata=None):
    """Write a file by the format's description: length of the header, header, numbers."""
    header, body = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(body), len(body) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def refused(path):
    with pytest.raises(UserError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_safetensors_are_read_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    bfloat = (HALVES[:3].view(np.uint32) >> 16).astype("<u2")
    path = safetensors(
        tmp_path / "weights.safetensors",
        {
            "conv1.weight": ("F32", [2, 3], WEIGHT.tobytes()),
            "half": ("F16", [2, 2], HALVES.astype(np.float16).tobytes()),
            "brain": ("BF16", [3], bfloat.tobytes()),
            "double": ("F64", [3], WEIGHT[0].astype(np.float64).tobytes()),
            "bn1.num_batches_tracked": ("I64", [], struct.pack("<q", 7)),
        },
        {"source": "here"},
    )
    content = read_weights(path)
    assert content.metadata == {"source": "here"}
    assert sorted(content.tensors) == ["brain", "conv1.weight", "double", "half"]
    assert {value.dtype for value in content.tensors.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(content.tensors["conv1.weight"], WEIGHT)
    np.testing.assert_array_equal(content.tensors["half"], HALVES.reshape(2, 2))
    np.testing.assert_array_equal(content.tensors["brain"], HALVES[:3])
    np.testing.assert_array_equal(content.tensors["double"], WEIGHT[0])


def test_a_broken_safetensors_file_is_one_line(tmp_path):
    whole = safetensors(tmp_path / "whole.safetensors", {"a": ("F32", [2, 3], WEIGHT.tobytes())})
    cut = tmp_path / "cut.safetensors"
    for length in (0, 5, 40, whole.stat().st_size - 1):
        cut.write_bytes(whole.read_bytes()[:length])
        refused(cut)
    odd = safetensors(tmp_path / "odd.safetensors", {"a": ("F8_E4M3", [2], b"ab")})
    refused(odd)
    empty = safetensors(tmp_path / "empty.safetensors", {})
    refused(empty)
    refused(tmp_path / "absent.safetensors")
    refused(tmp_path)


class TestTorchFiles:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.mark.parametrize("legacy", [False, True])
    def test_state_dicts_of_any_precision_and_layout(self, torch, tmp_path, legacy):
        path = tmp_path / "weights.pth"
        content = {
            "conv1.weight": torch.tensor(WEIGHT).T.contiguous().T,  # not contiguous
            "half": torch.tensor(HALVES).half(),
            "brain": torch.tensor(HALVES[:3]).bfloat16(),
            "parameter": torch.nn.Parameter(torch.tensor(WEIGHT)),
            "bn1.num_batches_tracked": torch.tensor(3),
            "whole": torch.tensor([1, 2]),
        }
        assert not content["conv1.weight"].is_contiguous()
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        tensors = read_weights(path).tensors
        assert sorted(tensors) == ["brain", "conv1.weight", "half", "parameter", "whole"]
        assert tensors["conv1.weight"].flags.c_contiguous
        np.testing.assert_array_equal(tensors["conv1.weight"], WEIGHT)
        np.testing.assert_array_equal(tensors["half"], HALVES)
        np.testing.assert_array_equal(tensors["brain"], HALVES[:3])
        np.testing.assert_array_equal(tensors["parameter"], WEIGHT)
        np.testing.assert_array_equal(tensors["whole"], [1, 2])
        assert tensors["brain"].dtype == np.float32

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: {"state_dict": state, "epoch": 3},
            lambda state: {"model": state, "optimizer": {"state": {}}},
            lambda state: {"student": {"x": -state["a.weight"]}, "teacher": state},
            lambda state: {"model": {"state_dict": state}},
            lambda state: {f"module.{name}": value for name, value in state.items()},
            lambda state: {
                "state_dict": {f"module.backbone.{name}": value for name, value in state.items()}
            },
        ],
    )
    def test_wrappers_and_shared_prefixes_are_removed(self, torch, tmp_path, wrap):
        path = tmp_path / "weights.pth.tar"
        torch.save(wrap({"a.weight": torch.tensor(WEIGHT), "b": torch.zeros(1)}), path)
        tensors = read_weights(path).tensors
        assert sorted(tensors) == ["a.weight", "b"]
        np.testing.assert_array_equal(tensors["a.weight"], WEIGHT)

    def test_a_prefix_of_some_names_stays(self, torch, tmp_path):
        names = ("model.backbone.conv1.weight", "model.head.weight")
        torch.save({"state_dict": {name: torch.zeros(1) for name in names}}, tmp_path / "a.ckpt")
        assert sorted(read_weights(tmp_path / "a.ckpt").tensors) == [
            "backbone.conv1.weight",
            "head.weight",
        ]

    def test_settings_of_lightning_checkpoints_become_plain_data(
        self, torch, tmp_path, monkeypatch
    ):
        def make(module, name, base):
            kind = type(name, (base,), {"__module__": module})
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                name_of = ".".join(parts[:end])
                if name_of not in sys.modules:
                    monkeypatch.setitem(sys.modules, name_of, types.ModuleType(name_of))
            setattr(sys.modules[module], name, kind)
            return kind

        node = make("yacs.config", "CfgNode", dict)
        attributes = make("pytorch_lightning.utilities.parsing", "AttributeDict", dict)
        callback = make("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", object)
        settings = node(BACKBONE="resnet50", SIZES=[1, 2])
        settings.__dict__["__immutable__"] = True
        path = tmp_path / "last.ckpt"
        torch.save(
            {
                "epoch": 3,
                "callbacks": {callback: {"best": np.float64(0.25), "all": np.zeros(3)}},
                "hyper_parameters": attributes(
                    PARE=settings, folder=pathlib.Path("runs") / "a", args=argparse.Namespace(lr=1)
                ),
                "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2, 2)}}}],
                "state_dict": {"a": torch.tensor(WEIGHT)},
            },
            path,
        )
        content = read_weights(path)
        np.testing.assert_array_equal(content.tensors["a"], WEIGHT)
        settings = content.metadata["hyper_parameters"]
        assert settings["PARE"] == {"BACKBONE": "resnet50", "SIZES": [1, 2]}
        assert settings["folder"] == "runs/a"
        assert settings["args"] == {"lr": 1}
        assert content.metadata["epoch"] == 3
        assert 0.25 in next(iter(content.metadata["callbacks"].values())).values()
        json.dumps(content.metadata)

    def test_code_in_a_pickle_is_refused_and_not_run(self, torch, tmp_path):
        witness = tmp_path / "ran"

        class Code:
            def __reduce__(self):
                return pathlib.Path.touch, (witness,)

        class Shell:
            def __reduce__(self):
                import os

                return os.system, (f"touch {witness}",)

        class Evaluated:
            def __reduce__(self):
                return eval, (f"open({str(witness)!r}, 'w')",)

        path = tmp_path / "weights.pth"
        for code in (Code(), Shell(), Evaluated()):
            for content in (code, {"state_dict": {"a": torch.zeros(1)}, "extra": code}):
                torch.save(content, path)
                refused(path)
                path.write_bytes(pickle.dumps(content, 2))
                refused(path)
        assert not witness.exists()

    def test_a_saved_module_is_refused_with_advice(self, torch, tmp_path):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
        message = refused(tmp_path / "module.pt")
        assert "torch.nn.modules.linear.Linear" in message
        assert "state_dict" in message

    def test_torch_itself_is_not_needed(self, torch, tmp_path, monkeypatch):
        torch.save({"a": torch.tensor(WEIGHT)}, tmp_path / "weights.pth")
        monkeypatch.setitem(sys.modules, "torch", None)
        tensors = read_weights(tmp_path / "weights.pth").tensors
        np.testing.assert_array_equal(tensors["a"], WEIGHT)

    @pytest.mark.parametrize("legacy", [False, True])
    def test_views_share_numbers_and_odd_shapes_come_back(self, torch, tmp_path, legacy):
        whole = torch.arange(24.0)
        content = {
            "row": whole.reshape(4, 6)[1],
            "column": whole.reshape(4, 6)[:, 2],
            "part": whole[5:9],
            "scalar": whole[7],
            "empty": torch.zeros(0, 3),
            "expanded": torch.ones(1).expand(3, 2),
        }
        path = tmp_path / "weights.pth"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        tensors = read_weights(path).tensors
        assert tensors.keys() == content.keys()
        for name, tensor in content.items():
            np.testing.assert_array_equal(tensors[name], tensor.numpy())

    @pytest.mark.filterwarnings("ignore:torch.quantize")
    def test_other_kinds_of_tensors_are_skipped(self, torch, tmp_path):
        content = {
            "a": torch.tensor(WEIGHT),
            "sparse": torch.eye(3).to_sparse(),
            "meta": torch.zeros(2, device="meta"),
            "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
            "float8": torch.ones(2).to(torch.float8_e4m3fn),
            "dtype": torch.float16,
            "device": torch.device("cuda:1"),
            "size": torch.Size([1, 2]),
            "milestones": collections.Counter([3, 3, 5]),
        }
        torch.save(content, tmp_path / "weights.pth")
        got = read_weights(tmp_path / "weights.pth")
        assert sorted(got.tensors) == ["a"]
        assert got.metadata["dtype"] == "torch.float16"
        assert got.metadata["device"] == "cuda:1"
        assert got.metadata["size"] == [1, 2]
        assert got.metadata["milestones"] == {"3": 2, "5": 1}

    @pytest.mark.filterwarnings("ignore:TypedStorage")
    @pytest.mark.parametrize("legacy", [False, True])
    @pytest.mark.parametrize("change", [{"size": (3, 3)}, {"offset": 5}, {"stride": (-1, 1)}])
    def test_a_tensor_beyond_its_numbers_is_refused(self, torch, tmp_path, legacy, change):
        class Beyond:
            def __init__(self, storage):
                self.storage = storage

            def __reduce__(self):
                place = {"offset": 0, "size": (2, 3), "stride": (3, 1)} | change
                arguments = (self.storage, *place.values(), False, collections.OrderedDict())
                return torch._utils._rebuild_tensor_v2, arguments

        path = tmp_path / "weights.pth"
        content = {"a": Beyond(torch.tensor(WEIGHT).storage())}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        assert "beyond its numbers" in refused(path)

    @pytest.mark.parametrize("legacy", [False, True])
    def test_a_number_expanded_to_terabytes_is_refused(self, torch, tmp_path, legacy):
        path = tmp_path / "weights.pth"
        content = {"a": torch.ones(1).expand(1 << 20, 1 << 20)}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        assert "1048576" in refused(path)

    def test_an_archive_that_expands_to_gigabytes_is_refused(self, torch, tmp_path):
        torch.save({str(k): torch.zeros(1 << 22) for k in range(20)}, tmp_path / "whole.pth")
        path = tmp_path / "bomb.pth"
        with (
            zipfile.ZipFile(tmp_path / "whole.pth") as whole,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        ):
            for name in whole.namelist():
                archive.writestr(name, whole.read(name))
        assert path.stat().st_size < 4 << 20
        assert "4194304" in refused(path)

    def test_settings_that_hold_themselves_are_refused(self, torch, tmp_path):
        settings = {"a": [1]}
        settings["a"].append(settings)
        torch.save({"state_dict": {"a": torch.ones(1)}, "x": settings}, tmp_path / "a.ckpt")
        assert "itself" in refused(tmp_path / "a.ckpt")

    def test_torchscript_is_refused(self, torch, tmp_path):
        path = tmp_path / "script.pt"
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
        assert "__torch__" in refused(path)

    @pytest.mark.parametrize("legacy", [False, True])
    def test_truncated_files_are_one_line(self, torch, tmp_path, legacy):
        whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
        content = {"a": torch.randn(100, 10)}
        torch.save(content, whole, _use_new_zipfile_serialization=not legacy)
        for length in (0, 1, 100, 2000, whole.stat().st_size - 1):
            cut.write_bytes(whole.read_bytes()[:length])
            refused(cut)

    def test_other_files_are_one_line(self, torch, tmp_path):
        path = tmp_path / "weights.pth"
        path.write_text("<html>Sign in to download</html>\n")
        refused(path)
        path.write_bytes(bytes(range(256)) * 10)
        refused(path)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        refused(path)
        torch.save([torch.zeros(2)], path)
        refused(path)
        torch.save({"state_dict": {"epoch": 3}}, path)
        refused(path)
