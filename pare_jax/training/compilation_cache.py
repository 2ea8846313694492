"""Keeps compiled programs on disk, so that a command that is run again need not compile them."""

import contextlib
import importlib.util
from pathlib import Path

import jax

from pare_jax.errors import UserError
from pare_jax.io.files import cache_folder

# The least recently used programs are removed beyond this size. An HRNet's step has some 20 MB; a
# program that holds a ResNet-50's weights (prediction/network_programs.py) 125 MB.
_MAX_BYTES = 2 << 30


def keep_compiled_programs() -> None:
    """Keep programs that take a second or more to compile in `compiled` of the cache folder.

    JAX's own settings have precedence: JAX_COMPILATION_CACHE_DIR names another folder, and
    JAX_ENABLE_COMPILATION_CACHE=false turns the cache off. Nothing is kept if the folder cannot be
    written.
    """
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        folder = cache_folder() / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
    except (UserError, OSError):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # JAX needs filelock to limit the size.
    if importlib.util.find_spec("filelock"):
        jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)
        _remove_unfinished(folder)


def _remove_unfinished(folder: Path) -> None:
    """Remove programs whose writing was stopped, by a kill or a full disk.

    JAX would warn of them at each start, and never write them again. It writes NAME-cache and then
    NAME-atime, both while it holds the lock.
    """
    import filelock

    with contextlib.suppress(OSError), filelock.FileLock(folder / ".lockfile", timeout=10):
        for program in folder.glob("*-cache"):
            if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
                program.unlink(missing_ok=True)
