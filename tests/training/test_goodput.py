"""Shares of a run's time, on a made-up clock: nothing waits, compiles or trains here."""

import json
import threading

import pytest

from pare_jax.training import goodput as goodput_lib
from pare_jax.training.goodput import ACTIVITIES, Goodput


class Clock:
    """A clock that stands still; the thread of a `Goodput` reads the end of its step."""

    def __init__(self):
        self.now, self.ends = 0.0, []

    def __call__(self):
        if threading.current_thread() is threading.main_thread():
            return self.now
        return self.ends.pop(0)


@pytest.fixture(name="clock")
def clock_fixture(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(goodput_lib.jax, "block_until_ready", lambda event: event.wait(10))
    return clock


def train(goodput, clock, end):
    """Send a step at once; return the function that lets it end at a time of the clock."""
    finished = threading.Event()
    clock.ends.append(end)
    goodput.sent(goodput.now(), finished)

    def finish():
        before = goodput._waiting
        finished.set()
        while goodput._waiting == before:
            pass

    return finish


def seconds(goodput):
    found = goodput._add_up()
    assert list(found) == list(ACTIVITIES)
    return {name: value for name, value in found.items() if value}


def test_the_time_in_which_a_step_runs_is_training_whatever_python_does(tmp_path, clock):
    with Goodput(tmp_path, clock) as goodput:
        clock.now = 5.0
        goodput.turn_to("other")
        finish = train(goodput, clock, 8.0)  # of which saving takes one second
        clock.now = 7.0
        with goodput.spent("saving"):
            clock.now = 9.0
        assert "training" not in seconds(goodput)  # it still runs
        with goodput.spent("waiting_for_data"):
            clock.now = 10.0
        finish()
        shares = goodput.shares()
        assert seconds(goodput) == {
            "training": 3.0,
            "starting": 5.0,
            "saving": 1.0,
            "waiting_for_data": 1.0,
        }
        assert shares["training"] == pytest.approx(0.3)
        assert sum(shares.values()) == pytest.approx(1.0)
        assert "0:10 in all: 30.0% training, 50.0% starting" in goodput.line()


def test_steps_sent_ahead_follow_each_other(tmp_path, clock):
    with Goodput(tmp_path, clock) as goodput:
        goodput.turn_to("other")
        finishes = [train(goodput, clock, end) for end in (2.0, 4.0, 6.0)]
        clock.now = 10.0
        finishes[0]()
        assert seconds(goodput) == {"training": 2.0}
        finishes[1]()
        finishes[2]()
        assert seconds(goodput) == {"training": 6.0, "other": 4.0}


def test_compiling_is_taken_from_what_compiles(tmp_path, clock):
    with Goodput(tmp_path, clock) as goodput:
        goodput.turn_to("other")
        clock.now = 3.0
        # Tracing reports its parts before the whole.
        goodput._event("/jax/core/compile/jaxpr_trace_duration", 1.0)
        goodput._event("/jax/core/compile/jaxpr_trace_duration", 2.0)
        goodput._event("/jax/checkpoint/write", 3.0)
        goodput.turn_to("evaluating")
        clock.now = 10.0
        goodput._event("/jax/core/compile/backend_compile_duration", 4.0)
        assert seconds(goodput) == {"compiling": 6.0, "evaluating": 3.0, "other": 1.0}


def test_a_restart_counts_what_it_trains_again_as_lost(tmp_path, clock):
    with Goodput(tmp_path, clock) as goodput:
        goodput.turn_to("other")
        finish = train(goodput, clock, 20.0)
        clock.now = 20.0
        finish()
        goodput.keep(40)  # half a second each; then it is killed, with a checkpoint of step 30
    with Goodput(tmp_path, clock) as goodput:
        goodput.resume(30)
        clock.now = 22.0
        assert seconds(goodput) == {"training": 15.0, "lost_by_restarts": 5.0, "starting": 2.0}
        goodput.keep(35)
    with Goodput(tmp_path, clock) as goodput:
        goodput.resume(35)  # nothing was lost
        assert seconds(goodput)["lost_by_restarts"] == 5.0


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"seconds": {"training": -1}}', None])
def test_a_damaged_file_is_as_good_as_none(tmp_path, clock, content):
    text = json.dumps({"seconds": {"training": "x"}, "steps": 1, "last_step": 1})
    (tmp_path / "goodput.json").write_text(text if content is None else content)
    with Goodput(tmp_path, clock) as goodput:
        assert seconds(goodput) == {}
