"""Runs `python -m pare_jax.export`; see `stablehlo`."""

import sys

from pare_jax.export.stablehlo import main

sys.exit(main(sys.argv))
