"""The command with a network that finds red spots."""

import contextlib

import pytest

from pare_jax.body.model import load_body_model
from pare_jax.prediction.run import command as command_module
from tests.prediction.predict_fakes import make_predictor, run_predict


@pytest.fixture(scope="package")
def predictor():
    return make_predictor(load_body_model(), fails_on_blue=True)


@pytest.fixture
def command(predictor, monkeypatch, tmp_path, capsys):
    """Run the command; gives exit status, lines on stdout, lines on stderr and output folder."""
    monkeypatch.setattr(command_module, "load_predictor", lambda *_, **__: predictor)
    output = tmp_path / "out"

    def run(*arguments):
        status, printed, errors = run_predict(output, arguments, capsys)
        return status, printed.splitlines(), errors, output

    return run


@pytest.fixture
def stopped_after(predictor):
    """Make a context in which Ctrl-C is pressed after the network got a number of crops."""

    @contextlib.contextmanager
    def stopped(crops):
        start, given = predictor.start, []

        def interrupted(batch, pad_to=0):
            given.append(len(batch))
            if sum(given) > crops:
                raise KeyboardInterrupt
            return start(batch, pad_to)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(predictor, "start", interrupted)
            yield

    return stopped
