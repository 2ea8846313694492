"""What the command `pare_jax.predict` does: find, predict, draw and write, all at once."""
