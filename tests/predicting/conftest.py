"""The command with a network that finds red spots."""

import pytest

from pare_jax.body.model import load_body_model
from pare_jax.predicting import command as command_module
from tests.predict_fakes import make_predictor, run_predict


@pytest.fixture(scope="package")
def predictor():
    return make_predictor(load_body_model(), fails_on_blue=True)


@pytest.fixture
def command(predictor, monkeypatch, tmp_path, capsys):
    """Runs the command: exit status, lines on stdout, lines on stderr, the output folder."""
    monkeypatch.setattr(command_module, "load_predictor", lambda path, weights: predictor)
    output = tmp_path / "out"

    def run(*arguments):
        status, printed, errors = run_predict(output, arguments, capsys)
        return status, printed.splitlines(), errors, output

    return run
