"""The prediction run of `python -m pare_jax.predict`: find, predict, draw and write people."""
