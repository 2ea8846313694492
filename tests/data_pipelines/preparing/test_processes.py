"""Worker processes import the user's script again: no script may hang or repeat its work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
START = """
import threading
from data_pipelines.preparing import processes

class Own:
    pass

def report():
    print("obstacle:", processes.obstacle(Own()))
"""
SCRIPTS = {
    "guarded": ('if __name__ == "__main__":\n    report()', ""),
    "guarded_the_other_way": ('if "__main__" == __name__:\n    report()', ""),
    "at_the_top": ("report()", "at_the_top.py"),
    "in_a_loop": ("for _ in range(1):\n    report()", "in_a_loop.py"),
    "beside_a_guard": ('if __name__ == "__main__":\n    pass\nreport()', "beside_a_guard.py"),
    "in_a_thread": (
        "thread = threading.Thread(target=report)\nthread.start()\nthread.join()",
        "in_a_thread.py",
    ),
}


def run(arguments, folder, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_call_outside_of_the_guard_is_named_with_its_file(name, tmp_path):
    body, named = SCRIPTS[name]
    (tmp_path / f"{name}.py").write_text(START + body)
    (line,) = run([f"{name}.py"], tmp_path).stdout.splitlines()
    assert bool(line.removeprefix("obstacle:").strip()) == bool(named)
    assert named in line


def test_a_class_of_the_standard_input_or_the_command_line_reaches_no_worker(tmp_path):
    for done in (
        run(["-"], tmp_path, input=START + "report()"),
        run(["-c", START + "report()"], tmp_path),
    ):
        assert "a worker cannot import" in done.stdout, done.stderr


def test_a_worker_that_repeats_the_script_ends_at_once(tmp_path):
    """The last defence, for scripts in which `obstacle` sees no call at the top."""
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\n"
        "from data_pipelines.preparing import processes\n"
        "with processes.one_at_a_time(Path('locked')), processes.pool(1) as pool:\n"
        "    print(pool.submit(len, 'abc').result())\n"
    )
    done = run(["script.py"], tmp_path)
    assert done.returncode == 1
    assert "BrokenProcessPool" in done.stderr
    assert "UserError" in done.stderr
    assert "script.py" in done.stderr


CUT = """
import os, signal, struct, sys, time
from concurrent.futures.process import BrokenProcessPool
from data_pipelines.preparing import processes

def die_in_an_answer():
    "End as if killed between the length of an answer and the answer."
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        frame = frame.f_back
    answers = frame.f_locals["result_queue"]
    answers._wlock.acquire()
    answers._writer._send(struct.pack("!i", 1000))
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    processes._PATIENCE = 0.5
    with processes.pool(2) as pool:
        assert pool.submit(len, "abc").result() == 3
        cut, waiting = pool.submit(die_in_an_answer), pool.submit(time.sleep, 0)
        for one in (cut, waiting):
            try:
                one.result(timeout=30)
            except BrokenProcessPool:
                print("broken")
"""
LEAVING = """
import time
from data_pipelines.preparing import processes

if __name__ == "__main__":
    processes._INTERVAL = processes._PATIENCE = 0
    with processes.pool(2) as pool:
        running = [pool.submit(time.sleep, 3) for _ in range(2)]
        waiting = [pool.submit(time.sleep, 0) for _ in range(9)]
        time.sleep(2)
        workers = list(pool._processes.values())
    print([one.exitcode for one in workers])
    print([one.result() for one in running], sum(one.cancelled() for one in waiting) > 5)
"""


def test_a_worker_that_is_killed_while_it_answers_does_not_block(tmp_path):
    (tmp_path / "script.py").write_text(CUT)
    done = run(["script.py"], tmp_path)
    assert (done.returncode, done.stdout) == (0, "broken\nbroken\n"), done.stderr


def test_workers_that_leave_at_the_end_are_not_taken_for_killed(tmp_path):
    (tmp_path / "script.py").write_text(LEAVING)
    done = run(["script.py"], tmp_path)
    assert (done.returncode, done.stdout) == (0, "[0, 0]\n[None, None] True\n"), done.stderr
