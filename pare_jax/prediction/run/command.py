"""The command line: flags in, files and a summary out, and the exit status."""

import collections
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from pare_jax.errors import UserError, counted, listed
from pare_jax.io.media import Clip, Photo, Source, Webcam
from pare_jax.io.threads import said_plainly
from pare_jax.prediction.answers import DivergedError
from pare_jax.prediction.box_files import output_names
from pare_jax.prediction.detection import Detector, make_detector
from pare_jax.prediction.page.entries import Entry, Failure, RunPage, VideoEntry, entry_from_files
from pare_jax.prediction.page.index_page import write_page
from pare_jax.prediction.predictor import load_predictor
from pare_jax.prediction.run.clips import ClipJob, predict_clip
from pare_jax.prediction.run.folder import claimed
from pare_jax.prediction.run.inputs import Boxes, boxes_of, named_sources
from pare_jax.prediction.run.live import predict_webcam
from pare_jax.prediction.run.moving import video_suffix
from pare_jax.prediction.run.options import DEFAULT_OUTPUTS, OUTPUTS, SMOOTHED, PredictionRun
from pare_jax.prediction.run.photographs import PhotoJob, predict_photos
from pare_jax.prediction.run.records import Record, Records, checkpoint_identity, key_of
from pare_jax.prediction.run.reporting import Reporter
from pare_jax.prediction.smoothing import Smoothing
from pare_jax.prediction.tracking import TrackSettings

_TITLE = "Predictions"
# The files are written in another way than before: what was done then is done again.
_FORMAT = 2

_HOG_HINT = (
    " (the detector hog misses most people: give --boxes, name an ONNX detector, or say "
    "--detector=whole where a picture shows one person)"
)


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    text, switch = flags.DEFINE_string, flags.DEFINE_bool
    text("checkpoint", None, "A run's folder, or WORKDIR/checkpoints/STEP.", flag_values=values)
    text("output", None, "Folder for what is found.", flag_values=values)
    flags.DEFINE_multi_string(
        "boxes", [], "x0,y0,x1,y1 (once a person) or a JSON file.", flag_values=values
    )
    text("detector", "hog", "hog, whole, or an .onnx file.", flag_values=values)
    flags.DEFINE_float("threshold", None, "Least score of a detection, 0 to 1.", flag_values=values)
    flags.DEFINE_list(
        "outputs", list(DEFAULT_OUTPUTS), f"Of {','.join(OUTPUTS)}.", flag_values=values
    )
    for name, what in (
        ("rotations", "the rotations of joints"),
        ("shape", "one shape for each person of a clip"),
        ("camera", "where each person stands"),
    ):
        switch(f"smooth_{name}", True, f"In clips, steady {what}.", flag_values=values)
    flags.DEFINE_enum(
        "weights", "auto", ["auto", "swa", "last"], "Which of the run's.", flag_values=values
    )


def run_command(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    """Do what the command line says; returns the exit status.

    Raises:
        UserError: the command line is wrong, or nothing can be done.
    """
    if not values.checkpoint or not values.output:
        raise UserError("--checkpoint=RUN and --output=FOLDER are needed; see --help")
    outputs = _outputs(values.outputs)
    output = Path(values.output)
    reporter = Reporter()
    if values.detector == "hog" and not values.boxes:
        reporter.hint = _HOG_HINT
    # A folder that cannot be used is said before the network is loaded.
    with claimed(output):
        records = Records(output)
        records.sweep()
        sources, away = named_sources(arguments, records, reporter)
        if not sources:  # and why not is said
            return reporter.status
        boxes = boxes_of(values, sources, away, reporter)
        run = _run(values, outputs, records, reporter, _detectors(values, sources, boxes))
        return _do(run, sources, boxes)


def _run(
    values: flags.FlagValues,
    outputs: frozenset[str],
    records: Records,
    reporter: Reporter,
    detectors: tuple[Detector | None, Detector | None],
) -> PredictionRun:
    """Load the network and put together what the parts of the run need."""
    tracking = TrackSettings()
    if values.threshold is not None:
        low = min(values.threshold, tracking.low_score)
        tracking = TrackSettings(high_score=values.threshold, low_score=low)
    detector, clip_detector = detectors
    return PredictionRun(
        predictor=load_predictor(values.checkpoint, values.weights),
        output=Path(values.output),
        outputs=outputs,
        detector=detector,
        clip_detector=clip_detector,
        tracking=tracking,
        smoothing=Smoothing(values.smooth_rotations, values.smooth_shape, values.smooth_camera),
        identity=_identity(values, outputs),
        records=records,
        reporter=reporter,
        facts=_facts(values),
    )


def _do(run: PredictionRun, sources: Sequence[Source], boxes: Boxes) -> int:
    interruption: KeyboardInterrupt | None = None
    facts = run.facts
    try:
        _predict(run, sources, boxes)
    except KeyboardInterrupt as error:
        # Finishing what was being written may have been interrupted, too: then nothing follows.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise
        interruption = error
        facts = {**facts, "Interrupted": "by Ctrl-C; the same command goes on"}
        run.reporter.say("interrupted: telling of what is done (Ctrl-C again leaves at once)")
    if run.wants("page") and len(run.records):
        _write_page(run, facts)
    for line in run.reporter.summary():
        run.reporter.say(line)
    if interruption is not None:
        raise interruption
    return run.reporter.status


def _write_page(run: PredictionRun, facts: Mapping[str, str]) -> None:
    path = run.output / "index.html"
    if _is_of_others(path):
        reason = f"{path} is there and no run wrote it: move it away, or there is no page"
        run.reporter.failed(str(path), reason)
        return
    unknown = [record.source for record in run.records if not _tells_of_people(record)]
    if unknown:
        what = f"{counted(len(unknown), 'result')} that an earlier run wrote without npz"
        run.reporter.warn(f"note: the page leaves out {what}: {listed(unknown)}")
        facts = {**facts, "Not shown": what}
    page = RunPage(
        title=_TITLE,
        entries=_entries(run),
        failures=run.reporter.failures,
        facts=facts,
        body=run.predictor.body_data,
    )
    try:
        with said_plainly():
            write_page(page, run.output, lambda f: run.reporter.failed(f.name, f.reason))
    except UserError as error:
        run.reporter.failed(str(path), str(error))
    else:
        run.reporter.say(f"page: {path}")


def _is_of_others(page: Path) -> bool:
    """Whether a page is there that no run wrote; one that cannot be read is left to the writer."""
    try:
        with page.open("rb") as file:
            return f"<title>{_TITLE}</title>".encode() not in file.read(4096)
    except OSError:
        return False


def _predict(run: PredictionRun, sources: Sequence[Source], boxes: Boxes) -> None:
    """Do every source that an earlier run has not done: photographs, clips, cameras."""
    photos: list[PhotoJob] = []
    clips: list[ClipJob] = []
    webcams: list[tuple[Webcam, str]] = []
    # What a camera saw is gone: every recording has a name of its own.
    now = time.strftime("%Y%m%d_%H%M%S")
    paths = [Path(f"{s.name}_{now}") if isinstance(s, Webcam) else s.path for s in sources]
    names = output_names(paths, run.records.held(), run.records.names_of_others())
    for source, name in zip(sources, names, strict=True):
        if isinstance(source, Webcam):
            webcams.append((source, name))
            continue
        own = boxes[source.path]
        key = key_of(source.path, own, _identity_for(source, own, run.identity))
        record = run.records.done(name, key) if key else None
        if record is not None:
            run.reporter.done(record, earlier=True)
        elif isinstance(source, Photo):
            photos.append(PhotoJob(source, name, key, own))  # pyright: ignore[reportArgumentType]
        else:
            clips.append(ClipJob(source, name, key, own))  # pyright: ignore[reportArgumentType]
    if photos:
        before = sum(not record.is_clip for record in run.reporter.records)
        with run.reporter.bar("photographs", len(photos) + before, before) as bar:
            predict_photos(run, photos, bar)
    for job in clips:
        try:
            with said_plainly():
                run.reporter.done(predict_clip(run, job))
        except DivergedError:
            raise  # the next clip would fare no better
        except UserError as error:
            run.records.drop_unfinished(job.name)
            run.reporter.failed(str(job.clip), str(error))
    for webcam, name in webcams:
        try:
            with said_plainly():
                run.reporter.done(predict_webcam(run, webcam, name))
        except DivergedError:
            raise
        except UserError as error:
            run.records.drop_unfinished(name)
            run.reporter.failed(str(webcam), str(error))


def _outputs(names: Sequence[str]) -> frozenset[str]:
    outputs = frozenset(name.strip() for name in names if name.strip())
    unknown = sorted(outputs - set(OUTPUTS))
    if unknown:
        raise UserError(f"--outputs={unknown[0]} is none of {','.join(OUTPUTS)}")
    if not outputs:
        raise UserError(f"--outputs names nothing to write; choose of {','.join(OUTPUTS)}")
    for needy in ("page", "vertices"):
        if needy in outputs and "npz" not in outputs:
            raise UserError(f"--outputs={needy} needs npz, too")
    return outputs


def _detectors(
    values: flags.FlagValues, sources: Sequence[Source], boxes: Boxes
) -> tuple[Detector | None, Detector | None]:
    """The detectors of photographs and of clips; None where boxes are given."""
    needed = [s for s in sources if isinstance(s, Webcam) or boxes[s.path] is None]
    # A name or file that is wrong is said even where it is not needed.
    detector = make_detector(values.detector, values.threshold)
    photos = any(isinstance(source, Photo) for source in needed)
    clips = any(not isinstance(source, Photo) for source in needed)
    # The tracker decides what to make of unsure detections.
    low = TrackSettings.low_score
    if values.threshold is not None:
        low = min(low, values.threshold)
    return (
        detector if photos else None,
        make_detector(values.detector, low) if clips else None,
    )


def _identity(values: flags.FlagValues, outputs: frozenset[str]) -> dict[str, Any]:
    """Everything but files and boxes that decides what is written."""
    detector: list[Any] = [values.detector]
    path = Path(values.detector)
    if path.is_file():
        detector += [str(path.absolute()), path.stat().st_mtime_ns]
    return {
        "format": _FORMAT,
        "checkpoint": checkpoint_identity(values.checkpoint, values.weights),
        # The page is of the whole folder, not of one photograph.
        "outputs": sorted(outputs - {"page"}),
        "detector": detector,
        "threshold": values.threshold,
        "smoothing": [values.smooth_rotations, values.smooth_shape, values.smooth_camera],
        "video": video_suffix(),
    }


def _identity_for(
    source: Photo | Clip, boxes: object, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """What of the identity decides what is written about this one, whose boxes may be given."""
    own = dict(identity)
    if boxes is not None:
        del own["detector"]
    if isinstance(source, Photo):
        del own["smoothing"], own["video"]
        # Its arrays have the meshes in any case.
        own["outputs"] = [name for name in own["outputs"] if name != "vertices"]
        if boxes is not None:  # of which the threshold has left out some already
            del own["threshold"]
    return own


def _facts(values: flags.FlagValues) -> dict[str, str]:
    found = "boxes that were given" if values.boxes else values.detector
    smoothed = [n for n in ("rotations", "shape", "camera") if values[f"smooth_{n}"].value]
    return {
        "Network": _network(values),
        "People found by": found,
        SMOOTHED: ", ".join(smoothed) or "nothing",
    }


def _network(values: flags.FlagValues) -> str:
    step = checkpoint_identity(values.checkpoint, values.weights)[1]
    parts = [values.checkpoint, *[f"step {step}"] * (step is not None)]
    return ", ".join([*parts, *[f"{values.weights} weights"] * (values.weights != "auto")])


def _entries(run: PredictionRun) -> Iterator[Entry]:
    """The page's entries: all that is done in the folder, by this run or before."""
    by_this_run = {record.name for record in run.reporter.records}
    names = collections.Counter(Path(record.source).name for record in run.records)
    for record in filter(_tells_of_people, run.records):
        name = Path(record.source).name
        try:
            # Photographs of one name are told apart by their folders.
            entry = _entry(run, record, name if names[name] == 1 else record.source)
        except UserError as error:
            run.reporter.failures.append(Failure(record.source, str(error)))
            continue
        if record.name not in by_this_run:
            facts = {n: value for n, value in record.facts.items() if value != run.facts.get(n)}
            entry = dataclasses.replace(entry, facts=facts)
        yield entry


def _entry(run: PredictionRun, record: Record, title: str) -> Entry:
    if record.is_clip and not record.files:  # nobody was found, and nothing was drawn
        return VideoEntry(title, tracks=(), frame_count=0, frame_rate=0.0)
    # Pictures of other origin may happen to be called alike.
    return entry_from_files(run.output, record.name, title, record.files)


def _tells_of_people(record: Record) -> bool:
    """Whether the files of something say who is in it."""
    nobody = record.is_clip and not record.people
    return nobody or any(file.endswith(".npz") for file in record.files)
