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


def test_a_program_whose_writing_was_stopped_is_written_again(tmp_path):
    pytest.importorskip("filelock")
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "PARE_JAX_CACHE": "own"}
    environment |= {"JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    wholes = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        assert "Warning" not in done.stderr
        (program,) = tmp_path.rglob("*-cache")
        wholes.append(program.stat().st_size)
        program.write_bytes(program.read_bytes()[:100])
        program.with_name(program.name.removesuffix("-cache") + "-atime").unlink()
    assert wholes[0] == wholes[1] > 100
