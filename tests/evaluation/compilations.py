"""Counts the programs that JAX compiles."""

import contextlib
import logging

import jax


@contextlib.contextmanager
def compiled_programs():
    """Collect the name of each program that is compiled inside the block."""
    names = []

    class Collector(logging.Handler):
        def emit(self, record):
            words = record.getMessage().split()
            if words[:4] == ["Finished", "XLA", "compilation", "of"]:
                names.append(words[4].removeprefix("jit(").removesuffix(")"))

    logger, collector = logging.getLogger("jax"), Collector()
    logger.addHandler(collector)
    try:
        with jax.log_compiles():
            yield names
    finally:
        logger.removeHandler(collector)
