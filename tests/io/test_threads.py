"""Pools of threads: what Ctrl-C leaves."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The thread is in C++ code when Python would end without it. Python's own pool ends with SIGABRT.
_INTERRUPTED = """
import os, signal, time
import cv2
import numpy as np
from pare_jax.io.threads import ThreadPool

signal.signal(signal.SIGINT, signal.default_int_handler)
large = np.zeros((1000, 1000, 3), np.uint8)

def work():
    while not pool._shutdown:
        time.sleep(0.01)
    time.sleep(0.5)
    cv2.GaussianBlur(large, (31, 31), 0)
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100):
        cv2.GaussianBlur(large, (31, 31), 0)
    print("done", flush=True)

try:
    with ThreadPool(1) as pool:
        pool.submit(work)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_while_threads_are_waited_for_lets_them_end():
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\ndone\n", "")
