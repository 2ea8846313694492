"""Fakes shared by tests: a tiny network's config, random batches, a metric writer."""

import jax
import numpy as np
from flax import nnx
from scipy.spatial.transform import Rotation

from configs.common import get_base
from data_pipelines.example import BATCH_FIELDS, BATCH_PARTS_STRIDE
from pare_jax.evaluation.sequences import SampleName, SplitNames
from pare_jax.keypoints.sets import NUM_BODY_POINTS
from pare_jax.training.data import HeldOut

TINY_MODEL = {
    "name": "pare",
    "input": "image",
    "backbone": "resnet18",
    "backbone_width": 4,
    "num_blocks": 3,
    "branch_features": 8,
    "shape_features": 4,
    "pose_hidden": (),
    "shape_hidden": (),
    "camera_hidden": (),
    "align_corners": False,
    "dtype": "float32",
}
IMAGE_SIZE = 32


def fake_batch(batch_size: int, seed: int = 0, image_size: int = IMAGE_SIZE):
    """Return a random batch with all fields of `BATCH_FIELDS`; no label is missing."""
    rng = np.random.default_rng(seed)
    parts = image_size // BATCH_PARTS_STRIDE
    sizes = {"B": batch_size, "S": image_size, "S // 4": parts}
    batch = {}
    for name, field in BATCH_FIELDS.items():
        shape = tuple(sizes.get(n, n) for n in field.shape)
        if name == "image":
            batch[name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif name == "part_labels":
            batch[name] = rng.integers(0, 25, shape, dtype=np.uint8)
        elif name == "rotations":
            random = Rotation.random(batch_size * 24, random_state=seed).as_matrix()
            batch[name] = random.reshape(shape).astype(np.float32)
        elif name.endswith(("weight", "known")):
            batch[name] = np.ones(shape, np.float32)
        elif name == "head_size":
            batch[name] = rng.uniform(0.1, 0.3, shape).astype(np.float32)
        elif name == "visible":
            batch[name] = rng.integers(0, 2, shape).astype(np.float32)
        elif name == "index":
            batch[name] = np.arange(batch_size, dtype=np.int32)
        elif name == "gender":
            batch[name] = np.zeros(batch_size, np.int32)
        else:
            batch[name] = rng.normal(0, 0.3, shape).astype(np.float32)
    batch["joints_3d"] -= batch["joints_3d"][:, :1]
    return batch


class FakeData:
    """Random training and evaluation batches, determined by the step; replaces `RunData`."""

    def __init__(self, batch_size: int = 8, steps_per_epoch: int = 4):
        self._batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.notes = ()
        self.fingerprints = {"fake/train": "1"}
        pictures = [SampleName(f"picture {number}", 0, 0) for number in range(11)]
        self.held_out = HeldOut(
            evals={"fake/test": self._evaluation},
            eval_names={"fake/test": lambda: SplitNames(pictures)},
            mean_joints=np.zeros((24, 3), np.float32),
        )

    def train(self, start: int):
        step = start
        while True:
            yield own_rows(fake_batch(self._batch_size, seed=step))
            step += 1

    def _evaluation(self):
        yield own_rows(fake_batch(self._batch_size, seed=1000))
        last = fake_batch(self._batch_size, seed=1001)
        last["sample_weight"][3:] = 0
        yield own_rows(last)


def own_rows(batch):
    """Return this process' rows of a batch."""
    first, count = jax.process_index(), jax.process_count()
    return {name: np.split(value, count)[first] for name, value in batch.items()}


class Recorder:
    """A metric writer with clu's interface that stores what it is given."""

    def __init__(self):
        self.scalars, self.images, self.texts, self.hparams = {}, {}, {}, {}

    def write_scalars(self, step, scalars):
        self.scalars.setdefault(step, {}).update(scalars)

    def write_images(self, step, images):
        self.images[step] = images

    def write_texts(self, step, texts):
        self.texts[step] = texts

    def write_hparams(self, hparams):
        self.hparams = hparams

    def close(self):
        pass


def train_on(config, workdir, data=None, writer=None):
    """Train on fake batches; return the final state."""
    from pare_jax.training.train import train

    return train(config, workdir, lambda: data or FakeData(), lambda: writer or Recorder())


def tiny_config():
    """Return a config of a run that takes seconds: 10 steps, SWA, three evaluations."""
    config = get_base()
    config.image_size = IMAGE_SIZE
    config.batch_size = 8
    config.num_steps = 10
    config.model.update(TINY_MODEL)
    config.loss.parts = 60.0
    config.augment.occlusion = 0.5
    config.optimizer.learning_rate = 1e-3
    config.swa.start_epoch = 1.0
    config.swa.every_steps = 2
    config.swa.statistics_batches = 2
    config.checkpoint.every_steps = 3
    config.checkpoint.keep = 2
    config.eval.every_epochs = 1.0
    config.eval.batch_size = 8
    config.eval.pictures = 2
    config.log_every_steps = 2
    return config


def make_keypoint_network(seed=0):
    """Return a small network on keypoints, with the free body's points and random weights."""
    from pare_jax.body.io import load_body_data
    from pare_jax.keypoints.body_points import body_points
    from pare_jax.models.keypoint_network import KeypointNetwork

    network = KeypointNetwork(width=16, num_blocks=(1, 1), rngs=nnx.Rngs(seed))
    network.set_body(body_points(load_body_data(None)))
    network.eval()
    return network


def keypoints_of(count, seed=0):
    """Return random keypoints of people; each point is unknown for some of them."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (count, NUM_BODY_POINTS, 5)).astype(np.float32)
    points[..., 2] = rng.uniform(0.1, 1, points.shape[:2])
    points[..., 4] = 1.0
    return points * (rng.uniform(size=points.shape[:2]) > 0.3)[..., None]
