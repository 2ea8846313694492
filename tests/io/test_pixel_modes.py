"""Rare pixels, against values known by construction and against OpenCV's reader."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from pare_jax.errors import UserError
from pare_jax.io import images
from tests.io.oriented_pictures import BLUE, GREEN, RED, corners
from tests.io.picture_bytes import png, tiff

DEEP = np.array([[0, 257, 10_000, 40_000, 65_535]], np.uint16)


def greys(values):
    return np.repeat(np.array([values], np.uint8)[..., None], 3, -1)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        # The transparent colour is white; others keep their value.
        ("g16.png", png(16, 0, [DEEP.astype(">u2").tobytes()], b"\x27\x10"), [0, 1, 255, 156, 255]),
        ("g8.png", png(8, 0, [bytes([0, 10, 200])], b"\0\x0a"), [0, 255, 200]),
        ("g4.png", png(4, 0, [bytes([0x03, 0x7F])], b"\0\3"), [0, 255, 119, 255]),
        ("g2.png", png(2, 0, [bytes([0b00011011])], b"\0\2"), [0, 85, 255, 255]),
        ("g1.png", png(1, 0, [bytes([0b01000100])], b"\0\0"), [255] * 8),
        ("wide.png", png(16, 0, [DEEP.astype(">u2").tobytes()]), [0, 1, 39, 156, 255]),
        # 0 is white, then 0 is black.
        ("w16.tif", tiff(16, 0, DEEP.tobytes(), 5), [255, 254, 216, 99, 0]),
        ("b16.tif", tiff(16, 1, DEEP.tobytes(), 5), [0, 1, 39, 156, 255]),
        ("b12.tif", tiff(12, 1, bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0]), 3), [0, 128, 255]),
        ("w8.tif", tiff(8, 0, bytes([0, 55, 255]), 3), [255, 200, 0]),
        ("w4.tif", tiff(4, 0, bytes([0x0F]), 2), [255, 0]),
        ("w1.tif", tiff(1, 0, bytes([0b01000000]), 2), [255, 0]),
        ("b1.tif", tiff(1, 1, bytes([0b01000000]), 2), [0, 255]),
        ("deep.pgm", b"P5 3 1 1023\n" + struct.pack(">3H", 0, 512, 1023), [0, 128, 255]),
    ],
)
def test_grey_of_any_depth(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    for picture in (images.read_image(tmp_path / name), images.read_photograph(tmp_path / name)):
        pixels = picture if isinstance(picture, np.ndarray) else picture.image
        np.testing.assert_array_equal(pixels, greys(expected))


def test_a_transparent_colour_of_sixteen_bits_is_compared_in_all_bits(tmp_path):
    row = struct.pack(">9H", 10_000, 20_000, 30_000, 10_001, 20_000, 30_000, 0, 65_535, 257)
    content = png(16, 2, [row], struct.pack(">3H", 10_000, 20_000, 30_000))
    (tmp_path / "photo.png").write_bytes(content)
    expected = [[[255, 255, 255], [39, 78, 117], [0, 255, 1]]]
    np.testing.assert_array_equal(images.read_image(tmp_path / "photo.png"), expected)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("rgb.tif", tiff(16, 2, struct.pack("<3H", 65_535, 40_000, 257), 1, 3), (255, 156, 1)),
        ("cmyk.tif", tiff(8, 5, bytes([0, 255, 255, 0]), 1, 4), (255, 0, 0)),
        ("cmyk16.tif", tiff(16, 5, struct.pack("<4H", 0, 0, 0, 32_896), 1, 4), (127, 127, 127)),
        # sRGB's red in CIE Lab with the light D50: 54.3, 80.8, 69.9; and a grey.
        ("lab.tif", tiff(8, 8, bytes([138, 81, 70]), 1, 3), (254, 0, 0)),
        ("grey.tif", tiff(8, 8, bytes([128, 0, 0]), 1, 3), (119, 119, 119)),
    ],
)
def test_colours_of_print_and_of_sixteen_bits(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    found = images.read_image(tmp_path / name)[0, 0].astype(int)
    np.testing.assert_allclose(found, expected, atol=6 if name == "lab.tif" else 1)


@pytest.mark.parametrize("form", ["L", "RGB", "P", "1"])
@pytest.mark.parametrize("packing", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_packed_tiffs_are_as_opencv_reads_them(tmp_path, form, packing):
    path = tmp_path / "photo.tif"
    Image.fromarray(corners()).convert(form).save(path, compression=packing)
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(images.read_image(path), expected)


def test_palettes_with_transparency(tmp_path):
    """One transparent entry, or a degree of transparency for each entry."""
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putdata([0, 1, 2])
    for transparency, second in ((1, (255, 255, 255)), (bytes([255, 128, 255]), (142, 227, 148))):
        picture.save(tmp_path / "photo.png", transparency=transparency)
        found = images.read_image(tmp_path / "photo.png").astype(int)
        np.testing.assert_allclose(found, [[RED, second, BLUE]], atol=1)
    picture.save(tmp_path / "photo.gif", transparency=1)
    found = images.read_image(tmp_path / "photo.gif")
    np.testing.assert_array_equal(found, [[RED, (255, 255, 255), BLUE]])


def test_a_jpeg_of_luma_and_black_as_printers_write_it(tmp_path):
    """Adobe's YCCK: inverted CMYK whose first three channels are luma and chroma."""
    inverted = 255 - np.array(RED, float)
    luma = inverted @ (0.299, 0.587, 0.114)
    chroma = [128 + (inverted[2] - luma) / 1.772, 128 + (inverted[0] - luma) / 1.402]
    stored = np.round([luma, *chroma, 255]).astype(np.uint8)
    # Pillow stores the opposite of each number, and says with a 0 that they are CMYK.
    picture = Image.fromarray(np.tile(255 - stored, (16, 16, 1)), "CMYK")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=98)
    content = bytearray(buffer.getvalue())
    place = content.index(b"Adobe") + 11
    assert content[place] == 0
    content[place] = 2
    (tmp_path / "photo.jpg").write_bytes(content)
    found = images.read_image(tmp_path / "photo.jpg")[8, 8].astype(int)
    np.testing.assert_allclose(found, RED, atol=4)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("32.tif", tiff(32, 1, struct.pack("<2I", 0, 4_000_000_000), 2)),
        ("signed.tif", tiff(16, 1, struct.pack("<2h", -4, 9000), 2, sign=2)),
        ("float.tif", tiff(32, 1, struct.pack("<2f", 0.0, 1.0), 2, sign=3)),
    ],
)
def test_pixels_without_a_fixed_range_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        images.read_image(tmp_path / name)
