"""Kinds of files, by content and by name."""

import io

import pytest
from PIL import Image

from pare_jax.io import file_kinds
from pare_jax.io.file_kinds import HEIF, RAW, Unread, kind_of_file

BOX = b"\0\0\0\x18ftyp"
PACKET = b"G" + bytes(187)


def encoded(form):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000"])
def test_pictures_are_known_by_content(tmp_path, form):
    for name in ("IMG_1", "photo.mp4", "photo.large"):
        (tmp_path / name).write_bytes(encoded(form))
        assert kind_of_file(tmp_path / name) == "picture"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (BOX + b"isom\0\0\0\0isommp42", "video"),
        (BOX + b"qt  \0\0\0\0qt      ", "video"),
        (BOX + b"3gp4\0\0\0\0isom3gp4", "video"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video"),
        (b"\x1aE\xdf\xa3" + bytes(20), "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel", "video"),
        (b"\0\0\1\xba" + bytes(20), "video"),
        (b"\0\0\0\x10wide" + bytes(8) + b"\0\0\0\1mdat", "video"),
        (b"\0\0\0\x14pnot" + bytes(12) + b"\0\0\1\0moov", "video"),
        (b"\xf0\0\0\0mdat\0", "video"),
        (b"\0\0\0\x08free\0\0\0\x08skip" + bytes(16), None),
        (b"\0\0\0\x08free", None),
        (b"\0\0\0\x04wide\0\0\0\0mdat", None),
        (b"\0\0\0\2mdat", None),
        (b"\xf0\0\0\0moov\0", None),
        (PACKET * 5, "video"),
        ((b"\0\0\0\0" + PACKET) * 5, "video"),
        (PACKET * 2 + bytes(600), None),
        (b"G" + bytes(300), None),
        (BOX + b"M4A \0\0\0\0M4A mp42", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"BMI: 21 kg", None),
        (b"plain words", None),
        (b"", None),
        (BOX + b"crx \0\0\0\0crx isom", RAW),
    ],
)
def test_other_files_by_content(tmp_path, head, kind):
    (tmp_path / "file").write_bytes(head)
    assert kind_of_file(tmp_path / "file") == kind


TABLE = ("G" + "1,2,3,4,5,6" * 17 + "\n")[:187] + "\n"


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"Our {word} body\nis a figure of many triangles.\n"
            for word in ("free", "skip", "wide")
        ),
        *(f"The {word} files of 2024\n" for word in ("mdat", "moov", "pnot", "ftyp")),
        "\n\n\n\nfree\n\n\n\nmdat",
        *(TABLE * count for count in (2, 5, 9)),
        "    " + (TABLE + "    ") * 6,
    ],
)
def test_text_is_no_clip(tmp_path, text):
    (tmp_path / "notes.txt").write_text(text)
    assert kind_of_file(tmp_path / "notes.txt") is None


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        (b"heic\0\0\0\0mif1heic", "heif"),
        (b"mif1\0\0\0\0mif1heic", "heif"),
        (b"mif1\0\0\0\0avif", 0),
    ],
)
def test_heic_needs_its_package(tmp_path, monkeypatch, brands, kind):
    """AVIF, which has the same container, needs none."""
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(BOX + brands)
    for is_there in (True, False):
        monkeypatch.setattr(file_kinds, "can_read_heif", lambda is_there=is_there: is_there)
        assert kind_of_file(path) == (HEIF if kind == "heif" and not is_there else "picture")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", "picture"),
        ("a.jfif", "picture"),
        ("a.M2TS", "video"),
        ("a.3gp", "video"),
        ("a.mts", None),
        ("a.ts", None),
        ("a.txt", None),
        ("a.json", None),
        ("a", None),
        ("a.jpg~", None),
        ("a.jpg_original", None),
    ],
)
def test_names_decide_where_content_says_nothing(tmp_path, name, kind):
    assert kind_of_file(tmp_path / name) == kind
    (tmp_path / name).write_bytes(b"x")
    assert kind_of_file(tmp_path / name) == kind


@pytest.mark.parametrize("name", ["a.CR2", "a.nef", "a.dng", "a.psd", "a.jxl", "a.R3D", "a.THM"])
def test_kinds_that_are_not_read_have_a_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(encoded("TIFF"))
    kind = kind_of_file(tmp_path / name)
    assert isinstance(kind, Unread)
    assert kind.noun
    assert kind.way_out
