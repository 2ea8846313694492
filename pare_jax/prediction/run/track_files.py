"""Output files of the people of a clip, one set for each track.

They are written frame by frame: only a few meshes, pictures and descriptions are in memory at
once. Numbers take 2 to 4 kB for each frame of one person, see docs/video.md.
"""

import dataclasses
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.errors import counted
from pare_jax.io.images import Picture, cut_crop, encode_jpeg
from pare_jax.io.progress import ProgressBar
from pare_jax.io.threads import ordered_map
from pare_jax.io.video import VIDEO_SUFFIX, VideoWriter
from pare_jax.meshes.animation import animated_glb
from pare_jax.meshes.formats import mesh_bytes
from pare_jax.prediction.answers import Crop
from pare_jax.prediction.drawing import SHEET_CELL, attention_picture, person_colour
from pare_jax.prediction.person import Person, people_of_arrays
from pare_jax.prediction.person_files import (
    npz_bytes,
    npz_entry,
    people_arrays,
    people_json_parts,
    read_arrays,
)
from pare_jax.prediction.predictor import MAX_BATCH
from pare_jax.prediction.run.options import PredictionRun
from pare_jax.prediction.run.tracks import Rows, people_of_rows, rows_by_track
from pare_jax.prediction.scene import scene_meshes, track_motion
from pare_jax.prediction.tracking import TrackedBox
from pare_jax.rendering.overlay import bounds_in_views, side_and_back_view
from pare_jax.rendering.text import INK, draw_text

# Height of each panel of a side video, pixels.
_SIDE_HEIGHT = 480


def frames_left_out(count: int) -> list[str]:
    """Return the complaint about frames in which a prediction is not finite, if there are any."""
    reason = "the network's prediction is not finite"
    return [f"people are skipped in {counted(count, 'frame')}: {reason}"] if count else []


def in_size(picture: Picture, size: tuple[int, int]) -> Picture:
    """Return a frame in a video's size, (width, height); some recordings change theirs."""
    if picture.shape[1::-1] == size:
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


@dataclasses.dataclass(frozen=True)
class LargestView:
    """One person in one frame, for the attention sheet.

    Attributes:
        frame: its number.
        area: of the person's box within the frame, square pixels.
        crop: what the network sees, `SHEET_CELL` pixels a side.
    """

    frame: int
    area: float
    crop: Picture


class LargestViews:
    """Keeps, in files, the view of each person that shows most of the person."""

    def __init__(self, folder: Path):
        """Start without views; the folder exists and is empty."""
        self._folder = folder
        self._areas: dict[int, float] = {}

    def candidate(
        self, frame: int, tracked: TrackedBox, crop: Crop, image: Picture
    ) -> LargestView | None:
        """Return a view if it shows more of the person than those kept; None while hidden."""
        size = np.array(image.shape[1::-1])
        sides = np.minimum(crop.box[2:], size) - np.maximum(crop.box[:2], 0)
        area = float(np.maximum(sides, 0).prod())
        if not tracked.seen or area <= self._areas.get(tracked.id, 0.0):
            return None
        return LargestView(frame, area, cut_crop(image, crop.centre, crop.side, SHEET_CELL))

    def keep(self, number: int, view: LargestView, attention: Float[np.ndarray, "h w 24"]) -> None:
        """Keep a person's view with the network's attention unless a better one is kept."""
        if view.area > self._areas.get(number, 0.0):
            self._areas[number] = view.area
            arrays = {"frame": np.array(view.frame), "crop": view.crop, "attention": attention}
            content = npz_bytes(arrays)
            (self._folder / f"{number}.npz").write_bytes(content)

    def get(self, number: int) -> Mapping[str, np.ndarray] | None:
        """Return a person's `frame`, `crop` and `attention`; None without a kept view."""
        return read_arrays(self._folder / f"{number}.npz") if number in self._areas else None


def write_tracks(
    run: PredictionRun,
    folder: Path,
    name: str,
    clip: str,
    rows: Rows,
    views: LargestViews,
    frame_size: tuple[int, int],
    frame_rate: float,
) -> None:
    """Write the chosen outputs of every person of a clip, see `TrackFiles`.

    Args:
        run: has the chosen outputs.
        folder: where the files are written.
        name: the beginning of their names.
        clip: the clip's name, for JSON files.
        rows: of all people in all frames.
        views: for the attention sheets.
        frame_size: width and height, pixels.
        frame_rate: frames a second, the mean if it varies.
    """
    for number, which in rows_by_track(rows):
        path = folder / f"{name}_track_{number}"
        track = TrackFiles(run, path, rows, which, frame_size, frame_rate)
        track.write_numbers(clip)
        view = views.get(number)
        if view is not None:
            track.write_attention(view)
        if run.wants("side"):
            track.draw_side()
        for kind in ("obj", "ply"):
            if run.wants(kind):
                track.write_meshes(kind)


@dataclasses.dataclass(frozen=True)
class TrackFiles:
    """Writes the files of one person, whose body is posed a few frames at a time.

    `path` lacks the endings; `which` numbers the person's rows, by frame.
    """

    run: PredictionRun
    path: Path
    rows: Rows
    which: np.ndarray
    frame_size: tuple[int, int]
    frame_rate: float

    def write_numbers(self, clip: str) -> None:
        """Write the chosen ones of .json, .glb and .npz."""
        run = self.run
        if not run.wants("json", "npz", "glb"):
            return
        arrays = people_arrays(self._posed(vertices=False), None, self.frame_size, self.frame_rate)
        del arrays["vertices"]  # of no length
        if run.wants("json"):
            people = people_of_arrays(arrays)
            described = people_json_parts(
                people, None, self.frame_size, clip=clip, frame_rate=self.frame_rate
            )
            with self._file(".json").open("w", encoding="utf-8") as file:
                file.writelines(described)
        if run.wants("glb") and (body := run.predictor.body_data) is not None:
            motion = track_motion(people_of_arrays(arrays), self.frame_size)
            self._file(".glb").write_bytes(animated_glb(body, [motion]))
        if run.wants("npz"):
            self._write_npz(arrays)

    def write_attention(self, view: Mapping[str, np.ndarray]) -> None:
        """Write the attention sheet of one view, see `LargestViews.get`."""
        row = self.which[self.rows["frame"][self.which] == view["frame"]]
        (person,) = people_of_rows(self.run.predictor, self.rows, row, vertices=True)
        faces = self.run.predictor.faces
        sheet = attention_picture(view["crop"], person, view["attention"], faces)
        self._file("_attention.jpg").write_bytes(encode_jpeg(sheet))

    def draw_side(self) -> None:
        """Draw the body from the left and from behind, its pelvis kept in place, at one scale."""
        corners = [
            bounds_in_views(person.vertices - person.joints_3d[0], person.rotations[0])
            for person in self._posed()
        ]
        bounds = np.stack([np.min(corners, 0)[:, 0], np.max(corners, 0)[:, 1]], axis=1)
        faces = self.run.predictor.faces

        def draw(person: Person) -> tuple[float, Picture]:
            picture = side_and_back_view(
                person.vertices - person.joints_3d[0],
                faces,
                person.rotations[0],
                _SIDE_HEIGHT,
                colour=person_colour(person, 0),
                bounds=bounds,
            )
            draw_text(picture, f"frame {person.frame}", (10, 10), 11, INK)
            return person.time or 0.0, picture

        first = float(self.rows["time"][self.which[0]])
        with (
            VideoWriter(self._file(f"_side{VIDEO_SUFFIX}"), self.frame_rate) as writer,
            ProgressBar(f"{self.path.name}: side view", len(self.which)) as bar,
        ):
            for time, picture in ordered_map(draw, self._posed()):
                writer.write(picture, time - first)
                bar.advance()

    def write_meshes(self, kind: str) -> None:
        """Write a folder with a mesh for each frame, in the frame of the clip's one camera."""
        folder = self._file(f"_{kind}")
        folder.mkdir()
        faces = self.run.predictor.faces

        def write(person: Person) -> None:
            content = mesh_bytes(scene_meshes([person], self.frame_size, faces), f".{kind}")
            (folder / f"{person.frame:06}.{kind}").write_bytes(content)

        with ProgressBar(f"{folder.name}: meshes", len(self.which)) as bar:
            for _ in ordered_map(write, self._posed()):
                bar.advance()

    def _file(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

    def _posed(self, *, vertices: bool = True) -> Iterator[Person]:
        for start in range(0, len(self.which), MAX_BATCH):
            part = self.which[start : start + MAX_BATCH]
            people = people_of_rows(self.run.predictor, self.rows, part, vertices=vertices)
            yield from map(self.run.focal.of_input(self.frame_size).of, people)

    def _write_npz(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the track's .npz as `people_npz` does, meshes frame by frame."""
        with_meshes = self.run.wants("vertices")
        if with_meshes:
            arrays = {**arrays, "faces": np.asarray(self.run.predictor.faces, np.int32)}
        with zipfile.ZipFile(self._file(".npz"), "w", compresslevel=1) as archive:
            for name, value in arrays.items():
                # Arrays may be larger than 2 GiB.
                with archive.open(npz_entry(name, value.dtype), "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, value, allow_pickle=False)
            if with_meshes:
                shape = (len(self.which), self.run.predictor.body.num_vertices, 3)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                entry = npz_entry("vertices", np.float32)
                with archive.open(entry, "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    for person in self._posed():
                        file.write(np.ascontiguousarray(person.vertices, "<f4").tobytes())
