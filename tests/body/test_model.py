"""The JAX and the NumPy body against SMPL's formulas and smplx; invariances, gradients, jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pare_jax.body import model
from pare_jax.body.io import load_body_data
from pare_jax.body.model import body_from_data
from pare_jax.body.numpy_body import joints_of, vertices_and_joints
from pare_jax.geometry import axis_angle_to_matrix
from tests.body.small_bodies import random_body_fields, random_pose, reference_body


@pytest.fixture(scope="module")
def fields():
    return random_body_fields()


@pytest.fixture(scope="module")
def data(fields, tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "body.npz"
    np.savez(path, **fields)
    return load_body_data(path)


@pytest.fixture(scope="module")
def body(data):
    return body_from_data(data)


def test_agrees_with_the_formulas(fields, data, body):
    betas, _, rotations = random_pose(np.random.default_rng(1), 20)
    wanted = [reference_body(fields, b, r) for b, r in zip(betas, rotations, strict=True)]
    vertices, joints = (np.stack(x) for x in zip(*wanted, strict=True))
    got = body(betas, rotations)
    assert got.vertices.dtype == got.joints.dtype == jnp.float32
    np.testing.assert_allclose(got.vertices, vertices, atol=1e-5)
    np.testing.assert_allclose(got.joints, joints, atol=1e-5)
    np.testing.assert_allclose(body.joints(betas, rotations), joints, atol=1e-5)
    # The file's arrays are float32, the formulas float64.
    got = vertices_and_joints(data, betas, rotations)
    assert got[0].dtype == np.float64
    np.testing.assert_allclose(got[0], vertices, atol=1e-6)
    np.testing.assert_allclose(got[1], joints, atol=1e-6)


def test_numpy_body_of_one_person_in_float32(fields, data):
    betas, _, rotations = random_pose(np.random.default_rng(2))
    got = vertices_and_joints(data, betas.astype(np.float32), rotations)
    assert got[0].dtype == got[1].dtype == np.float32
    for ours, wanted in zip(got, reference_body(fields, betas, rotations), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-5)
    np.testing.assert_array_equal(joints_of(data, betas.astype(np.float32), rotations), got[1])


def test_any_batch_axes(body):
    betas, _, rotations = random_pose(np.random.default_rng(3), 2, 3)
    whole = body(betas, rotations)
    assert whole.vertices.shape == (2, 3, 60, 3)
    assert whole.joints.shape == (2, 3, 24, 3)
    one = body(betas[1, 2], rotations[1, 2])
    assert one.vertices.shape == (60, 3)
    np.testing.assert_allclose(one.vertices, whole.vertices[1, 2], atol=1e-5)
    # One shape in many poses, and many shapes in one pose.
    many = body(betas[0, 0], rotations)
    np.testing.assert_allclose(
        many.joints[1, 1], body(betas[0, 0], rotations[1, 1]).joints, atol=1e-5
    )
    many = body(betas, rotations[0, 0])
    np.testing.assert_allclose(
        many.vertices[1, 1], body(betas[1, 1], rotations[0, 0]).vertices, atol=1e-5
    )
    empty = body(betas[:0, 0], rotations[:0, 0])
    assert empty.vertices.shape == (0, 60, 3)
    assert empty.joints.shape == (0, 24, 3)


@pytest.mark.parametrize("people", [6, 7])
def test_a_large_batch_in_chunks_gives_the_same_bodies_and_gradients(body, monkeypatch, people):
    betas, _, rotations = random_pose(np.random.default_rng(4), people)
    weight = np.random.default_rng(5).normal(size=(people, body.num_vertices, 3))

    def loss(betas, rotations):
        return (body.with_shape(betas).with_pose(rotations).mesh() * weight).sum()

    program = jax.value_and_grad(loss, (0, 1))
    at_once = program(betas, rotations)
    monkeypatch.setattr(model, "_CACHED_VERTICES", 3 * body.num_vertices)
    monkeypatch.setattr(model, "_CHUNK_VERTICES", 2 * body.num_vertices)
    assert "scan" in str(jax.make_jaxpr(program)(betas, rotations))
    for got, wanted in zip(
        *map(jax.tree.leaves, (program(betas, rotations), at_once)), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_stages_agree_with_the_call(body):
    betas, _, rotations = random_pose(np.random.default_rng(4), 20)
    posed = jax.jit(lambda body, b, r: body.with_shape(b).with_pose(r))(body, betas, rotations)
    whole = body(betas, rotations)
    np.testing.assert_allclose(posed.joints, whole.joints, atol=1e-6)
    np.testing.assert_allclose(jax.jit(type(posed).mesh)(posed), whole.vertices, atol=1e-6)
    rest = posed.shaped.rest_joints
    moved = jnp.einsum("bjik,bjk->bji", posed.transforms[..., :3], rest)
    np.testing.assert_allclose(moved + posed.transforms[..., 3], posed.joints, atol=1e-5)


def test_an_smpl_sized_body_is_an_argument_of_a_jitted_function(tmp_path):
    path = tmp_path / "body.npz"
    np.savez(path, **random_body_fields(seed=13, vertices=6890))
    body = body_from_data(load_body_data(path))
    betas, _, rotations = random_pose(np.random.default_rng(14), 2)
    lowered = jax.jit(lambda body, *pose: body(*pose)).lower(body, betas, rotations)
    # As a constant the body would take 38 MB of this text.
    assert len(lowered.as_text()) < 100_000
    closure = jax.jit(lambda *pose: body(*pose))(betas, rotations)
    for got, wanted in zip(lowered.compile()(body, betas, rotations), closure, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_a_body_that_is_read_again_does_not_compile_again(data):
    traced = []

    @jax.jit
    def joints(body, *pose):
        traced.append(body.name)
        return body.joints(*pose)

    betas, _, rotations = random_pose(np.random.default_rng(15))
    for _ in range(2):
        joints(body_from_data(data), betas, rotations)
    assert len(traced) == 1


def test_single_vertices_are_those_of_the_mesh(body):
    indices = [7, 0, 59, 7]
    for batch in ((), (1,), (5,), (2, 3)):
        betas, _, rotations = random_pose(np.random.default_rng(12), *batch)
        offset = np.arange(3.0)
        whole = body(betas, rotations, offset).vertices[..., indices, :]
        points = body.points(indices, betas, rotations, offset)
        assert points.shape == (*batch, 4, 3)
        # Matrix products of other sizes may add in another order.
        np.testing.assert_allclose(points, whole, atol=1e-6)
        posed = body.with_shape(betas).with_pose(rotations)
        np.testing.assert_allclose(posed.points(indices), posed.mesh()[..., indices, :], atol=1e-6)


def test_the_top_of_the_head_is_the_highest_vertex(fields, data, body):
    assert body.head_top == data.head_top == np.argmax(fields["v_template"][:, 1])


def test_translation_moves_everything(body):
    betas, _, rotations = random_pose(np.random.default_rng(5), 3)
    offset = np.array([[1.0, -2, 5], [0, 0, 0], [0, 1, 0]])
    still, moved = body(betas, rotations), body(betas, rotations, offset)
    np.testing.assert_allclose(moved.vertices, still.vertices + offset[:, None], atol=1e-5)
    np.testing.assert_allclose(moved.joints, still.joints + offset[:, None], atol=1e-5)
    np.testing.assert_allclose(body.joints(betas, rotations, offset), moved.joints, atol=1e-5)


def test_turning_the_root_turns_the_body(body):
    betas, _, rotations = random_pose(np.random.default_rng(6))
    _, _, turn = random_pose(np.random.default_rng(7))
    turned = rotations.copy()
    turned[0] = turn[0] @ rotations[0]
    before, after = body(betas, rotations), body(betas, turned)
    pelvis = before.joints[0]
    np.testing.assert_allclose(after.joints[0], pelvis, atol=1e-6)
    wanted = (before.vertices - pelvis) @ turn[0].T + pelvis
    np.testing.assert_allclose(after.vertices, wanted, atol=1e-5)


def test_gradients_match_differences_and_are_finite_at_identity(fields, body):
    rng = np.random.default_rng(8)
    betas, axis_angle, _ = random_pose(rng, 2)
    axis_angle[1] = 0  # The identity pose.
    weight = rng.normal(size=(2, 60, 3))

    def loss(betas, axis_angle):
        out = body(betas, axis_angle_to_matrix(axis_angle))
        return (out.vertices * weight).sum() + (out.joints**2).sum()

    gradients = jax.jit(jax.grad(loss, (0, 1)))(betas, axis_angle)
    assert all(np.isfinite(g).all() for g in gradients)
    for seed in range(3):
        step = random_pose(np.random.default_rng(seed), 2)
        wanted = 0.0
        for sign in (1, -1):
            shifted = betas + sign * 1e-5 * step[0], axis_angle + sign * 1e-5 * step[1]
            wanted += sign * reference_loss(fields, *shifted, weight) / 2e-5
        got = (gradients[0] * step[0]).sum() + (gradients[1] * step[1]).sum()
        np.testing.assert_allclose(got, wanted, rtol=2e-4)


def reference_loss(fields, betas, axis_angle, weight):
    from tests.body.small_bodies import rotations_of

    total = 0.0
    for i in range(len(betas)):
        vertices, joints = reference_body(fields, betas[i], rotations_of(axis_angle[i]))
        total += (vertices * weight[i]).sum() + (joints**2).sum()
    return total


def test_rejects_wrong_shapes(body):
    betas, _, rotations = random_pose(np.random.default_rng(9))
    with pytest.raises(ValueError, match="betas"):
        body(betas[:9], rotations)
    with pytest.raises(ValueError, match="rotations"):
        body(betas, rotations[:23])


def test_agrees_with_smplx_on_1000_bodies(tmp_path):
    smplx = pytest.importorskip("smplx")
    torch = pytest.importorskip("torch")
    fields = random_body_fields(seed=10, vertices=6890)
    path = tmp_path / "body.npz"
    np.savez(path, **fields)
    structure = smplx.utils.Struct(**fields)
    theirs = smplx.SMPL(str(path), data_struct=structure, batch_size=100)
    ours = body_from_data(load_body_data(path))
    rng = np.random.default_rng(11)
    for _ in range(10):
        betas, _, rotations = random_pose(rng, 100)
        as_torch = torch.tensor(rotations, dtype=torch.float32)
        with torch.no_grad():
            wanted = theirs(
                betas=torch.tensor(betas, dtype=torch.float32),
                global_orient=as_torch[:, :1],
                body_pose=as_torch[:, 1:],
                pose2rot=False,
            )
        got = ours(betas, rotations)
        np.testing.assert_allclose(got.vertices, wanted.vertices, atol=1e-5)
        np.testing.assert_allclose(got.joints, wanted.joints[:, :24], atol=1e-5)
