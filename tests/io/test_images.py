"""Reading photographs of any format, refusing broken files, and cutting crops."""

import io
import re
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from pare_jax.errors import UserError
from pare_jax.io import images
from tests.io.oriented_pictures import BLUE, GREEN, GREY, RED, STORED, corners
from tests.io.picture_bytes import tiff


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
    stored = STORED[orientation]
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


# HEIC, raw files and other kinds.


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(tmp_path, orientation):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()

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
