"""Compiled programs are kept in the cache folder, unless JAX's settings say otherwise."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax
from pare_jax.training.compilation_cache import keep_compiled_programs
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: x + 1)(2.0)
"""


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ({}, "own/compiled"),
        ({"JAX_COMPILATION_CACHE_DIR": "other"}, "other"),
        ({"JAX_ENABLE_COMPILATION_CACHE": "false"}, None),
    ],
)
def test_programs_are_kept(settings, folder, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    settings = {"PARE_JAX_CACHE": "own", "JAX_PLATFORMS": "cpu"} | settings
    environment |= {"PYTHONPATH": os.getcwd()} | settings
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, check=True)
    kept = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*-cache")}
    assert kept == ({folder} if folder else set())
