"""`PersonArrays`: the parameters, body and camera of one predicted person.

`person.Person` adds methods that draw and save. Coordinates follow `data_pipelines/example.py`:
pixels of the photograph are continuous with the origin at the top-left corner; the camera frame is
x right, y down, z forward, in metres. Needs no JAX.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from pare_jax.errors import UserError
from pare_jax.io.images import crop_to_photo
from pare_jax.keypoints.sets import find_set
from pare_jax.rendering.camera import Camera

Faces = Int[np.ndarray, "faces 3"]


# Fields of people with keypoints, and of bodies that were fitted to them.
KEYPOINT_FIELDS = ("keypoints", "keypoint_set", "fit_error", "fit_problems", "fit_ignored")
# The value of `fit_problems` in files for a body that was not fitted where others were.
NOT_FITTED = "not fitted"
# Source of an unknown focal length.
ASSUMED = "assumed"
# Fields that concern the whole photograph, which files store once.
_OF_PHOTOGRAPH = ("faces", "full_focal_length", "full_focal_length_from", "keypoint_set")


@dataclasses.dataclass(frozen=True, repr=False)
class PersonArrays:
    """One person's parameters, body and camera.

    The camera is the crop's, in pixels of the photograph: its axes are those of the crop's camera,
    its principal point is the crop's centre, and its focal length is 5000 pixels of a 224-pixel
    crop. It therefore projects to the same pixels as the crop's camera.

    Attributes:
        betas: shape coefficients.
        rotations: of each joint relative to its parent, the root's into the camera frame.
        pose: the rotations as 24 axis-angle vectors, radians, flattened.
        camera_crop: the crop camera (s, tx, ty), see `pare_jax.geometry.camera_translation`.
        translation: of the body in the camera frame, metres; joints_3d and vertices include it.
        focal_length: pixels of the photograph.
        principal_point: pixels of the photograph (x, y).
        joints_3d: camera frame, metres.
        joints_2d: pixels of the photograph; they may lie outside of it.
        vertices: camera frame, metres.
        box: the person's box (x0, y0, x1, y1), pixels of the photograph.
        crop_centre: pixels of the photograph.
        crop_side: pixels of the photograph.
        attention: each joint's attention map over the crop, summing to 1; None for a network
            without attention.
        faces: triangles of the mesh, counter-clockwise seen from outside; one array for all people
            of a predictor.
        id: of the track; None in photographs.
        frame: number of the clip's frame, from 0.
        score: of the detection, 0 to 1; None for a box from the user.
        time: of the clip's frame, seconds from the clip's first frame; None in photographs.
        full_focal_length: of the camera that took the photograph, pixels; None: unknown, and
            `pare_jax.prediction.scene` assumes the diagonal.
        full_focal_length_from: where it comes from: "exif", "flag", "given" or "assumed".
        keypoints: x, y in pixels of the photograph and confidence, 0 to 1, of each point of the
            set; confidence 0: unknown. None: no keypoints were used.
        keypoint_set: the set's name, as `pare_jax.keypoints.sets.find_set` knows it.
        fit_error: of a body that was fitted to the keypoints: mean distance of the keypoints that
            count from the body's points, in shares of the longer side of their extent. None: the
            body was not fitted.
        fit_problems: why the fit is bad; "" for a good one.
        fit_ignored: whether each point of the set is too far from the body to count.
    """

    betas: Float[np.ndarray, "10"]
    rotations: Float[np.ndarray, "24 3 3"]
    pose: Float[np.ndarray, "72"]
    camera_crop: Float[np.ndarray, "3"]
    translation: Float[np.ndarray, "3"]
    focal_length: float
    principal_point: Float[np.ndarray, "2"]
    joints_3d: Float[np.ndarray, "24 3"]
    joints_2d: Float[np.ndarray, "24 2"]
    vertices: Float[np.ndarray, "vertices 3"]
    box: Float[np.ndarray, "4"]
    crop_centre: Float[np.ndarray, "2"]
    crop_side: float
    attention: Float[np.ndarray, "h w 24"] | None = None
    faces: Int[np.ndarray, "faces 3"] | None = dataclasses.field(default=None, repr=False)
    id: int | None = None
    frame: int | None = None
    score: float | None = None
    time: float | None = None
    full_focal_length: float | None = None
    full_focal_length_from: str = ASSUMED
    keypoints: Float[np.ndarray, "k 3"] | None = None
    keypoint_set: str | None = None
    fit_error: float | None = None
    fit_problems: str | None = None
    fit_ignored: Bool[np.ndarray, " k"] | None = None

    def __repr__(self) -> str:
        """Return one line: box, place in the clip, score, and number of vertices."""
        x0, y0, x1, y1 = np.asarray(self.box, np.float64)
        parts = [f"box=({x0:.0f}, {y0:.0f}, {x1:.0f}, {y1:.0f})"]
        known = {"id": self.id, "frame": self.frame}
        parts += [f"{name}={value}" for name, value in known.items() if value is not None]
        if self.score is not None:
            parts.append(f"score={self.score:.2f}")
        return f"{type(self).__name__}({', '.join(parts)}, {len(self.vertices)} vertices)"

    @property
    def camera(self) -> Camera:
        """The person's camera in pixels of the photograph, for drawing functions."""
        x, y = self.principal_point
        return Camera(self.focal_length, (float(x), float(y)))

    @property
    def crop_to_photo(self) -> Float[np.ndarray, "2 3"]:
        """The affine from crop units, [-1, 1] over the crop, to pixels of the photograph."""
        affine = crop_to_photo(self.crop_centre, self.crop_side, 2)
        affine[:, 2] = self.crop_centre
        return affine

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every field of this person by name, except those that are None.

        `id` and `frame` are int32, `time` is float64, `fit_problems` is text, `fit_ignored` is
        bool, all others float32.
        """
        fields = {name: getattr(self, name) for name in PERSON_FIELDS}
        kinds = {"id": np.int32, "frame": np.int32, "time": np.float64}
        kinds |= {"fit_problems": np.str_, "fit_ignored": np.bool_}
        return {
            name: np.asarray(value, kinds.get(name, np.float32))
            for name, value in fields.items()
            if value is not None
        }

    def body_keypoints(self) -> Float[np.ndarray, "points 3"] | None:
        """Return the keypoints as body points, zeros where unknown; None without keypoints."""
        if self.keypoints is None or self.keypoint_set is None:
            return None
        return find_set(self.keypoint_set).spread(self.keypoints)

    def triangles(self, faces: Faces | None = None) -> Faces:
        """Return `faces`, or the person's own if it is None.

        Raises:
            UserError: both are None.
        """
        faces = self.faces if faces is None else faces
        if faces is None:
            raise UserError("this person has no faces: pass the predictor's, `predictor.faces`")
        return faces


# Names of a person's arrays in files.
PERSON_FIELDS = tuple(
    field.name for field in dataclasses.fields(PersonArrays) if field.name not in _OF_PHOTOGRAPH
)
