"""The command pare_jax.predict: reads its flags, predicts every input, returns the exit status."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.io.media import Clip, Photo, Source, Webcam, find_clips
from pare_jax.io.progress import ProgressBar
from pare_jax.io.threads import errors_as_user_errors
from pare_jax.keypoints.sets import SETS
from pare_jax.prediction.answers import DivergedError
from pare_jax.prediction.detection import (
    FollowingDetector,
    default_detector,
    make_detector,
    without_keypoints,
)
from pare_jax.prediction.focal_length import FocalFlags
from pare_jax.prediction.keypoint_source import BLAZEPOSE, keypoint_file
from pare_jax.prediction.loading import load_predictor
from pare_jax.prediction.predictor import Predictor
from pare_jax.prediction.run.clips import predict_clip
from pare_jax.prediction.run.inputs import Boxes, boxes_of, named_sources
from pare_jax.prediction.run.live import predict_webcam
from pare_jax.prediction.run.options import (
    DEFAULT_OUTPUTS,
    OUTPUTS,
    SMOOTHINGS,
    Job,
    PredictionRun,
    checked_outputs,
    facts_of_flags,
    key_of,
)
from pare_jax.prediction.run.output_folder import OutputFolder, Record, claimed_folder
from pare_jax.prediction.run.photographs import predict_photos
from pare_jax.prediction.run.reporting import Reporter, write_run_page
from pare_jax.prediction.smoothing import Smoothing
from pare_jax.prediction.tracking import TrackSettings

_HINT = " (give --boxes, or --detector=whole where a picture shows one person)"


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""

    def text(name: str, default: str | None, description: str) -> None:
        flags.DEFINE_string(name, default, description, flag_values=values)

    command_line.define_run_flags(values)
    text("output", "predictions", "The output folder.")
    flags.DEFINE_multi_string(
        "boxes", [], "x0,y0,x1,y1, once for each person, or a file of boxes.", flag_values=values
    )
    detector = "blazepose (default if installed), whole (each picture is one person), or FILE.onnx."
    text("detector", None, detector)
    text("keypoints", None, "blazepose (default), an .onnx file, or people's keypoints in a file.")
    text("keypoint_set", None, f"The points of --keypoints=FILE: {', '.join(SETS)}.")
    flags.DEFINE_bool(
        "refine", False, "Fit the predicted bodies to the keypoints.", flag_values=values
    )
    flags.DEFINE_multi_string(
        "clip", [], "A folder of numbered frames, or a file to read as a clip.", flag_values=values
    )
    flags.DEFINE_float("fps", None, "Frames a second of --clip's folders.", flag_values=values)
    flags.DEFINE_float("threshold", None, "Least score of a detection, 0 to 1.", flag_values=values)
    flags.DEFINE_list(
        "outputs",
        list(DEFAULT_OUTPUTS),
        f"Outputs to write, from {','.join(OUTPUTS)}.",
        flag_values=values,
    )
    for name, what in (
        ("focal", "The camera's focal length, pixels; default: EXIF tags, else a guess."),
        ("fov", "Instead of --focal: the angle of view across the longer side, degrees."),
    ):
        flags.DEFINE_float(name, None, what, flag_values=values)
    for name, what in zip(
        SMOOTHINGS, ("joint rotations", "the shape of a person", "positions"), strict=True
    ):
        flags.DEFINE_bool(f"smooth_{name}", True, f"In clips, smooth {what}.", flag_values=values)


def run_command(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    """Predict the people of all inputs; returns the exit status.

    Raises:
        UserError: the command line is wrong, or nothing can be done.
    """
    if not values.output:
        raise UserError("--output= is empty: give a folder, which may be a new one")
    checked_outputs(values.outputs)
    focal = FocalFlags(values.focal, values.fov)
    if values.keypoint_set and (values.keypoints or BLAZEPOSE) == BLAZEPOSE:
        raise UserError(
            f"--keypoint_set={values.keypoint_set} names the points of --keypoints=FILE, which is "
            "missing: give that file"
        )
    reporter = Reporter()
    note = None
    if values.detector is None:
        values.detector, note = default_detector()
    if values.detector != "whole" and not values.boxes and not keypoint_file(values.keypoints):
        reporter.hint = _HINT
    # Checked before the network is loaded, which takes seconds.
    with claimed_folder(Path(values.output)) as folder:
        clips = find_clips(values.clip, values.fps)
        sources, missing = named_sources(arguments, folder, reporter, clips)
        if not sources:  # each has been reported
            return reporter.status
        boxes = boxes_of(values, sources, missing, reporter)
        sources = [one for one in sources if isinstance(one, Webcam) or one.path in boxes]
        if not sources:
            return reporter.status
        run = _load_run(values, folder, reporter, sources, boxes, focal)
        if note and not values.boxes and not keypoint_file(values.keypoints):
            reporter.warn(f"note: {note}, or give --boxes or --detector=FILE.onnx")
        return _predict_and_report(run, values, sources, boxes)


def _load_run(
    values: flags.FlagValues,
    folder: OutputFolder,
    reporter: Reporter,
    sources: Sequence[Source],
    boxes: Boxes,
    focal: FocalFlags,
) -> PredictionRun:
    """Load the detectors and the network, and collect the settings."""
    tracking = TrackSettings()
    if values.threshold is not None:
        low = min(values.threshold, tracking.low_score)
        tracking = TrackSettings(high_score=values.threshold, low_score=low)
    # Made even if it is not needed: a wrong name or file is an error in any case.
    detector = make_detector(values.detector, values.threshold)
    clip_detector = None
    detected = [s for s in sources if isinstance(s, Webcam) or boxes[s.path] is None]
    if not all(isinstance(source, Photo) for source in detected):
        clip_detector = detector
        if not isinstance(detector, FollowingDetector):
            # The tracker uses detections with low scores, too.
            clip_detector = make_detector(values.detector, tracking.low_score)
    predictor = load_predictor(
        values.checkpoint,
        values.weights,
        body=values.body,
        crop_scale=values.crop_scale,
        say=reporter.say,
        keypoints=None if keypoint_file(values.keypoints) else values.keypoints or BLAZEPOSE,
        keypoint_set=values.keypoint_set,
        refine=values.refine,
    )
    if predictor.warning:
        reporter.warn(f"warning: {predictor.warning}")
    _check_attention(values, predictor, reporter)
    if _names_other_source(values, predictor, reporter):
        detector = without_keypoints(detector)
        clip_detector = clip_detector and without_keypoints(clip_detector)
    return PredictionRun(
        predictor=predictor,
        folder=folder,
        outputs=checked_outputs(values.outputs),
        detector=detector,
        clip_detector=clip_detector,
        tracking=tracking,
        smoothing=Smoothing(values.smooth_rotations, values.smooth_shape, values.smooth_camera),
        reporter=reporter,
        facts=facts_of_flags(values, predictor),
        focal=focal,
    )


def _check_attention(values: flags.FlagValues, predictor: Predictor, reporter: Reporter) -> None:
    """Refuse --outputs=attention alone if the network has no attention; note it beside others."""
    if predictor.has_attention or not values["outputs"].present:
        return
    outputs = checked_outputs(values.outputs)
    if outputs == {"attention"}:
        raise UserError(
            "--outputs=attention: this network has no attention maps; choose other outputs, or a "
            "--checkpoint with part attention"
        )
    if "attention" in outputs:
        reporter.warn("note: --outputs=attention has no effect: this network has no attention maps")


def _names_other_source(values: flags.FlagValues, predictor: Predictor, reporter: Reporter) -> bool:
    """Return whether keypoints come from --keypoints=FILE.onnx; note flags without effect."""
    file, name = keypoint_file(values.keypoints), values.keypoints or BLAZEPOSE
    if file or name == BLAZEPOSE:
        return False
    if predictor.source is None:
        reporter.warn(
            f"note: --keypoints={name} has no effect: the network sees pixels; give --refine"
        )
        return False
    return True


def _predict_and_report(
    run: PredictionRun, values: flags.FlagValues, sources: Sequence[Source], boxes: Boxes
) -> int:
    """Predict all inputs, and write the page and the summary, also after Ctrl-C."""
    interruption: KeyboardInterrupt | None = None
    facts = run.facts
    try:
        _predict(run, values, sources, boxes)
    except KeyboardInterrupt as error:
        # A second Ctrl-C while files are finished ends the run without a page.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise
        interruption = error
        facts = {**facts, "Interrupted": "by Ctrl-C; run the same command again to resume"}
        run.reporter.say("interrupted: writing the page and the summary (Ctrl-C again skips them)")
    if run.wants("page") and len(run.folder):
        write_run_page(run.folder, run.reporter, facts, run.predictor.body_data)
    for line in run.reporter.summary():
        run.reporter.say(line)
    if interruption is not None:
        raise interruption
    return run.reporter.status


def _predict(
    run: PredictionRun, values: flags.FlagValues, sources: Sequence[Source], boxes: Boxes
) -> None:
    """Predict every input that is not done: photographs, then clips, then cameras."""
    photos: list[Job] = []
    others: list[tuple[Source, Callable[[], Record]]] = []
    # Every recording of a camera gets a new name.
    now = time.strftime("%Y%m%d_%H%M%S")
    paths = [Path(f"{s.name}_{now}") if isinstance(s, Webcam) else s.path for s in sources]
    for source, name in zip(sources, run.folder.names_for(paths), strict=True):
        if isinstance(source, Webcam):
            others.append((source, lambda s=source, n=name: predict_webcam(run, s, n)))
            continue
        own = boxes[source.path]
        key = key_of(source, own, values, run.outputs, run.predictor)
        if record := run.folder.done(name, key):
            run.reporter.done(record, earlier=True)
        elif isinstance(source, Photo):
            photos.append(Job(source.path, name, key, own))
        else:
            job = Job(source.path, name, key, own, source.frame_rate)
            others.append((source, lambda job=job: predict_clip(run, job)))
    if photos:
        before = sum(not record.is_clip for record in run.reporter.records)
        with ProgressBar("photographs", len(photos) + before, start=before) as bar:
            predict_photos(run, photos, bar)
    others.sort(key=lambda pair: not isinstance(pair[0], Clip))
    for source, predict in others:
        try:
            with errors_as_user_errors():
                run.reporter.done(predict())
        except DivergedError:
            raise  # the others would fail alike
        except UserError as error:
            run.reporter.failed(str(source), str(error))
