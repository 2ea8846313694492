"""Signals that ask a run to stop."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pare_jax.training.stopping import Stopped, on_signals

ROOT = Path(__file__).resolve().parents[2]


def test_a_process_that_does_not_react_to_a_signal_ends():
    code = """
        import ctypes
        import threading
        from pare_jax.training.stopping import on_signals
        with on_signals(patience=0.3):
            # Said when the main thread is in C, where Python's handler of signals cannot run.
            threading.Timer(1.0, print, ("ready",), {"flush": True}).start()
            mutex = ctypes.create_string_buffer(64)
            for _ in range(2):  # the second waits in C for ever, as compiling does for long
                ctypes.CDLL(None).pthread_mutex_lock(mutex)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "SIGTERM" in process.stderr.read()


def test_a_signal_inside_a_finaliser_is_not_lost(recwarn):
    class Finalised:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0)  # Python runs its handler here, and drops what that raises.

    def work():
        with on_signals():
            Finalised()
            time.sleep(20)

    with pytest.raises(Stopped, match="SIGTERM"):
        work()
    assert not recwarn.list
