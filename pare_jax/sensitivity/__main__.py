import sys

from pare_jax.sensitivity.command import main

sys.exit(main(sys.argv))
