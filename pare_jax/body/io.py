"""Reads body models in SMPL's format: `.npz`, and SMPL's released `.pkl` files.

This module does not import JAX, so that data pipelines start fast.
"""

import functools
import hashlib
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pare_jax.errors import UserError
from pare_jax.io.archives import read_npz
from pare_jax.io.pickle_opcodes import shown
from pare_jax.io.safe_pickle import Inert, is_pickle, load_pickle
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS, PARENTS

FREE_BODY = Path(__file__).with_name("free_body.npz")
NUM_POSE_FEATURES = 9 * (NUM_JOINTS - 1)
# A batch's field `gender` is an index into this.
GENDERS = ("neutral", "male", "female")
# Number of files to keep in memory: one for each gender, and the free body.
_KEPT = 4
_HINT = "give a .npz or .pkl file in SMPL's format"
_USED = ("v_template", "shapedirs", "kintree_table", "posedirs", "f", "weights", "J_regressor")
# Sparse matrices have any shape; SMPL's largest array has 6 million numbers.
_MOST_NUMBERS = 1 << 28
# Other body models by their number of joints.
_RELATIVES = {5: "FLAME", 16: "MANO", 52: "SMPL+H", 55: "SMPL-X"}


@dataclass(frozen=True, eq=False)
class BodyData:
    """A body model's arrays as in its file, float32 by default, metres.

    The frame is SMPL's in the rest pose: y up, +z out of the chest, the subject's left at +x.

    Attributes:
        template: vertices of the mean shape.
        shape_basis: displacement of the vertices for each shape coefficient.
        pose_basis: displacement of the vertices for each number of vec(R[1:] - I). It is a view of
            a single zero for a body without pose correctives.
        weights: linear blend skinning weights; rows sum to one.
        joint_regressor: joints from the vertices of the shaped body; rows sum to one.
        faces: triangles, counter-clockwise seen from outside.
        parents: parent of each joint, -1 for the root.
        name: the file's name.
        extras: arrays of the free body alone, used to draw people:
            part_of_vertex (V,) uint8: the joint each vertex belongs to;
            region_of_vertex (V,) uint8: index into region_names (torso, pelvis, upper_arm,
                forearm, hand, thigh, shin, foot, neck, face, ears, scalp, eyes, brows, lips);
            region_names (15,) str;
            coarse_template (C, 3), coarse_shape_basis (C, 3, 10), coarse_weights (C, 24),
            coarse_faces (G, 3) int32: a mesh with fewer vertices, same joints and betas;
            coarse_part_of_vertex (C,), coarse_region_of_vertex (C,): as above.
    """

    template: Float[np.ndarray, "V 3"]
    shape_basis: Float[np.ndarray, "V 3 10"]
    pose_basis: Float[np.ndarray, "V 3 207"]
    weights: Float[np.ndarray, "V 24"]
    joint_regressor: Float[np.ndarray, "24 V"]
    faces: Int[np.ndarray, "F 3"]
    parents: tuple[int, ...]
    name: str
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    @functools.cached_property
    def joint_template(self) -> Float[np.ndarray, "24 3"]:
        """Joints of the mean shape, float64."""
        return np.einsum("jv,vi->ji", self.joint_regressor.astype(np.float64), self.template)

    @functools.cached_property
    def joint_basis(self) -> Float[np.ndarray, "24 3 10"]:
        """Displacement of the joints for each shape coefficient, float64."""
        basis = self.shape_basis.reshape(len(self.template), -1).astype(np.float64)
        return (self.joint_regressor.astype(np.float64) @ basis).reshape(NUM_JOINTS, 3, -1)

    @functools.cached_property
    def head_top(self) -> int:
        """The vertex at the top of the head: the highest one in the rest pose."""
        return int(self.template[:, 1].argmax())

    @functools.cached_property
    def has_pose_basis(self) -> bool:
        """True if the body has pose correctives."""
        return any(self.pose_basis.strides) and bool(self.pose_basis.any())

    @functools.cached_property
    def digest(self) -> str:
        """A hash of the body's numbers; the file's format and name do not matter."""
        found = hashlib.sha256()
        arrays = [self.template, self.shape_basis, self.weights, self.joint_regressor, self.faces]
        if self.has_pose_basis:
            arrays.append(self.pose_basis)
        for array in arrays:
            found.update(repr(array.shape).encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()[:16]


def load_body_data(path: str | Path | None = None) -> BodyData:
    """Read a body model.

    Args:
        path: a `.npz` or `.pkl` file in SMPL's format; by default the free body of this package.

    Returns:
        The body. Its arrays are read-only, because later calls return the same ones.

    Raises:
        UserError: the file is missing, broken, not a body, or a pickle that asks for more than
            data.
    """
    path = FREE_BODY if path is None else Path(path)
    if not path.is_file():
        raise UserError(f"there is no body model at {path}; {_HINT}, or no file for the free body")
    state = path.stat()
    return _load(path, path.resolve(), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=_KEPT)
def _load(path: Path, resolved: Path, size: int, modified: int) -> BodyData:
    """Read a file; size and time are arguments so that a changed file is read again."""
    fields = _read_fields(path)
    if not isinstance(fields, Mapping):
        raise UserError(f"{path} is not a body model: it has no named arrays; {_HINT}")
    return _to_body(fields, path)


def _read_fields(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if zipfile.is_zipfile(path):
        # Other arrays, for instance objects that only other programs use, are not read.
        return read_npz(path, None if path == FREE_BODY else _USED, objects=True)
    if start[:2] == b"PK":  # A zip file starts with this and its end is missing.
        raise UserError(f"{path} is truncated: it starts as an .npz file; copy it again")
    if path.suffix == ".npz":
        raise UserError(f"{path} is not an .npz file; {_HINT}")
    if start and not is_pickle(start):
        raise UserError(f"{path} is not a body model: it is neither .npz nor .pkl; {_HINT}")
    return load_pickle(path)


def _to_body(fields: Mapping[str, Any], path: Path) -> BodyData:
    _check_joints(fields, path)
    template = _array(fields, "v_template", path, (None, 3))
    vertices = len(template)
    shapes = _array(fields, "shapedirs", path, (vertices, 3, None))
    if shapes.shape[2] < NUM_BETAS:
        raise UserError(
            f"{path} is not a usable body model: shapedirs has {shapes.shape[2]} directions, "
            f"at least {NUM_BETAS} are needed"
        )
    table = _array(fields, "kintree_table", path, (2, NUM_JOINTS), np.int64)
    parents = _parents(table, path)
    poses = _array(fields, "posedirs", path, (vertices, 3, NUM_POSE_FEATURES), None)
    if poses.any():
        poses = _checked(poses, "posedirs", path, np.float32)
    else:
        poses = np.broadcast_to(np.float32(0), poses.shape)
    faces = _array(fields, "f", path, (None, 3), np.int64)
    if faces.size and (faces.min() < 0 or faces.max() >= vertices):
        raise UserError(f"{path} is not a body model: f has vertices beyond {vertices - 1}")
    extras = {}
    if path == FREE_BODY:
        extras = {name: _wide(value) for name, value in fields.items() if name not in _USED}
    body = BodyData(
        template=template,
        shape_basis=np.ascontiguousarray(shapes[:, :, :NUM_BETAS]),
        pose_basis=poses,
        weights=_array(fields, "weights", path, (vertices, NUM_JOINTS)),
        joint_regressor=_array(fields, "J_regressor", path, (NUM_JOINTS, vertices)),
        faces=faces.astype(np.int32),
        parents=parents,
        name=path.stem,
        extras=extras,
    )
    for value in (*vars(body).values(), *extras.values()):
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return body


def _array(fields, name, path, shape, dtype: Any = np.float32) -> np.ndarray:
    """Return one array of a file, checked; None in `shape` stands for any length."""
    value = _found(fields, name, path)
    fits = len(value.shape) == len(shape) and all(
        want in (None, got) for want, got in zip(shape, value.shape, strict=True)
    )
    if not fits or not 0 < math.prod(value.shape) < _MOST_NUMBERS:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UserError(
            f"{path} is not a usable body model: {name} has shape {value.shape}, not ({wanted})"
        )
    if hasattr(value, "toarray"):
        value = value.toarray()
    if value.dtype.kind not in "fiu":
        raise UserError(f"{path} is not a body model: {name} has type {value.dtype}, not numbers")
    return value if dtype is None else _checked(value, name, path, dtype)


def _found(fields: Mapping[str, Any], name: str, path: Path) -> Any:
    """Return an array or a sparse matrix of a file."""
    if name not in fields:
        raise UserError(f"{path} is not a body model: it has no {name}; {_HINT}")
    value = fields[name]
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.ndim == 0:
        value = value.item()
    if isinstance(value, list):
        try:
            value = np.asarray(value, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise UserError(
                f"{path} is not a usable body model: {name} is a list of other things than numbers"
            ) from None
    if not hasattr(value, "shape"):
        what = value.name if isinstance(value, Inert) else type(value).__name__
        raise UserError(
            f"{path} is not a usable body model: {name} is not an array but {shown(what)}; convert "
            "the file to plain NumPy arrays, for instance by tools/clean_ch.py of smplx"
        )
    return value


def _check_joints(fields: Mapping[str, Any], path: Path) -> None:
    """Raise UserError for a body model that is not SMPL's, by its number of joints."""
    shape = _found(fields, "kintree_table", path).shape if "kintree_table" in fields else ()
    if len(shape) == 2 and shape[0] == 2 and shape[1] != NUM_JOINTS:
        raise UserError(
            f"{path} is {_RELATIVES.get(shape[1], 'another body model')}: its kintree_table has "
            f"{shape[1]} joints, SMPL's has {NUM_JOINTS}; give a file of SMPL"
        )


def _checked(value: np.ndarray, name: str, path: Path, dtype: Any) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = np.ascontiguousarray(value, dtype)
    if not (np.isfinite(value).all() and np.isfinite(numbers).all()):
        raise UserError(f"{path} is not a usable body model: {name} contains NaN or infinity")
    return numbers


def _parents(table: np.ndarray, path: Path) -> tuple[int, ...]:
    # The root's parent is stored as -1 or, in unsigned files, as 2**32 - 1.
    parents = tuple(-1 if p in (-1, 2**32 - 1) else int(p) for p in table[0])
    if parents != PARENTS:
        raise UserError(
            f"{path} is not a usable body model: the joint tree in kintree_table is not SMPL's"
        )
    return parents


def _wide(value: np.ndarray) -> np.ndarray:
    """Widen half precision, which only the file uses."""
    return value.astype(np.float32) if value.dtype == np.float16 else value
