"""Writing files atomically, and text from elsewhere on a terminal."""

import os
import re

import pytest

from pare_jax.errors import UserError
from pare_jax.io.files import is_scratch_of, printable, scratch_path, write_together


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
