"""Of each person of a clip the frame that shows most of the person, for the sheet of attention."""

import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pare_jax.io.files import remove_files, write_together
from pare_jax.io.images import Picture, cut_crop
from pare_jax.prediction.answers import Crop
from pare_jax.prediction.drawing import SHEET_CELL
from pare_jax.prediction.run.chunks import read_arrays
from pare_jax.prediction.tracking import TrackedBox

_FILE = re.compile(r"view_(\d+)\.npz")


@dataclasses.dataclass(frozen=True)
class LargestView:
    """One person in one frame.

    Attributes:
        frame: its number.
        area: of the person's box within the frame, square pixels.
        crop: what the network saw, `SHEET_CELL` pixels a side.
        attention: the network's, where it answered; None as long as it has not.
    """

    frame: int
    area: float
    crop: Picture
    attention: Float[np.ndarray, "h w 24"] | None = None


class LargestViews:
    """Keeps one view of each person, on disk where there is a folder, so that a clip can go on."""

    def __init__(self, folder: Path | None = None):
        """Find the views that are there already.

        Args:
            folder: of the clip's scratch files; None: all is kept in memory.
        """
        self._folder = folder
        self._areas: dict[int, float] = {}
        self._unsaved: dict[int, LargestView] = {}
        self._damaged: list[Path] = []
        for path in folder.glob("view_*.npz") if folder is not None else ():
            if name := _FILE.fullmatch(path.name):
                if (view := read_arrays(path)) is None:
                    self._damaged.append(path)
                else:
                    self._areas[int(name[1])] = float(view["area"])

    @property
    def is_damaged(self) -> bool:
        """Whether a view could not be read: only all frames together have the largest again."""
        return bool(self._damaged)

    def drop_damaged(self) -> None:
        """Remove the views that could not be read."""
        remove_files(self._damaged)
        self._damaged.clear()

    def candidate(
        self, frame: int, tracked: TrackedBox, crop: Crop, image: Picture
    ) -> LargestView | None:
        """Return a view if it shows more of the person than all before; of the hidden, none."""
        area = _area_within(crop.box, image.shape)
        if not tracked.seen or area <= self._areas.get(tracked.id, 0.0):
            return None
        return LargestView(frame, area, cut_crop(image, crop.centre, crop.side, SHEET_CELL))

    def keep(self, number: int, view: LargestView, attention: np.ndarray) -> None:
        """Take a person's view with the network's attention, unless there is a better one."""
        if view.area > self._areas.get(number, 0.0):
            self._areas[number] = view.area
            self._unsaved[number] = dataclasses.replace(view, attention=attention)

    def save(self) -> None:
        """Write what is new; call it before what is known of these frames counts as done."""
        if self._folder is None:
            return
        for number, view in self._unsaved.items():
            buffer = io.BytesIO()
            np.savez(buffer, **vars(view))
            write_together(self._folder, {f"view_{number}.npz": buffer.getvalue()})
        self._unsaved.clear()

    def get(self, number: int) -> LargestView | None:
        """Return a person's view; None where the network never had attention."""
        if number in self._unsaved or self._folder is None:
            return self._unsaved.get(number)
        if number not in self._areas:
            return None
        view = read_arrays(self._folder / f"view_{number}.npz")
        if view is None:
            return None
        return LargestView(int(view["frame"]), float(view["area"]), view["crop"], view["attention"])


def _area_within(box: Float[np.ndarray, "4"], shape: Sequence[int]) -> float:
    size = np.array([shape[1], shape[0]])
    return float(np.maximum(np.minimum(box[2:], size) - np.maximum(box[:2], 0), 0).prod())
