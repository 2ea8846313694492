"""Loads a predictor: the network of this package, or one that the user trained."""

from collections.abc import Callable
from pathlib import Path

from pare_jax.body.model import body_from_data
from pare_jax.errors import UserError
from pare_jax.prediction.keypoint_source import BLAZEPOSE, KeypointSource, make_source
from pare_jax.prediction.predictor import Predictor
from pare_jax.training.config import check_crop_scale, crop_scale_of
from pare_jax.training.shipped import load_shipped
from pare_jax.training.trained_run import load_model, split_checkpoint, warning_of_run
from pare_jax.training.workdir import load_run_body

# The name of the network of this package, for people.
SHIPPED_NAME = "keypoint network"


def load_predictor(
    checkpoint_or_workdir: str | Path | None = None,
    weights: str = "auto",
    body: str | Path | None = None,
    crop_scale: float | None = None,
    say: Callable[[str], object] | None = None,
    keypoints: str | Path | None = BLAZEPOSE,
    keypoint_set: str | None = None,
    refine: bool = False,
) -> Predictor:
    """Load a trained network and its body model.

    Args:
        checkpoint_or_workdir: a run's folder, or one checkpoint's folder within it. None: the
            network of this package, which sees keypoints.
        weights: "swa", "last", or "auto" for the run's `eval.weights`.
        body: file of the run's body model, if it has moved; None: the path in the run's config.
        crop_scale: side of a crop over the longer side of its box; None: the run's, which is 1.2
            for runs without the key.
        say: see `load_model`.
        keypoints: source of the keypoints, if the network or `refine` needs them: "blazepose", or
            the path of an ONNX file. None: they are given in each call.
        keypoint_set: the set of an ONNX file's points; None: by their number.
        refine: whether the predicted bodies are fitted to the keypoints.

    Returns:
        The predictor; its first call compiles the network.

    Raises:
        UserError: no such run, a damaged checkpoint or one of another architecture; a body model
            that is missing or is not the run's; a crop scale out of range; an option that needs a
            checkpoint; or a source of keypoints that is missing.
    """
    if crop_scale is not None:
        check_crop_scale(crop_scale, "crop_scale")
    if checkpoint_or_workdir is None:
        _check_no_options(weights=weights != "auto", body=body, crop_scale=crop_scale)
        config, module, data = load_shipped()
        warning = None
    else:
        config, module = load_model(checkpoint_or_workdir, weights, say)
        data = load_run_body(split_checkpoint(checkpoint_or_workdir)[0], config, body)
        warning = warning_of_run(checkpoint_or_workdir, config)
    needs_keypoints = config.model.get("input") == "keypoints"
    source: KeypointSource | None = None
    if keypoints is not None and (needs_keypoints or refine):
        source = make_source(keypoints, keypoint_set)
    if crop_scale is None:
        crop_scale = crop_scale_of(config, checkpoint_or_workdir or "the network of this package")
    predictor = Predictor(
        module,
        body_from_data(data),
        None if needs_keypoints else config.image_size,
        data,
        crop_scale=crop_scale,
        warning=warning,
        source=source,
    )
    return predictor.with_refinement() if refine else predictor


def _check_no_options(**given: object) -> None:
    for name, value in given.items():
        if value:
            raise UserError(
                f"{name} is for a checkpoint of yours, and none is named: leave it out for the "
                "network of this package"
            )
