"""Runs `python -m pare_jax.sensitivity`; see `cli`."""

import sys

from pare_jax.sensitivity.cli import main

sys.exit(main(sys.argv))
