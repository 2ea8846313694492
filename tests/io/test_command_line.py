"""The behaviour of every command: --help, mistakes in one line, the exit status."""

import logging
import signal
import subprocess
import sys
import time

import pytest
from absl import flags

from pare_jax import main, predict
from pare_jax.demo import __main__ as demo
from pare_jax.errors import UserError
from pare_jax.export import stablehlo as export
from pare_jax.io import command_line
from pare_jax.pretrained import convert
from pare_jax.sensitivity import cli as sensitivity


def define_flags(values):
    flags.DEFINE_integer("count", 1, "How many.", flag_values=values)


@pytest.fixture
def run(capsys):
    """Run a test command; return exit status, stdout and stderr."""

    def run(do, *argv, **options):
        status = command_line.run("What it does.", define_flags, do, ["name", *argv], **options)
        return status, *capsys.readouterr()

    return run


def fail(error):
    def do(values, arguments):
        raise error

    return do


def test_flags_and_arguments_reach_the_command(run):
    seen = []

    def do(values, arguments):
        seen.append((values.count, arguments))
        return 1

    assert run(do, "a", "--count=3", "b") == (1, "", "")
    assert seen == [(3, ["a", "b"])]
    # The flags of a run are not added to absl's global flags or to those of the next run.
    assert "count" not in flags.FLAGS
    assert run(do)[0] == 1
    assert seen[1] == (1, [])


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed_and_the_command_does_not_run(run, flag):
    status, printed, errors = run(fail(AssertionError), flag)
    assert (status, errors) == (0, "")
    assert printed.startswith("What it does.\n")
    assert "--count" in printed
    assert "--[no]help" in printed
    assert "command_line" not in printed.replace(__name__, "")


def test_a_users_mistake_is_one_line(run):
    assert run(fail(UserError("no such thing"))) == (2, "", "error: no such thing\n")
    for flag, name in (("--count=many", "many"), ("--cuont=1", "cuont")):
        status, printed, errors = run(fail(AssertionError), flag)
        assert (status, printed) == (2, "")
        assert errors.startswith("error: ")
        assert name in errors
        assert errors.count("\n") == 1


def test_ctrl_c_prints_the_commands_own_line(run):
    stopped = run(fail(KeyboardInterrupt), interrupted="stopped: resume later")
    assert stopped == (130, "", "stopped: resume later\n")


_HANGS = """
import signal, sys, threading, time
from pare_jax.io import command_line
signal.signal(signal.SIGINT, signal.default_int_handler)
def wait():
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("waiting", flush=True)
    time.sleep(60)
sys.exit(command_line.guarded(wait, "stopped"))
"""


def test_a_second_ctrl_c_ends_a_process_that_waits_for_its_threads():
    process = subprocess.Popen(
        [sys.executable, "-c", _HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "stopped\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == -signal.SIGINT
        assert process.stderr.read() == ""
    finally:
        process.kill()


def test_ctrl_c_inside_a_finaliser_is_not_lost(run):
    class Finalised:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0)  # Python runs its handler here, and drops what that raises.

    def work(*_):
        Finalised()
        time.sleep(20)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(work)[0] == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_name_from_elsewhere_stays_in_its_line(run):
    status, printed, errors = run(fail(UserError("cannot read a\nerror: b\x1b[2J")))
    assert (status, printed, errors) == (2, "", "error: cannot read a\\nerror: b\\x1b[2J\n")


def test_other_errors_are_not_hidden(run):
    with pytest.raises(ZeroDivisionError):
        run(fail(ZeroDivisionError))


def test_the_first_word_can_be_changed(capsys):
    def do():
        raise UserError("nothing there")

    assert command_line.guarded(do, speaker="prepare") == 2
    assert capsys.readouterr().err == "prepare: nothing there\n"


def test_a_hook_for_dropped_exceptions_that_the_command_sets_stays(monkeypatch):
    ignored, usual = [], []
    monkeypatch.setattr(sys, "unraisablehook", usual.append)

    class Dropped:
        exc_value = KeyboardInterrupt()

    def do():
        wrapped = sys.unraisablehook
        sys.unraisablehook = lambda dropped: (ignored.append(dropped), wrapped(dropped))
        return 0

    assert command_line.guarded(do) == 0
    sys.unraisablehook(Dropped)  # is no longer repeated
    assert ignored == usual == [Dropped]
    assert command_line.guarded(lambda: 0) == 0
    assert sys.unraisablehook.__name__ == "<lambda>"


def test_libraries_log_only_errors(run):
    log = logging.getLogger("absl")
    before = log.level
    try:
        run(lambda values, arguments: 0)
        assert not log.isEnabledFor(logging.WARNING)
        assert log.isEnabledFor(logging.ERROR)
    finally:
        log.setLevel(before)


@pytest.mark.parametrize("command", [main, predict, export, convert, sensitivity, demo])
def test_every_command_has_help_and_refuses_in_one_line(command, capsys):
    assert command.main(["name", "--help"]) == 0
    assert capsys.readouterr().out.startswith(command.__doc__)
    assert command.main(["name", "--no-such-flag"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
