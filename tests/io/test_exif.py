"""Orientation and focal length from EXIF tags."""

import numpy as np
import pytest
from PIL import Image

from pare_jax.io import exif
from pare_jax.io.images import read_photograph, read_size
from tests.io.oriented_pictures import STORED

TABLE = 0x8769


def save(path, size=(400, 300), orientation=None, **tags):
    """Write a picture with EXIF tags; "x920A" is tag 0x920A."""
    about = Image.Exif()
    if orientation is not None:
        about[0x0112] = orientation
    about.get_ifd(TABLE).update({int(name[1:], 16): value for name, value in tags.items()})
    Image.new("RGB", size, (90, 120, 150)).save(path, exif=about.tobytes())
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_turned_as_the_picture(orientation):
    """The reference turns a picture in which the box is white."""
    shown = np.zeros((30, 50, 3), np.uint8)
    shown[4:15, 7:20] = 255
    turn = STORED[orientation]
    stored = shown if turn is None else np.array(Image.fromarray(shown).transpose(turn))
    rows, columns = np.nonzero(stored[..., 0])
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    size = (stored.shape[1], stored.shape[0])
    assert exif.upright_box(box, orientation, size).tolist() == [7, 4, 20, 15]
    np.testing.assert_array_equal(exif.upright(stored, orientation), shown)
    assert exif.swaps_sides(orientation) == (size == (30, 50))


def test_a_box_with_swapped_corners_stays_wrong():
    assert exif.upright_box((9, 4, 2, 8), 3, (50, 30)).tolist() == [9, 4, 2, 8]


@pytest.mark.parametrize("ending", ["jpg", "png", "tiff", "webp", "avif"])
def test_size_and_orientation_of_every_format(tmp_path, ending):
    """TIFF is turned by Pillow, the others here; all say the same."""
    path = save(tmp_path / f"photo.{ending}", orientation=6)
    assert read_size(path) == ((300, 400), 6)
    photograph = read_photograph(path)
    assert (photograph.size, photograph.orientation) == ((300, 400), 6)
    assert photograph.image.shape == (400, 300, 3)


@pytest.mark.parametrize("ending", ["jpg", "png", "tiff", "webp", "avif", "heic"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_focal_length_is_that_of_the_film_equivalent(tmp_path, ending, orientation):
    """28 mm on film, whose diagonal is 43.27 mm; the picture's is 500 pixels."""
    if ending == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = save(tmp_path / f"photo.{ending}", orientation=orientation, xA405=28)
    assert read_photograph(path).focal_length == pytest.approx(28 / 43.2666 * 500, rel=1e-5)


def test_a_reduced_photograph_has_the_focal_length_of_its_file(tmp_path):
    path = save(tmp_path / "photo.jpg", xA405=28)
    small = read_photograph(path, least_side=100)
    assert small.image.shape == (75, 100, 3)
    assert small.focal_length == read_photograph(path).focal_length


@pytest.mark.parametrize(
    ("tags", "pixels"),
    [
        # 50 mm on a sensor with 4000 pixels in 36 mm, of which every tenth was kept.
        ({"x920A": 50.0, "xA20E": 4000 / 3.6, "xA210": 3, "xA002": 4000, "xA003": 3000}, 555.6),
        ({"x920A": 50.0, "xA20E": 4000 / 36 * 25.4, "xA002": 4000, "xA003": 3000}, 555.6),
        ({"x920A": 50.0, "xA20E": 400 / 36, "xA210": 4}, 555.6),
        # The equivalent for film comes first.
        ({"x920A": 50.0, "xA20E": 400 / 36, "xA210": 4, "xA405": 28}, 323.6),
        # A picture on its side after an editor wrote its size.
        ({"xA405": 28, "xA002": 3000, "xA003": 4000}, 323.6),
        # Cut off at the sides, so that the middle of the lens is unknown.
        ({"xA405": 28, "xA002": 4000, "xA003": 2000}, None),
        ({"xA405": 0}, None),
        ({"xA405": 60000}, None),
        ({"x920A": 4.2}, None),
        ({"x920A": 50.0, "xA20E": 1e9, "xA210": 3}, None),
        ({"x920A": 50.0, "xA20E": 400.0, "xA210": 1}, None),
        ({}, None),
    ],
)
def test_focal_lengths_of_cameras(tmp_path, tags, pixels):
    found = read_photograph(save(tmp_path / "photo.jpg", **tags)).focal_length
    assert found == (pixels and pytest.approx(pixels, rel=1e-3))


def test_tags_that_are_no_numbers_are_ignored(tmp_path):
    class Broken:
        def getexif(self):
            raise SyntaxError("not a TIFF file")

    assert exif.focal_length_of(Broken(), (40, 30)) is None  # pyright: ignore[reportArgumentType]
    assert read_photograph(save(tmp_path / "a.jpg", x920A="long")).focal_length is None
