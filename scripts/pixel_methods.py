"""Ways to join what pixels and keypoints say of a pose, for `measure_pixels.py`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float
from pixel_people import SeenPeople

from pare_jax.fitting.batches import checked_inputs, padded_rows, problem_of, used_points
from pare_jax.fitting.energy import Pose
from pare_jax.fitting.fitter import FitSettings, candidates, refine
from pare_jax.fitting.prior import load_pose_prior
from pare_jax.keypoints.body_points import PointBody
from pare_jax.models.inference import predict_step
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import NUM_JOINTS

_BATCH = 256
# Added to the diagonal of the linear maps' equations, as a share of the data's variance.
_RIDGE = 1e-2


class Answer(NamedTuple):
    """Bodies with crop cameras of the keypoints' squares."""

    rotations: Float[np.ndarray, "n 24 3 3"]
    betas: Float[np.ndarray, "n 10"]
    camera: Float[np.ndarray, "n 3"]

    def as_start(self) -> Prediction:
        """Return the answer as the start of a fit."""
        rotations, betas, camera = (jnp.asarray(x) for x in self)
        return Prediction(rotations, betas, camera)


def answer_of(network: nnx.Module, inputs: np.ndarray) -> Answer:
    """Run a network, in evaluation mode, on crops or keypoints; cameras are those of its input."""
    graphdef, params, others = nnx.split(network, nnx.Param, ...)

    @jax.jit
    def run(rows):
        found = predict_step(params, others, rows, graphdef=graphdef)
        return found.rotations, found.betas, found.camera

    parts = [
        [np.asarray(x)[:size] for x in run(jnp.asarray(inputs[rows]))]
        for rows, size in padded_rows(len(inputs), _BATCH)
    ]
    return Answer(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def in_other_squares(answer: Answer, own: np.ndarray, other: np.ndarray) -> Answer:
    """Return an answer with crop cameras of other squares, each centre x and y and side, pixels."""
    scale, shift = answer.camera[:, :1], answer.camera[:, 1:]
    pixels = scale * own[:, 2:] / 2.0
    camera = np.concatenate(
        [pixels * 2.0 / other[:, 2:], shift + (own[:, :2] - other[:, :2]) / pixels], 1
    )
    return answer._replace(camera=camera.astype(np.float32))


def mean_of(keypoints: Answer, pixels: Answer, share: float) -> Answer:
    """Return the weighted mean of rotations and shapes, with the camera of the keypoints.

    Args:
        keypoints: the answer from keypoints.
        pixels: the answer from pixels.
        share: weight of the pixels, 0 to 1.
    """
    mean = (1 - share) * keypoints.rotations + share * pixels.rotations
    u, _, v = np.linalg.svd(mean)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ v))[..., None]  # the nearest rotation
    betas = (1 - share) * keypoints.betas + share * pixels.betas
    return Answer(u @ v, betas, keypoints.camera)


def refined(people: SeenPeople, start: Answer, body: PointBody) -> Answer:
    """Return a network's answer after a few steps of fitting to the keypoints."""
    found = refine(people.keypoints[..., :3], start.as_start(), body=body)
    return Answer(found.rotations, found.betas, found.camera)


class Candidates(NamedTuple):
    """Short fits to one set of keypoints from different starts; the first axis has the starts."""

    answers: Answer
    energy: Float[np.ndarray, "starts n"]
    joints: Float[np.ndarray, "starts n 24 3"]

    def chosen(self, cost: Float[np.ndarray, "starts n"]) -> Answer:
        """Return each person's candidate of the lowest cost."""
        best, people = cost.argmin(0), np.arange(cost.shape[1])
        return Answer(*(x[best, people] for x in self.answers))

    def distances(self, joints: Float[np.ndarray, "n 24 3"]) -> Float[np.ndarray, "starts n"]:
        """Return the mean distance of each candidate's joints from others, metres."""
        return np.linalg.norm(self.joints - joints, axis=-1).mean(-1)


def candidates_of(people: SeenPeople, starts: list[Answer], body: PointBody) -> Candidates:
    """Return fits from the dictionary's starts and from each of some answers."""
    prior, settings = load_pose_prior(), FitSettings()
    points = people.keypoints[..., :3]
    plain = checked_inputs(points, None, None, None)
    used = used_points(plain)
    parts = []
    for rows, size in padded_rows(len(points), _BATCH):
        found = []
        for number, start in enumerate(starts):
            own = Answer(*(x[rows] for x in start))
            problem = problem_of(
                checked_inputs(points[rows], None, own.as_start(), None), body, prior, used
            )
            pose = Pose(*(jnp.asarray(x) for x in own))
            every = candidates(problem, pose, settings)
            # The dictionary's starts do not depend on the answer.
            found += every if not number else every[-1:]
        parts.append(
            [
                np.stack([np.asarray(pick(one))[:size] for one in found])
                for pick in (
                    lambda one: one.pose.rotations,
                    lambda one: one.pose.betas,
                    lambda one: one.pose.camera,
                    lambda one: one.energy,
                )
            ]
        )
    rotations, betas, camera, energy = (np.concatenate(x, 1) for x in zip(*parts, strict=True))
    every = zip(rotations, betas, camera, strict=True)
    joints = np.stack([joints_of(body, Answer(*one))[1] for one in every])
    return Candidates(Answer(rotations, betas, camera), energy, joints)


@jax.jit
def _place(body: PointBody, rotations, betas):
    points, joints = body.place(rotations, betas)
    return points - joints[:, :1], joints - joints[:, :1]


def joints_of(body: PointBody, answer: Answer) -> tuple[np.ndarray, np.ndarray]:
    """Return body points and joints of an answer, metres, pelvis at the origin."""
    points, joints = _place(body, answer.rotations, answer.betas)
    return np.asarray(points), np.asarray(joints)


def linear_map(
    inputs: Float[np.ndarray, "n k"], joints: Float[np.ndarray, "n 24 3"]
) -> Callable[[np.ndarray], np.ndarray]:
    """Learn joints as a linear function of inputs (ridge regression).

    Args:
        inputs: of the people whose joints are known.
        joints: their joints, metres.
    """
    mean, target = inputs.mean(0), joints.reshape(len(joints), -1)
    centred, middle = inputs - mean, target.mean(0)
    square = centred.T @ centred
    square += _RIDGE * np.trace(square) / len(square) * np.eye(len(square))
    weights = np.linalg.solve(square, centred.T @ (target - middle))
    return lambda rows: ((rows - mean) @ weights + middle).reshape(-1, NUM_JOINTS, 3)


def answers_by_name(
    people: SeenPeople, keypoints: Answer, pixels: Answer, body: PointBody, share: float
) -> Mapping[str, Answer]:
    """Return the answers of all ways but those that are learned.

    Args:
        people: as both networks saw them.
        keypoints: the answer of the network on keypoints.
        pixels: the answer of the network on pixels, with cameras of the keypoints' squares.
        body: the body.
        share: of the pixels in means.
    """
    mean = mean_of(keypoints, pixels, share)
    found = candidates_of(people, [keypoints, pixels], body)
    of_keypoints = Candidates(*jax.tree.map(lambda x: x[:-1], tuple(found)))
    own = [joints_of(body, one)[1] for one in (keypoints, pixels, mean)]
    distances = [found.distances(joints) for joints in own]
    return {
        "keypoints": keypoints,
        "pixels": pixels,
        "keypoints, refined": refined(people, keypoints, body),
        "pixels, refined to the keypoints": refined(people, pixels, body),
        f"mean of both, {100 * share:.0f} % pixels": mean,
        "the same, refined": refined(people, mean, body),
        "fits, lowest energy": of_keypoints.chosen(of_keypoints.energy),
        "fits, one from pixels too, lowest energy": found.chosen(found.energy),
        "fits, nearest to keypoints' answer": found.chosen(distances[0]),
        "fits, nearest to pixels' answer": found.chosen(distances[1]),
        "fits, nearest to the mean": found.chosen(distances[2]),
    }
