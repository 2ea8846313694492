"""The focal length of the camera that took a photograph: given, from EXIF tags, or assumed."""

import dataclasses
import math

from pare_jax.errors import UserError
from pare_jax.io.exif import FILM_DIAGONAL
from pare_jax.prediction.person import Person
from pare_jax.prediction.person_arrays import ASSUMED

# Focal lengths of lenses that exist, as shares of the picture's diagonal: 157 degrees to 1 degree.
_SHORTEST, _LONGEST = 0.1, 60.0
_WIDEST = 160.0  # degrees


@dataclasses.dataclass(frozen=True)
class FocalLength:
    """A focal length and its source.

    Attributes:
        pixels: of the photograph; None: unknown.
        source: "exif", "flag", "given" or "assumed".
    """

    pixels: float | None = None
    source: str = ASSUMED

    def of(self, person: Person) -> Person:
        """Return a person with this focal length of the whole photograph's camera."""
        return dataclasses.replace(
            person, full_focal_length=self.pixels, full_focal_length_from=self.source
        )


def given_focal_length(
    pixels: float | None, size: tuple[int, int], source: str = "given"
) -> FocalLength:
    """Return a focal length after checking that it fits a picture.

    Args:
        pixels: of the picture; None: unknown.
        size: its width and height, pixels.
        source: see `FocalLength`.

    Raises:
        UserError: no lens has this focal length.
    """
    if pixels is None:
        return FocalLength()
    diagonal = math.hypot(*size)
    low, high = _SHORTEST * diagonal, _LONGEST * diagonal
    if not low <= pixels <= high:
        raise UserError(
            f"a focal length of {pixels:g} pixels does not fit a picture of {size[0]} x {size[1]}: "
            f"give {low:.0f} to {high:.0f} pixels (28 mm, as an equivalent for 35 mm film, are "
            f"{28 / FILM_DIAGONAL * diagonal:.0f})"
        )
    return FocalLength(float(pixels), source)


@dataclasses.dataclass(frozen=True)
class FocalFlags:
    """The flags --focal and --fov, which describe the camera of all inputs.

    Attributes:
        pixels: the focal length, pixels of each input; None: not given.
        degrees: the angle of view across the longer side; None: not given.
    """

    pixels: float | None = None
    degrees: float | None = None

    def __post_init__(self):
        """Check the flags.

        Raises:
            UserError: both are given, or one is no focal length or angle.
        """
        if self.pixels is not None and self.degrees is not None:
            raise UserError("--focal and --fov say the same: give one of them")
        if self.pixels is not None and not 0 < self.pixels < math.inf:
            raise UserError(f"--focal={self.pixels:g} is no focal length: give pixels, above 0")
        if self.degrees is not None and not 1.0 <= self.degrees <= _WIDEST:
            raise UserError(
                f"--fov={self.degrees:g} is no angle of view: give 1 to {_WIDEST:.0f} degrees"
            )

    def of_input(self, size: tuple[int, int], from_exif: float | None = None) -> FocalLength:
        """Return the focal length of a photograph or clip.

        Args:
            size: its width and height, pixels.
            from_exif: what its file says, pixels; the flags come first.

        Raises:
            UserError: the flag's focal length does not fit this picture.
        """
        if self.degrees is not None:
            half = math.radians(self.degrees) / 2
            return FocalLength(max(size) / 2 / math.tan(half), "flag")
        if self.pixels is not None:
            return given_focal_length(self.pixels, size, "flag")
        return FocalLength() if from_exif is None else FocalLength(from_exif, "exif")
