"""Fixtures for all tests, and a cache of compiled programs that outlives a test run."""

import os
import tempfile

import pytest

# Many tests compile the same small programs, some of them in subprocesses.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), f"pare-jax-tests-{os.getuid()}"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


@pytest.fixture
def shallow_hrnet(monkeypatch):
    """Make HRNets shallow: those of full depth take a minute to compile."""
    from pare_jax.models import hrnet

    monkeypatch.setattr(hrnet, "MODULES", (1, 1, 1))
    monkeypatch.setattr(hrnet, "BLOCKS", 1)
    monkeypatch.setattr(hrnet, "LAYER1_BLOCKS", 1)


@pytest.fixture(scope="module")
def browser():
    """Run headless Chromium for the tests of one module."""
    from tests.browser import chromium

    with chromium() as browser:
        yield browser
