"""Reading JSON, writing files atomically, and text from elsewhere on a terminal."""

import json
import os
import re
from pathlib import Path

import pytest

from pare_jax.errors import UserError
from pare_jax.io import files
from pare_jax.io.files import is_scratch_of, printable, read_json, scratch_path, write_together


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[31mred\x9b\x07\x7f", "\\x1b[31mred\\x9b\\x07\\x7f"),
        ("gpj.\u202exe\u2066\u200f\u2028", "gpj.\\u202exe\\u2066\\u200f\\u2028"),
        ("caf\udce9", "caf\ufffd"),
        # A narrow space is in the names of macOS's screenshots, a joiner in emoji.
        ("9.41\u202fAM \u00e9\u00a0\u65e5\u672c \U0001f468\u200d\U0001f469", None),
    ],
)
def test_text_is_safe_to_print_in_one_line(text, shown):
    assert printable(text) == (text if shown is None else shown)


def test_scratch_names_are_new_and_recognised(tmp_path):
    for name in ("a.json", "x" * 250 + ".json", "\udce9" * 255, "line\n.json"):
        path = tmp_path / name
        first, second = scratch_path(path), scratch_path(path)
        assert first != second
        assert len(os.fsencode(first.name)) <= 255
        assert first.parent == tmp_path
    assert is_scratch_of(scratch_path(tmp_path / "a.json"), ".json")
    assert not is_scratch_of(scratch_path(tmp_path / "a.json"), ".html")
    assert not is_scratch_of(tmp_path / ".notes.json.partial", ".json")


def test_a_link_to_another_file_is_replaced_and_not_followed(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.txt").symlink_to(mine)
    (folder / ".a.txt.partial").symlink_to(mine)
    write_together(folder, {"a.txt": b"new", "b.txt": b"new"})
    assert mine.read_text() == "mine"
    assert (folder / "a.txt").read_text() == "new"
    assert not (folder / "a.txt").is_symlink()
    assert sorted(path.name for path in folder.iterdir()) == [".a.txt.partial", "a.txt", "b.txt"]


def test_if_one_file_cannot_be_written_none_appears(tmp_path):
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        write_together(tmp_path, {"c" * 300: b"", "a.txt": b""})
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


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


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"PARE_JAX_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/c/pare_jax"),
        ({"XDG_CACHE_HOME": "not/absolute", "HOME": "/d"}, "/d/.cache/pare_jax"),
    ],
)
def test_the_cache_folder_is_the_users(monkeypatch, variables, folder):
    for name in ("PARE_JAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert files.cache_folder() == Path(folder)
