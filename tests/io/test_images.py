"""Reading photographs of any format, refusing broken files, and cutting crops."""

import io
import re
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from pare_jax.errors import UserError
from pare_jax.io import images

# The colours of an image's corners, which show its orientation.
RED, GREEN, BLUE, GREY = (220, 30, 30), (30, 200, 40), (40, 50, 210), (128, 128, 128)


def corners(height: int = 24, width: int = 40) -> np.ndarray:
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    picture[height // 2 :, width // 2 :] = GREY
    return picture


def test_a_plain_image_is_rgb(tmp_path):
    for ending in ("png", "bmp", "tiff", "webp"):
        path = tmp_path / f"photo.{ending}"
        Image.fromarray(corners()).save(path, **({"lossless": True} if ending == "webp" else {}))
        picture = images.read_image(path)
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, corners())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_exif_orientation_is_applied(tmp_path, orientation, ending):
    upright = Image.fromarray(corners())
    # The transposition that a camera stores with this orientation, by the EXIF standard.
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = upright if stored is None else upright.transpose(stored)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{ending}"
    options = {"quality": 95, "subsampling": 0} if ending == "jpg" else {}
    image.save(path, exif=exif, **options)
    picture = images.read_image(path).astype(int)
    assert picture.shape == corners().shape
    centres = picture[[6, 6, 18, 18], [10, 30, 10, 30]]
    np.testing.assert_allclose(centres, [RED, GREEN, BLUE, GREY], atol=6)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA"])
def test_grey_and_palette_become_rgb(tmp_path, mode):
    Image.fromarray(corners()).convert("L").convert(mode).save(tmp_path / "photo.png")
    picture = images.read_image(tmp_path / "photo.png").astype(int)
    assert picture.shape == corners().shape
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])
    assert picture[..., 0].std() > 10


def test_sixteen_bits_are_scaled(tmp_path):
    deep = corners().astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "colour.png"), deep[..., ::-1])
    np.testing.assert_array_equal(images.read_image(tmp_path / "colour.png"), corners())
    cv2.imwrite(str(tmp_path / "grey.png"), deep[..., 0])
    grey = images.read_image(tmp_path / "grey.png")
    np.testing.assert_array_equal(grey, corners()[..., :1].repeat(3, -1))


def test_transparency_is_drawn_over_white(tmp_path):
    alpha = np.zeros((24, 40), np.uint8)
    alpha[:, 20:] = 255
    alpha[:6, 20:] = 128
    Image.fromarray(np.dstack([corners(), alpha])).save(tmp_path / "photo.png")
    picture = images.read_image(tmp_path / "photo.png")
    assert (picture[:, :20] == 255).all()
    np.testing.assert_array_equal(picture[6:, 20:], corners()[6:, 20:])
    half = 255 - (255 - np.array(GREEN)) * 128 / 255
    np.testing.assert_allclose(picture[0, 30], half, atol=1)


def test_cmyk_jpeg(tmp_path):
    Image.fromarray(corners()).convert("CMYK").save(tmp_path / "photo.jpg", quality=95)
    picture = images.read_image(tmp_path / "photo.jpg").astype(int)
    np.testing.assert_allclose(picture[6, 10], RED, atol=8)


def test_one_pixel(tmp_path):
    Image.fromarray(corners()[:1, :1]).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "photo.png"), [[RED]])


def broken_files() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3)).astype(np.uint8)
    whole = {}
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, kind)
        whole[kind] = buffer.getvalue()
    files = {f"cut.{kind.lower()}": data[: len(data) // 2] for kind, data in whole.items()}
    png = bytearray(whole["PNG"])
    png[len(png) // 2] ^= 255
    return files | {"empty.jpg": b"", "text.jpg": b"hello\n", "flipped.png": bytes(png)}


@pytest.mark.parametrize("name", sorted(broken_files()))
def test_what_is_not_a_whole_image_is_refused_in_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(broken_files()[name])
    with pytest.raises(UserError) as refusal:
        images.read_image(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "nowhere.jpg", tmp_path):
        with pytest.raises(UserError, match=str(path)):
            images.read_image(path)


def test_crop_of_whole_pixels_is_a_slice():
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    crop = images.cut_crop(picture, np.array([40.0, 30.0]), 32.0, 32)
    np.testing.assert_array_equal(crop, picture[14:46, 24:56])
    shrunk = images.cut_crop(picture, np.array([40.0, 30.0]), 32.0, 16)
    means = picture[14:46, 24:56].reshape(16, 2, 16, 2, 3).mean((1, 3))
    np.testing.assert_allclose(shrunk, means, atol=1)


def test_outside_the_photograph_is_black():
    picture = np.full((50, 50, 3), 200, np.uint8)
    crop = images.cut_crop(picture, np.array([0.0, 25.0]), 40.0, 20)
    assert (crop[:, :10] == 0).all()
    assert (crop[:, 10:] == 200).all()


@pytest.mark.parametrize("side", [37.0, 301.3, 1500.0])
def test_the_crop_agrees_with_its_affine(side):
    """The centre of a blob is where `crop_to_photo` maps it, to a tenth of a pixel."""
    size, centre = 64, np.array([801.3, 790.8])
    affine = images.crop_to_photo(centre, side, size)
    target = np.array([22.4, 41.7])
    x, y = affine[:, :2] @ target + affine[:, 2]
    rows, columns = np.mgrid[:1600, :1600] + 0.5
    spread = 3 * side / size
    blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2))
    picture = np.round(255 * blob[..., None].repeat(3, -1)).astype(np.uint8)
    crop = images.cut_crop(picture, centre, side, size)[..., 0].astype(float)
    grid = np.arange(size) + 0.5
    found = np.array([(crop.sum(0) * grid).sum(), (crop.sum(1) * grid).sum()]) / crop.sum()
    np.testing.assert_allclose(found, target, atol=0.1)


def test_a_crop_does_not_depend_on_pixels_outside_it():
    """A photograph and the same one inside a larger image give the same crop."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    wide = np.zeros((290, 320, 3), np.uint8)
    wide[100:190, 100:220] = picture
    for _ in range(40):
        centre, side = rng.uniform(-20, 140, 2), rng.uniform(4, 150)
        size = int(rng.integers(8, 64))
        crop = images.cut_crop(picture, centre, side, size).astype(int)
        expected = images.cut_crop(wide, centre + 100, side, size).astype(int)
        # OpenCV rounds coordinates to 1/32 of a pixel, sometimes to the other side.
        assert np.abs(crop - expected).max() <= 8
        assert np.abs(crop - expected).mean() < 0.2


def test_shrinking_does_not_alias():
    """Stripes finer than the crop's pixels become even grey, at every phase."""
    stripes = np.zeros((1500, 1500, 3), np.uint8)
    stripes[:, ::2] = 255
    for side in (700.0, 1400.0, 1491.0):
        crop = images.cut_crop(stripes, np.array([750.0, 750.0]), side, 64)
        np.testing.assert_allclose(crop.astype(float), 127.5, atol=14)


def test_a_huge_box_needs_no_huge_memory():
    crop = images.cut_crop(np.full((40, 40, 3), 255, np.uint8), np.array([20.0, 20.0]), 1e7, 64)
    assert crop.shape == (64, 64, 3)


def test_png_round_trip():
    decoded = cv2.imdecode(np.frombuffer(images.encode_png(corners()), np.uint8), 1)
    np.testing.assert_array_equal(decoded[..., ::-1], corners())


@pytest.mark.parametrize(("limit", "factor"), [(10**6, 1), (200_000, 2), (24_000, 4), (8_000, 8)])
def test_a_huge_jpeg_is_read_smaller(tmp_path, limit, factor):
    upright = np.kron(corners(60, 100), np.ones((8, 8, 1), np.uint8))
    Image.fromarray(upright).save(tmp_path / "photo.jpg", quality=95)
    photograph = images.read_photograph(tmp_path / "photo.jpg", max_pixels=limit)
    assert photograph.size == (800, 480)
    assert photograph.image.shape == (480 // factor, 800 // factor, 3)
    np.testing.assert_allclose(photograph.scale, 1 / factor)
    # A box in the file's pixels contains the same part of the photograph.
    x0, y0, x1, y1 = photograph.box_in_image((416, 16, 784, 224)).astype(int)
    np.testing.assert_allclose(photograph.image[y0:y1, x0:x1].mean((0, 1)), GREEN, atol=6)


def test_a_huge_jpeg_on_its_side(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(corners(240, 400)).save(tmp_path / "photo.jpg", exif=exif)
    photograph = images.read_photograph(tmp_path / "photo.jpg", max_pixels=30_000)
    assert photograph.size == (240, 400)
    assert photograph.image.shape == (200, 120, 3)


def test_other_photographs_are_read_at_full_size(tmp_path):
    Image.fromarray(corners()).save(tmp_path / "photo.png")
    photograph = images.read_photograph(tmp_path / "photo.png", max_pixels=10)
    np.testing.assert_array_equal(photograph.image, corners())
    assert photograph.size == (40, 24)
    Image.fromarray(corners(240, 400)).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    cmyk = images.read_photograph(tmp_path / "print.jpg", max_pixels=30_000)
    np.testing.assert_allclose(cmyk.image[30, 50].astype(int), RED, atol=8)


def test_too_many_pixels_are_refused_in_one_line(tmp_path, monkeypatch):
    Image.fromarray(corners(240, 400)).save(tmp_path / "photo.jpg")
    with pytest.raises(UserError, match="400 x 240"):
        images.read_photograph(tmp_path / "photo.jpg", max_pixels=1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    Image.fromarray(corners(240, 400)).save(tmp_path / "photo.png")
    for name in ("photo.png", "photo.jpg"):
        with pytest.raises(UserError, match=name):
            images.read_image(tmp_path / name)


@pytest.mark.parametrize("name", sorted(broken_files()))
def test_broken_photographs_are_refused_by_both_readers(tmp_path, name):
    (tmp_path / name).write_bytes(broken_files()[name])
    with pytest.raises(UserError, match=name):
        images.read_photograph(tmp_path / name)


def test_a_jpeg_is_reduced_as_far_as_the_caller_allows(tmp_path):
    """It is read at the smallest size whose longer side has enough pixels."""
    picture = np.zeros((120, 400, 3), np.uint8)
    picture[:, 200:] = 255
    (tmp_path / "photo.jpg").write_bytes(images.encode_jpeg(picture))
    for least, side in ((400, 400), (201, 400), (200, 200), (51, 100), (10, 50)):
        photograph = images.read_photograph(tmp_path / "photo.jpg", least_side=least)
        assert photograph.image.shape == (round(120 * side / 400), side, 3)
        assert photograph.size == (400, 120)
        assert photograph.image[:, : side // 2 - 4].max() < 10
        assert photograph.image[:, side // 2 + 4 :].min() > 245


def test_an_exif_tag_of_the_wrong_type_is_ignored(tmp_path):
    """Text instead of numbers in the width, the resolution, its unit and the chroma position."""
    stored = Image.fromarray(corners()).transpose(Image.Transpose.ROTATE_90)
    for tag in (0x0100, 0x011A, 0x0128, 0x0213):
        text = b"abcdefghijk\x00"
        entries = [
            struct.pack("<HHII", *entry)
            for entry in sorted([(0x0112, 3, 1, 6), (tag, 2, len(text), 38)])
        ]
        ifd = struct.pack("<H", 2) + b"".join(entries) + bytes(4)
        exif = b"Exif\x00\x00II*\x00" + struct.pack("<I", 8) + ifd + text
        for ending in ("jpg", "png"):
            path = tmp_path / f"{tag}.{ending}"
            stored.save(path, exif=exif, quality=95, subsampling=0)
            for picture in (images.read_image(path), images.read_photograph(path).image):
                assert picture.shape == corners().shape, hex(tag)
                np.testing.assert_allclose(picture[6, 10].astype(int), RED, atol=6)


@pytest.mark.parametrize(
    "error", [struct.error("unpack requires"), TypeError("no\nnumber"), KeyError(3)]
)
def test_any_error_of_a_decoder_becomes_one_line(tmp_path, monkeypatch, error):
    path = tmp_path / "photo.png"
    Image.fromarray(corners()).save(path)

    def fail(*_):
        raise error

    monkeypatch.setattr(Image.Image, "convert", fail)
    for read in (images.read_image, images.read_photograph):
        with pytest.raises(UserError, match=re.escape(str(path))) as refusal:
            read(path)
        assert "\n" not in str(refusal.value)


def test_too_little_memory_is_not_reported_as_a_broken_file(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.fromarray(corners()).save(path)

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(MemoryError):
        images.read_image(path)


# Rare pixels, against values known by construction and against OpenCV's reader.

DEEP = np.array([[0, 257, 10_000, 40_000, 65_535]], np.uint16)


def png(bits, colour, rows, transparent=b""):
    """Return a PNG file's bytes with a transparent colour; `rows` are packed samples."""
    width = len(rows[0]) * 8 // (bits * (3 if colour == 2 else 1))

    def chunk(name, data):
        whole = name + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *[(b"tRNS", transparent)] * bool(transparent)]
    parts += [(b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(bits, meaning, row, width, samples=1, sign=1):
    """Return a TIFF file's bytes with one row of packed samples; meaning 0: 0 is white."""
    depths = struct.pack(f"<{samples}H", *[bits] * samples).ljust(4, b"\0")
    entries = [
        (256, 4, 1, struct.pack("<I", width)),
        (257, 4, 1, struct.pack("<I", 1)),
        (258, 3, samples, depths if samples < 3 else struct.pack("<I", 200)),
        (259, 3, 1, struct.pack("<I", 1)),
        (262, 3, 1, struct.pack("<I", meaning)),
        (273, 4, 1, struct.pack("<I", 220)),
        (277, 3, 1, struct.pack("<I", samples)),
        (278, 4, 1, struct.pack("<I", 1)),
        (279, 4, 1, struct.pack("<I", len(row))),
        *[(339, 3, 1, struct.pack("<I", sign))] * (samples == 1),
    ]
    table = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return head.ljust(200, b"\0") + depths.ljust(20, b"\0") + row


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


# HEIC, raw files and other kinds.


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(tmp_path, orientation):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    from tests.io.test_exif import STORED

    about = Image.Exif()
    about[0x0112] = orientation
    turn = STORED[orientation]
    upright = Image.fromarray(corners(48, 80))
    stored = upright if turn is None else upright.transpose(turn)
    # Written both as the container's transformation and as a tag, as phones do.
    stored.save(tmp_path / "IMG_1.HEIC", format="HEIF", exif=about.tobytes(), quality=95)
    photograph = images.read_photograph(tmp_path / "IMG_1.HEIC")
    assert photograph.size == images.read_size(tmp_path / "IMG_1.HEIC")[0] == (80, 48)
    centres = photograph.image[[12, 12, 36, 36], [20, 60, 20, 60]].astype(int)
    np.testing.assert_allclose(centres, [RED, GREEN, BLUE, GREY], atol=12)


def test_heic_without_its_package_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "can_read_heif", lambda: False)
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    for read in (images.read_image, images.read_photograph, images.read_size):
        with pytest.raises(UserError, match=r"IMG_1\.HEIC.*pare-jax\[heif\]"):
            read(path)


@pytest.mark.parametrize("name", ["a.nef", "a.jxl", "a.xcf"])
def test_kinds_that_are_not_read_are_refused_with_the_way_out(tmp_path, name):
    """A raw file opens as a TIFF, whose only picture may be a thumbnail."""
    content = b"\xff\x0a" + bytes(40)
    if name == "a.nef":
        buffer = io.BytesIO()
        Image.new("RGB", (160, 120)).save(buffer, "TIFF")
        content = buffer.getvalue()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}.*(JPEG|PNG)"):
        images.read_image(tmp_path / name)


# Nothing of Pillow's and of its libraries reaches the terminal.

_READS = """
import sys
from pare_jax.errors import UserError
from pare_jax.io.images import read_photograph
for path in sys.argv[1:]:
    try:
        read_photograph(path)
    except UserError:
        pass
"""


def test_pillow_and_its_libraries_print_nothing(tmp_path):
    """Warnings of Python, a logged warning, and libtiff's own lines on stderr."""
    buffer = io.BytesIO()
    Image.fromarray(corners(240, 400)).save(buffer, "TIFF", compression="tiff_lzw")
    content = bytearray(buffer.getvalue())
    content[60:90] = b"\x99" * 30
    (tmp_path / "broken.tif").write_bytes(content)
    (tmp_path / "large.bmp").write_bytes(
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 12000, 12000, 1, 24, *[0] * 6)
    )
    exif = b"Exif\x00\x00II*\x00" + struct.pack("<IHHHII", 8, 9, 0x0112, 3, 1, 6)
    Image.fromarray(corners()).save(tmp_path / "tags.jpg", exif=exif)
    (tmp_path / "many.tif").write_bytes(tiff(8, 2, bytes(9), 1, samples=9))
    palette = Image.new("P", (3, 1))
    palette.putpalette([*RED, *GREEN, *BLUE])
    palette.save(tmp_path / "palette.png", transparency=bytes([255, 128, 255]))
    files = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", _READS, *files], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_threads_that_read_share_the_silence(tmp_path):
    """A thread that ends must neither end the others' silence nor leave its own behind."""
    before = list(warnings.filters)
    Image.fromarray(corners(240, 400)).save(tmp_path / "photo.png")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(images.read_image, [tmp_path / "photo.png"] * 64))
    assert warnings.filters == before
