import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pare_jax.crop import IMAGENET_MEAN, IMAGENET_STD
from pare_jax.models.inference import normalise
from pare_jax.training.augment import AugmentSettings, augment

EVERYTHING = AugmentSettings(colour=0.4, noise=0.05, occlusion=0.8)


def make_batch(count=16, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(60, 196, (count, size, size, 3), dtype=np.uint8),
        "joints_2d": rng.uniform(-1, 1, (count, 24, 2)).astype(np.float32),
        "part_labels": np.full((count, size // 4, size // 4), 7, np.uint8),
        "betas": rng.normal(size=(count, 10)).astype(np.float32),
    }


def run(batch, settings, seed=0):
    return jax.jit(augment, static_argnames="settings")(batch, jax.random.key(seed), settings)


def to_unit(normalised):
    return np.asarray(normalised, np.float64) * IMAGENET_STD + IMAGENET_MEAN


def test_normalise_agrees_with_its_formula():
    images = make_batch()["image"]
    expected = (images.astype(np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    out = normalise(jnp.asarray(images))
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_nothing_switched_on_is_normalise_alone():
    batch = make_batch()
    out = run(batch, AugmentSettings())
    expected = jax.jit(normalise)(batch["image"])
    np.testing.assert_array_equal(out.pop("image"), expected)
    assert not out
    program = jax.jit(augment, static_argnames="settings").lower(
        batch, jax.random.key(0), AugmentSettings()
    )
    # Threefry is made of shifts and exclusive ors; neither is left once it is compiled.
    assert "xor" not in program.compile().as_text()


def test_same_key_same_bits_other_key_others():
    batch = make_batch()
    first, again, other = (run(batch, EVERYTHING, seed)["image"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any(axis=(1, 2, 3)).all()


def test_a_sample_does_not_depend_on_the_batch_around_it():
    batch = make_batch()
    part = {name: value[:5] for name, value in batch.items()}
    for name, value in run(part, EVERYTHING).items():
        np.testing.assert_allclose(value, run(batch, EVERYTHING)[name][:5], atol=1e-5)


def test_colour_is_one_affine_per_sample():
    batch = make_batch()
    batch["image"] = np.clip(batch["image"], 118, 138)  # far from the clipped ends
    out = to_unit(run(batch, AugmentSettings(colour=0.3))["image"])
    matrices = []
    for image, changed in zip(batch["image"], out, strict=True):
        pixels = np.append(image.reshape(-1, 3) / 255, np.ones((32 * 32, 1)), axis=1)
        solution, residual, _, _ = np.linalg.lstsq(pixels, changed.reshape(-1, 3))
        assert residual.max() < 1e-6
        matrices.append(solution)
    assert np.ptp(matrices, axis=0).max() > 0.2
    # On average, and within what the strength allows, it is the identity.
    np.testing.assert_allclose(np.mean(matrices, axis=0)[:3], np.eye(3), atol=0.2)


def test_noise_has_the_deviation_it_is_given():
    batch = make_batch()
    out = to_unit(run(batch, AugmentSettings(noise=0.05))["image"])
    noise = out - batch["image"] / 255.0
    assert noise.std() == pytest.approx(0.05, rel=0.02)
    assert abs(noise.mean()) < 1e-3
    channels = np.corrcoef(noise.reshape(-1, 3).T)
    assert np.abs(channels - np.eye(3)).max() < 0.03


def test_occluders_hide_what_they_cover():
    batch = make_batch(count=64)
    out = run(batch, AugmentSettings(occlusion=1.0))
    covered = np.abs(to_unit(out["image"]) - batch["image"] / 255.0).max(axis=-1) > 1e-5
    assert 0.02 < covered.mean() < 0.3
    assert (covered.mean(axis=(1, 2)) > 0).mean() > 0.95
    # Part labels: a cell away from any edge of an occluder is 0 exactly where the picture changed.
    blocks = covered.reshape(64, 8, 4, 8, 4).mean(axis=(2, 4))
    labels = np.asarray(out["part_labels"])
    assert labels.dtype == np.uint8
    assert (labels[blocks == 1] == 0).all()
    assert (labels[blocks == 0] == 7).all()
    assert (blocks == 1).any()


def test_occlusion_happens_as_often_as_asked():
    batch = make_batch(count=400, size=16)
    out = run(batch, AugmentSettings(occlusion=0.3))
    changed = np.asarray(out["image"] != normalise(jnp.asarray(batch["image"])))
    assert 0.2 < changed.any(axis=(1, 2, 3)).mean() < 0.36


def test_pictures_stay_in_range():
    batch = make_batch()
    batch["image"][:8], batch["image"][8:] = 0, 255
    out = to_unit(run(batch, AugmentSettings(colour=1.0, noise=0.5, occlusion=1.0))["image"])
    assert out.min() > -1e-6
    assert out.max() < 1 + 1e-6


_ON_MANY_DEVICES = """
import sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from pare_jax.training.augment import AugmentSettings, augment
arrays = dict(np.load(sys.argv[1]))
mesh = Mesh(np.array(jax.devices()), ("data",))
assert mesh.size == 4
batch = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))
settings = AugmentSettings(colour=0.4, noise=0.05, occlusion=0.8)
out = jax.jit(augment, static_argnames="settings")(batch, jax.random.key(0), settings)
np.savez(sys.argv[2], **{name: np.asarray(value) for name, value in out.items()})
"""


def test_number_of_devices_does_not_matter(tmp_path):
    batch = make_batch()
    given, made = tmp_path / "given.npz", tmp_path / "made.npz"
    np.savez(given, **batch)
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    subprocess.run(
        [sys.executable, "-c", _ON_MANY_DEVICES, str(given), str(made)],
        check=True,
        env=environment,
        timeout=120,
    )
    with np.load(made) as sharded:
        for name, value in run(batch, EVERYTHING).items():
            np.testing.assert_allclose(sharded[name], value, atol=1e-6, err_msg=name)
