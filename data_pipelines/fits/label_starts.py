"""The networks whose answers fits start from: the one of this package, or a run's."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from data_pipelines import transforms
from data_pipelines.fits.label_points import moved_camera, square_of
from pare_jax.body.io import BodyData, load_body_data
from pare_jax.errors import UserError
from pare_jax.fitting.energy import Pose
from pare_jax.io.progress import say
from pare_jax.keypoints.network_points import NUM_CHANNELS, in_square, square_around
from pare_jax.models.inference import predict_step
from pare_jax.training.shipped import load_shipped
from pare_jax.training.trained_run import load_model, split_checkpoint
from pare_jax.training.workdir import load_run_body

# Crops of a network on pixels at once.
_CROPS = 32
# Name in the header of the network that comes with the package.
_SHIPPED = "keypoint network of this package"


class NetworkStarts:
    """A network's answers for stored examples.

    Attributes:
        name: of the network, for the header.
        digest: of its weights.
        body: that the network was trained with, or that the user chose.
    """

    def __init__(self, checkpoint: str | Path | None = None, body: str | Path | None = None):
        """Load a network.

        Args:
            checkpoint: a run's folder, or one checkpoint's; None: the network of this package.
            body: file of the body to fit; None: that of the network.

        Raises:
            UserError: there is no such run or body.
        """
        if checkpoint is None:
            config, network, trained = load_shipped()
            own = trained.digest
        else:
            config, network = load_model(checkpoint, say=say)
            workdir = split_checkpoint(checkpoint)[0]
            trained = None if body else load_run_body(workdir, config, None)
            own = _digest_of_run(workdir, config, trained, body)
        self.name = _SHIPPED if checkpoint is None else Path(checkpoint).name
        chosen = load_body_data(body) if body else trained
        assert chosen is not None
        self.body: BodyData = chosen
        # Betas of another body mean another shape.
        self._keeps_betas = own == self.body.digest
        self._points = config.model.input == "keypoints"
        self._image_size = config.image_size
        graphdef, params, others = nnx.split(network, nnx.Param, ...)
        self.digest = _digest((params, others))
        self._run = jax.jit(lambda inputs: predict_step(params, others, inputs, graphdef=graphdef))

    def __call__(
        self,
        examples: Sequence[Mapping[str, Any]],
        points: Float[np.ndarray, "people points 3"],
    ) -> Pose:
        """Return the network's answers, with crop cameras of the examples' squares.

        Args:
            examples: with the fields of `example.STORED_FIELDS`.
            points: their body points, stored-crop pixels; at least two are known of each person.
        """
        found = self._from_points(examples, points) if self._points else self._from_pixels(examples)
        return found if self._keeps_betas else found._replace(betas=0 * found.betas)

    def _from_points(self, examples, points) -> Pose:
        squares = [square_around(own) for own in points]
        inputs = np.zeros((*points.shape[:2], NUM_CHANNELS), np.float32)
        for row, (own, square) in enumerate(zip(points, squares, strict=True)):
            inputs[row, :, :3] = in_square(own, *square)
        found = self._predict(inputs)
        old, new = (_stacked(one) for one in (squares, [square_of(e) for e in examples]))
        return found._replace(camera=moved_camera(np.asarray(found.camera), old, new))

    def _from_pixels(self, examples) -> Pose:
        size = self._image_size
        crops = np.zeros((len(examples), size, size, 3), np.uint8)
        sides = np.array([transforms.stored_side(example["image"]) for example in examples])
        placement = transforms.identity_placement(len(examples))
        inverse = transforms.invert_affine(transforms.crop_affine(placement, sides, size))
        for example, to_stored, crop in zip(examples, inverse, crops, strict=True):
            transforms.warp_image(example["image"], to_stored, crop)
        return self._predict(crops)

    def _predict(self, inputs: np.ndarray) -> Pose:
        """Run the network on batches of one size."""
        size = _CROPS if inputs.dtype == np.uint8 else len(inputs)
        parts = []
        for first in range(0, len(inputs), size):
            rows = np.minimum(np.arange(first, first + size), len(inputs) - 1)
            found = self._run(jnp.asarray(inputs[rows]))
            parts.append([np.asarray(x) for x in (found.rotations, found.betas, found.camera)])
        whole: list[Any] = [
            np.concatenate(columns)[: len(inputs)] for columns in zip(*parts, strict=True)
        ]
        rotations, betas, camera = whole
        return Pose(rotations, betas, camera)


def _stacked(squares) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([centre for centre, _ in squares]), np.array([side for _, side in squares])


def _digest(state: Any) -> str:
    """Return a digest of a network's arrays."""
    found = hashlib.sha256()
    for array in jax.tree.leaves(state):
        found.update(np.asarray(array).tobytes())
    return found.hexdigest()[:16]


def _digest_of_run(workdir: Path, config, trained: BodyData | None, body) -> str:
    """Return the digest of a run's body; "" if it is not the body that the user chose."""
    if trained is not None:
        return trained.digest
    try:
        return load_run_body(workdir, config, body).digest
    except UserError:
        return ""
