"""The command with a network that finds red spots."""

import pytest

from pare_jax import predict
from pare_jax.body.model import load_body_model
from pare_jax.predicting import command as command_module
from tests.predict_fakes import make_predictor


@pytest.fixture(scope="package")
def predictor():
    return make_predictor(load_body_model(), fails_on_blue=True)


@pytest.fixture
def command(predictor, monkeypatch, tmp_path, capsys):
    """Runs the command: exit status, lines on stdout, lines on stderr, the output folder."""
    monkeypatch.setattr(command_module, "load_predictor", lambda path, weights: predictor)
    output = tmp_path / "out"

    def run(*arguments):
        argv = ["predict", "--checkpoint=run", f"--output={output}", "--detector=whole"]
        status = predict.main([*argv, *map(str, arguments)])
        printed = capsys.readouterr()
        # How far a slow machine is, is said now and then.
        errors = [line for line in printed.err.splitlines() if not line.endswith(" left")]
        return status, printed.out.splitlines(), errors, output

    return run
