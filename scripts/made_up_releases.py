"""Make small releases in the layouts of 3DPW and MPII, for benchmarks without the real ones.

    python scripts/made_up_releases.py --output=raw --photographs=16

It writes raw/3DPW, raw/MPII and raw/SMPL; the last holds the free body as male and female SMPL.

The photographs are JPEGs of 1920x1080 pixels: synthetic people in front of drawn backgrounds, with
a sensor's grain. Decoding time depends on the content, so all photographs differ and none is flat
or pure noise. The people's joints project to where they are drawn.
"""

import argparse
import dataclasses
import functools
import pickle
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from data_pipelines.preparing import processes
from data_pipelines.releases import mpii, pw3d
from data_pipelines.synthetic.backgrounds import draw_background
from data_pipelines.synthetic.scenery import Scene, draw_scene
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.body.io import FREE_BODY
from pare_jax.io.threads import count_cores
from pare_jax.skeleton import MPII_TO_SMPL, joint_index

WIDTH, HEIGHT = 1920, 1080
_FOCAL_LENGTH = 1960.0  # pixels, about a phone's
_CLUTTER = 0.8
_GRAIN = 1.5  # standard deviation of the sensor's noise, in grey levels
_DETAIL = 3.0  # standard deviation of each octave of brightness
_OCTAVES = (2, 4, 8, 16)  # sizes of the details, pixels
_NOTHING = np.zeros((0, 0))


@dataclasses.dataclass(frozen=True)
class _DrawnLabels:
    """A person in a photograph: joints in its pixels, and in the camera frame in metres."""

    pixels: Float[np.ndarray, "24 2"]
    joints: Float[np.ndarray, "24 3"]
    rotations: Float[np.ndarray, "24 3 3"]
    betas: Float[np.ndarray, "10"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the releases; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--photographs", type=int, default=96, help="of each release (default 96)")
    parser.add_argument("--quality", type=int, default=95, help="of the JPEGs (default 95)")
    flags = parser.parse_args(arguments)
    existing = [path for name in ("3DPW", "MPII") if (path := flags.output / name).exists()]
    if existing:
        print(f"made_up_releases: {existing[0]} exists; remove it", file=sys.stderr)
        return 2
    workers = count_cores()
    write_pw3d(flags.output / "3DPW", flags.photographs, flags.quality, workers)
    write_mpii(flags.output / "MPII", flags.photographs, flags.quality, workers)
    write_bodies(flags.output / "SMPL")
    print(f"written: 3DPW, MPII and SMPL in {flags.output}")
    return 0


def write_bodies(folder: Path) -> None:
    """Write the free body, with which the people are drawn, as male and female SMPL."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("SMPL_MALE.npz", "SMPL_FEMALE.npz"):
        shutil.copy(FREE_BODY, folder / name)


def write_pw3d(folder: Path, photographs: int, quality: int, workers: int) -> None:
    """Write a 3DPW release of two training sequences, with one and with two people.

    Args:
        folder: output folder.
        photographs: frames of both sequences together.
        quality: of the JPEGs, up to 100.
        workers: processes to draw with.
    """
    (folder / "sequenceFiles" / "train").mkdir(parents=True)
    for people in (1, 2):
        name = f"made_up_{people:02d}"
        pictures = folder / "imageFiles" / name
        pictures.mkdir(parents=True)
        frames = photographs // 2
        paths = [pictures / pw3d.picture_name(frame) for frame in range(frames)]
        drawn = _draw_all(paths, [people] * frames, people, quality, workers)
        path = folder / "sequenceFiles" / "train" / f"{name}.pkl"
        path.write_bytes(pickle.dumps(_sequence(name, drawn), protocol=2))


def write_mpii(folder: Path, photographs: int, quality: int, workers: int) -> None:
    """Write an MPII release with one or two people in each photograph.

    Args:
        folder: output folder.
        photographs: training images.
        quality: of the JPEGs, up to 100.
        workers: processes to draw with.
    """
    (folder / mpii.IMAGES).mkdir(parents=True)
    (folder / mpii.ANNOTATIONS).parent.mkdir()
    names = [f"{number:09d}.jpg" for number in range(photographs)]
    people = [1 + number % 2 for number in range(photographs)]
    paths = [folder / mpii.IMAGES / name for name in names]
    drawn = _draw_all(paths, people, 3, quality, workers)
    images = [_image(name, who) for name, who in zip(names, drawn, strict=True)]
    release = {"annolist": _structs(*images), "img_train": np.ones((1, len(images)), np.uint8)}
    savemat(folder / mpii.ANNOTATIONS, {"RELEASE": _structs(release)}, do_compression=True)


def _draw_all(
    paths: Sequence[Path], people: Sequence[int], seed: int, quality: int, workers: int
) -> list[list[_DrawnLabels]]:
    draw = functools.partial(_draw_photograph, seed=seed, quality=quality)
    with processes.pool(workers) as pool:
        return list(pool.map(draw, paths, people, range(len(paths))))


def _draw_photograph(
    path: Path, people: int, number: int, *, seed: int, quality: int
) -> list[_DrawnLabels]:
    """Draw and write a photograph; return its people."""
    rng = np.random.default_rng([seed, number])
    horizon = rng.uniform(0.3, 0.7) * HEIGHT
    settings = SyntheticSettings(clutter=_CLUTTER, truncation=0.0, mesh="full", seed=seed)
    picture = draw_background(rng, settings, WIDTH, horizon)[:HEIGHT].copy()
    drawn = [
        _add_person(rng, settings, picture, slot, people, 2 * number + slot)
        for slot in range(people)
    ]
    picture = cv2.add(picture, _detail(rng), dtype=cv2.CV_8U)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"cannot write {path}")
    return drawn


def _add_person(
    rng: np.random.Generator,
    settings: SyntheticSettings,
    picture: UInt8[np.ndarray, "1080 1920 3"],
    slot: int,
    slots: int,
    index: int,
) -> _DrawnLabels:
    """Draw a person and its crop's background into one of the picture's slots."""
    most = min(HEIGHT, WIDTH // slots)
    side = 2 * int(rng.uniform(0.6, 1.0) * most / 2)
    scene = draw_scene(dataclasses.replace(settings, image_size=side), "train", index)
    left = WIDTH // slots * slot + rng.integers(WIDTH // slots - side + 1)
    top = rng.integers(HEIGHT - side + 1)
    window = picture[top : top + side, left : left + side]
    on_photo = scene.crop.on_photo(side)
    window[on_photo] = scene.image[on_photo]
    return _place(scene, np.array([left, top], float))


def _detail(rng: np.random.Generator) -> np.ndarray:
    """Return grain, and detail of equal strength in each octave, which drawn surfaces lack."""
    detail = _GRAIN * rng.standard_normal((HEIGHT, WIDTH, 3), np.float32)
    for octave in _OCTAVES:
        shape = (HEIGHT // octave + 1, WIDTH // octave + 1)
        coarse = _DETAIL * rng.standard_normal(shape, np.float32)
        detail += cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)[..., None]
    return detail


def _place(scene: Scene, corner: Float[np.ndarray, "2"]) -> _DrawnLabels:
    """Return joints in the photograph's camera frame that project to the drawn pixels.

    The person turns with the ray to the pelvis, so that the camera sees the same side of the body.
    Only the strength of the perspective differs, as the distance does.
    """
    pixels = scene.joints_2d + corner
    rays = np.concatenate([pixels - [WIDTH / 2, HEIGHT / 2], np.zeros((len(pixels), 1))], axis=1)
    rays = rays / _FOCAL_LENGTH + [0, 0, 1]
    joints = scene.person.surface.joints.astype(float)
    turn = _turn(joints[0], rays[0])
    nearer = _FOCAL_LENGTH / (scene.camera.focal_length * scene.crop.scale)
    depths = joints[0, 2] * nearer + ((joints - joints[0]) @ turn.T)[:, 2]
    rotations = scene.person.rotations.copy()
    rotations[0] = turn @ rotations[0]
    return _DrawnLabels(pixels, rays * depths[:, None], rotations, scene.person.betas)


def _turn(one: Float[np.ndarray, "3"], other: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Return the smallest rotation that takes one direction to another."""
    one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
    axis = np.cross(one, other)
    length = np.linalg.norm(axis)
    angle = np.arctan2(length, one @ other)
    return Rotation.from_rotvec(axis * (angle / max(length, 1e-12))).as_matrix()


def _sequence(name: str, frames: Sequence[Sequence[_DrawnLabels]]) -> dict[str, Any]:
    """Return the fields of a sequence's pickle; the camera stays at the world's origin."""
    people = list(zip(*frames, strict=True))
    count = len(frames)
    intrinsics = [[_FOCAL_LENGTH, 0, WIDTH / 2], [0, _FOCAL_LENGTH, HEIGHT / 2], [0, 0, 1]]
    return {
        "sequence": name,
        "genders": ["m" if number % 2 == 0 else "f" for number in range(len(people))],
        "betas": [np.asarray(person[0].betas, float) for person in people],
        "poses": [np.stack([_axis_angles(frame) for frame in person]) for person in people],
        "trans": [np.stack([frame.joints[0] for frame in person]) for person in people],
        "jointPositions": [
            np.stack([frame.joints.ravel() for frame in person]) for person in people
        ],
        "poses2d": [np.ones((count, 3, 18)) for _ in people],
        "campose_valid": [np.ones(count, np.int64) for _ in people],
        "cam_poses": np.tile(np.eye(4), (count, 1, 1)),
        "cam_intrinsics": np.array(intrinsics),
        "img_frame_ids": 2 * np.arange(count),
    }


def _axis_angles(person: _DrawnLabels) -> Float[np.ndarray, "72"]:
    return Rotation.from_matrix(person.rotations).as_rotvec().ravel()


def _image(name: str, people: Sequence[_DrawnLabels]) -> dict[str, Any]:
    """Return an image's element of RELEASE.annolist."""
    return {
        "image": _structs({"name": name}),
        "annorect": _structs(*(_rect(person) for person in people)),
        "frame_sec": _NOTHING,
        "vididx": _NOTHING,
    }


def _rect(person: _DrawnLabels) -> dict[str, Any]:
    low, high = person.pixels.min(0), person.pixels.max(0)
    scale = float((high - low).max()) / 200
    position = (low + high) / 2
    position[1] -= 15 * scale
    head = person.pixels[joint_index("head")]
    corners = [*(head - 20 * scale), *(head + 20 * scale)]
    points = [
        {**_xy(person.pixels[ours]), "id": float(theirs), "is_visible": 1.0}
        for theirs, ours in MPII_TO_SMPL
    ]
    return {
        **dict(zip(("x1", "y1", "x2", "y2"), map(float, corners), strict=True)),
        "annopoints": _structs({"point": _structs(*points)}),
        "scale": scale,
        "objpos": _structs(_xy(position)),
    }


def _xy(pixels: Float[np.ndarray, "2"]) -> dict[str, float]:
    """Return a position in MATLAB's pixels, which count from 1, at their centres."""
    return {"x": float(pixels[0] + 0.5), "y": float(pixels[1] + 0.5)}


def _structs(*rows: Mapping[str, Any]) -> np.ndarray:
    """Return rows with the same keys as a MATLAB struct array."""
    array = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for place, row in enumerate(rows):
        array[0, place] = tuple(row.values())
    return array


if __name__ == "__main__":
    sys.exit(main())
