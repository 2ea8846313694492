"""The files about those who move through a clip, written frame by frame where they grow with it.

So the length of a clip costs little memory: of meshes, pictures and descriptions only a few frames
are there at once, and of numbers 2 kB for each frame of one person, or twice that (docs/video.md).
"""

import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from pare_jax.errors import counted
from pare_jax.io.files import replacing, write_atomically, write_together
from pare_jax.io.images import Picture, encode_jpeg
from pare_jax.io.threads import ordered_map
from pare_jax.io.video import VideoWriter
from pare_jax.meshes.animation import animated_glb
from pare_jax.meshes.formats import mesh_bytes
from pare_jax.prediction.drawing import attention_picture, person_colour
from pare_jax.prediction.person import Person, people_of_arrays
from pare_jax.prediction.person_files import npz_entry, people_arrays, people_json_parts
from pare_jax.prediction.predictor import MAX_BATCH
from pare_jax.prediction.run.chunks import Rows
from pare_jax.prediction.run.largest import LargestView
from pare_jax.prediction.run.options import PredictionRun
from pare_jax.prediction.run.records import remove_meshes
from pare_jax.prediction.run.tracks import people_of_rows
from pare_jax.prediction.scene import scene_meshes, track_motion
from pare_jax.rendering.overlay import side_and_back_view
from pare_jax.rendering.text import INK, draw_text

MESH_KINDS = ("obj", "ply")
# Of each of the two panels of a video from the side, pixels.
_SIDE_HEIGHT = 480
# Bytes from which on an array's place in an archive is told in 64 bits; they would do to 2 GiB.
_LONG = 1 << 30


def video_suffix() -> str:
    """Return the ending of videos: H.264 where PyAV is installed, else VP8."""
    try:
        import av  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return ".webm"
    return ".mp4"


def left_out(frames: int) -> tuple[str, ...]:
    """Return what is to be said about frames in which an answer of the network was not finite."""
    if not frames:
        return ()
    return (
        f"people are left out of {counted(frames, 'frame')}: the network's answer is not finite",
    )


class ClipFiles:
    """Writes the files about a clip and notes, before each appears, that it is intended.

    Attributes:
        files: names of those written so far.
        meshes: folders of meshes, and how many each holds.
    """

    def __init__(
        self,
        run: PredictionRun,
        name: str,
        source: str,
        place: str,
        frame_size: tuple[int, int],
        frame_rate: float,
    ):
        """Begin with none.

        Args:
            run: says which are wanted.
            name: what they are called after.
            source: what the user knows the clip by.
            place: see `pare_jax.prediction.box_files.place_of`.
            frame_size: width and height, pixels.
            frame_rate: frames a second.
        """
        self._run, self._name, self._source, self._place = run, name, source, place
        self._size, self._rate = frame_size, frame_rate
        self.files: list[str] = []
        self.meshes: dict[str, int] = {}

    def intend(self, *files: str) -> None:
        """Note that files are about to be written."""
        self.files += files
        run = self._run
        run.records.intend(self._name, self._source, self._place, self.files, self.meshes)

    def write_track(
        self, number: int, rows: Rows, which: np.ndarray, view: LargestView | None
    ) -> None:
        """Write what is wanted about one person.

        Args:
            number: the person's id.
            rows: of all people in all frames.
            which: numbers of the person's rows, by frame.
            view: for the sheet of attention; None: there is none.

        Raises:
            UserError: something cannot be written.
        """
        run, name = self._run, f"{self._name}_track_{number}"
        track = _AnimatedTrack(run, name, rows, which)
        kinds = [kind for kind in MESH_KINDS if run.wants(kind)]
        endings = {
            "json": ".json",
            "npz": ".npz",
            "glb": ".glb",
            "attention": "_attention.jpg",
            "side": f"_side{video_suffix()}",
        }
        wanted = {output for output in endings if run.wants(output)}
        if run.predictor.body_data is None:
            wanted.discard("glb")
        if view is None:
            wanted.discard("attention")
        self.meshes |= {f"{name}_{kind}": len(which) for kind in kinds}
        self.intend(*(name + ending for output, ending in endings.items() if output in wanted))
        files = {output: run.output / (name + ending) for output, ending in endings.items()}
        if wanted & {"json", "npz", "glb"}:
            self._write_numbers(track, wanted, files)
        if view is not None and "attention" in wanted:
            write_atomically(files["attention"], encode_jpeg(track.attention_sheet(view)))
        if "side" in wanted:
            track.draw_side(files["side"], self._rate)
        for kind in kinds:
            track.write_meshes(run.output / f"{name}_{kind}", kind, self._size)

    def _write_numbers(
        self, track: "_AnimatedTrack", wanted: Collection[str], files: Mapping[str, Path]
    ) -> None:
        run = self._run
        numbers = people_arrays(track.posed(vertices=False), None, self._size, self._rate)
        del numbers["vertices"]  # of no length
        if "json" in wanted:
            described = people_json_parts(people_of_arrays(numbers), self._source, self._size)
            with replacing(files["json"]) as scratch, scratch.open("w", encoding="utf-8") as file:
                file.writelines(described)
        if "glb" in wanted:
            assert run.predictor.body_data is not None
            motion = track_motion(people_of_arrays(numbers), self._size)
            content = animated_glb(run.predictor.body_data, [motion], self._rate)
            write_atomically(files["glb"], content)
        if "npz" in wanted:
            track.write_arrays(numbers, files["npz"], with_meshes=run.wants("vertices"))


class _AnimatedTrack:
    """One person's rows, posed a few frames at a time."""

    def __init__(self, run: PredictionRun, name: str, rows: Rows, which: np.ndarray):
        self._run, self._name, self._rows, self._which = run, name, rows, which

    def posed(self, *, vertices: bool = True) -> Iterator[Person]:
        for start in range(0, len(self._which), MAX_BATCH):
            part = self._which[start : start + MAX_BATCH]
            yield from people_of_rows(self._run.predictor, self._rows, part, vertices=vertices)

    def attention_sheet(self, view: LargestView) -> Picture:
        assert view.attention is not None
        frames = self._rows["frame"][self._which]
        row = self._which[frames == view.frame]
        (person,) = people_of_rows(self._run.predictor, self._rows, row, vertices=True)
        return attention_picture(view.crop, person, view.attention, self._run.predictor.faces)

    def draw_side(self, path: Path, frame_rate: float) -> None:
        """Draw the body from the side and from behind, its pelvis kept in place, at one scale."""
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for person in self.posed():
            about_pelvis = person.vertices - person.joints_3d[0]
            low = np.minimum(low, about_pelvis.min(0))
            high = np.maximum(high, about_pelvis.max(0))
        bounds, faces = np.stack([low, high]), self._run.predictor.faces

        def draw(person: Person) -> tuple[int, Picture]:
            picture = side_and_back_view(
                person.vertices - person.joints_3d[0],
                faces,
                _SIDE_HEIGHT,
                colour=person_colour(person, 0),
                bounds=bounds,
            )
            frame = person.frame or 0
            draw_text(picture, f"frame {frame}", (10, 10), 11, INK)
            return frame, picture

        first = int(self._rows["frame"][self._which[0]])
        with (
            VideoWriter(path, frame_rate) as writer,
            self._run.reporter.bar(f"{self._name}: from the side", len(self._which)) as bar,
        ):
            shown: Picture | None = None
            for frame, picture in ordered_map(draw, self.posed()):
                # The clock is the clip's: who is away for some frames stands still.
                while shown is not None and writer.num_frames < frame - first:
                    writer.write(shown)
                writer.write(picture)
                shown = picture
                bar.advance()

    def write_meshes(self, folder: Path, kind: str, frame_size: tuple[int, int]) -> None:
        """Write a mesh for each frame, in the frame of the clip's one camera."""
        remove_meshes(folder)
        write_together(folder, {})
        faces = self._run.predictor.faces

        def write(person: Person) -> None:
            content = mesh_bytes(scene_meshes([person], frame_size, faces), f".{kind}")
            write_atomically(folder / f"{person.frame:06}.{kind}", content)

        with self._run.reporter.bar(f"{folder.name}: meshes", len(self._which)) as bar:
            for _ in ordered_map(write, self.posed()):
                bar.advance()

    def write_arrays(
        self, numbers: Mapping[str, np.ndarray], path: Path, *, with_meshes: bool
    ) -> None:
        """Write the track's .npz, as `people_npz` would."""
        arrays = dict(numbers)
        if with_meshes:
            arrays["faces"] = np.asarray(self._run.predictor.faces, np.int32)
        with (
            replacing(path) as scratch,
            zipfile.ZipFile(scratch, "w", compresslevel=1) as archive,
        ):
            for name, value in arrays.items():
                entry = npz_entry(name, value.dtype)
                with archive.open(entry, "w", force_zip64=value.nbytes > _LONG) as file:
                    np.lib.format.write_array(file, value, allow_pickle=False)
            if with_meshes:
                shape = (len(self._which), self._run.predictor.body.num_vertices, 3)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                entry = npz_entry("vertices", np.float32)
                with archive.open(entry, "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    for person in self.posed():
                        file.write(np.ascontiguousarray(person.vertices, "<f4").tobytes())
