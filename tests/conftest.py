"""What all tests share: compiled programs, kept between sessions too."""

import os
import tempfile

# Many tests compile the same small programs, some in processes of their own.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), f"pare-jax-tests-{os.getuid()}"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
