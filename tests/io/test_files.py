"""Reading JSON: values, and texts that are damaged, nested or too large."""

import json

import pytest

from pare_jax.errors import UserError
from pare_jax.io import files
from pare_jax.io.files import read_json


def read(tmp_path, raw: bytes):
    (tmp_path / "a.json").write_bytes(raw)
    return read_json(tmp_path / "a.json", "ask for another")


@pytest.mark.parametrize("value", [None, 3, "caf\xe9", [], {}, {"a": [1, {"b": [[2.5]]}]}])
def test_content(tmp_path, value):
    assert read(tmp_path, json.dumps(value, ensure_ascii=False).encode()) == value
    assert read(tmp_path, b"\xef\xbb\xbf" + json.dumps(value).encode()) == value  # Windows' mark


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b'{"a": 1,\n "b": }', "line 2"),
        (b"", "line 1"),
        (b"# comment", "line 1"),
        (b'{"a": "\xe9"}', "UTF-8"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b"[" * 200_000, "nested"),
        (b"[" * 200_000 + b"]" * 200_000, "nested"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nested"),
        (b"9" * 100_000, "number"),
    ],
)
def test_the_place_of_the_damage_and_the_advice_are_named(tmp_path, raw, named):
    with pytest.raises(UserError, match=r"a\.json") as caught:
        read(tmp_path, raw)
    assert named in str(caught.value)
    assert str(caught.value).endswith("ask for another")
    assert str(caught.value).isprintable()


def test_large_files_are_refused_by_size_and_by_number_of_values(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LONGEST_JSON", 1000)
    monkeypatch.setattr(files, "_MOST_VALUES", 100)
    assert len(read(tmp_path, b"[" + b"1," * 99 + b"1]")) == 100
    assert read(tmp_path, b'["' + b"x" * 990 + b'"]') == ["x" * 990]
    for raw in (b"[" + b"1," * 100 + b"1]", b'"' + b"x" * 1000 + b'"'):
        with pytest.raises(UserError, match=r"a\.json"):
            read(tmp_path, raw)


def test_missing_files_are_left_to_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing.json")
