"""Computes what the page shows: finds people in uploads and examples; needs no gradio."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pare_jax.demo import page_html
from pare_jax.demo.examples import Example
from pare_jax.demo.memory import Memory, PhotographResult
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError, counted
from pare_jax.io.images import Picture
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.detection import Detection, Detector, WholePicture
from pare_jax.prediction.person import Person

# Sources of boxes: the detector given by --detector, the whole photograph, or typed text.
DETECTOR, WHOLE, BOXES = "detector", "whole", "boxes"
# More people would make the page too slow for a browser.
MAX_PEOPLE = 20


class PeoplePredictor(Protocol):
    """The part of `pare_jax.prediction.predictor.Predictor` that the page uses."""

    def __call__(self, image: Picture, boxes: Sequence[Any] | None = None) -> list[Person]:
        """Return one person for each box."""
        ...


@dataclasses.dataclass(frozen=True)
class PhotographView:
    """The page's content for one photograph.

    Attributes:
        key: key of the photograph in the page's memory; None if nothing is shown.
        message: HTML.
        overlay: HTML.
        downloads: HTML.
        people: labels of the people.
    """

    key: str | None
    message: str
    overlay: str = ""
    downloads: str = ""
    people: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class PersonView:
    """The page's content for one person.

    Attributes:
        attention: HTML.
        joints: HTML.
        body: GLB file.
    """

    attention: str = ""
    joints: str = ""
    body: Path | None = None


class Session:
    """Handles the events of the page."""

    def __init__(
        self,
        predictor: PeoplePredictor,
        detector: Detector,
        folder: UploadFolder,
        examples: Sequence[Example] = (),
    ):
        """Take the predictor, the detector and the files of the page.

        Args:
            predictor: predicts the people in boxes.
            detector: finds the boxes for `DETECTOR`.
            folder: folder of uploads.
            examples: images offered on the page.
        """
        self.examples = list(examples)
        self.memory = Memory()
        self._predictor, self._detector, self._folder = predictor, detector, folder

    def receive(
        self, upload: Mapping[str, Any] | None, how: str, boxes: str, key: str | None
    ) -> PhotographView:
        """Read an uploaded photograph and find the people in it.

        Args:
            upload: the browser's description of the file, which is removed.
            how: `DETECTOR`, `WHOLE` or `BOXES`.
            boxes: typed text, for `BOXES`.
            key: key of the photograph shown before, which is removed from memory.
        """
        self.memory.forget(key)
        try:
            name, photograph = self._folder.take(upload)
        except UserError as error:
            return PhotographView(None, page_html.message_html(_sentence(error), True))
        scale = float(photograph.scale[0])
        key = self.memory.put(PhotographResult(name, photograph.image, scale))
        return self.find(key, how, boxes)

    def example(self, number: int, key: str | None) -> tuple[PhotographView, str]:
        """Return the view of an example with its own boxes, and the boxes as typed text."""
        self.memory.forget(key)
        example = self.examples[number]
        boxes = "\n".join(",".join(f"{value:g}" for value in box) for box in example.boxes)
        key = self.memory.put(PhotographResult(example.name, example.image, 1.0))
        return self.find(key, BOXES, boxes), boxes

    def find(self, key: str | None, how: str, boxes: str) -> PhotographView:
        """Find the people in a stored photograph again; replaces its people."""
        try:
            result = self.memory.get(key)
        except UserError as error:
            return PhotographView(None, page_html.message_html(_sentence(error), True))
        result = dataclasses.replace(result, people=())
        try:
            found = self._detect(result, how, boxes)
            shown = found[:MAX_PEOPLE]
            people = self._predictor(result.image, [detection.box for detection in shown])
        except UserError as error:
            return self._shown(key, result, page_html.message_html(_sentence(error), True))
        left_out = len(found) - len(people)
        if how == DETECTOR:
            people = [
                dataclasses.replace(person, score=detection.score)
                for person, detection in zip(people, shown, strict=True)
            ]
        result = dataclasses.replace(result, people=tuple(people))
        return self._shown(key, result, page_html.message_html(_summary(result, left_out)))

    def write_file(self, name: str, content: bytes) -> Path:
        """Write a file for the page; it is removed when the page stops."""
        return self._folder.write(name, content)

    def person(self, key: str | None, number: int, joint: str) -> PersonView:
        """Return the view of one person in a stored photograph."""
        found = self._person(key, number)
        if found is None:
            return PersonView()
        result, person = found
        return PersonView(
            page_html.attention_html(result, person, joint),
            page_html.joints_html(person),
            self.write_file("person.glb", person.to_glb()),
        )

    def attention(self, key: str | None, number: int, joint: str) -> str:
        """Return the attention map of one joint as HTML; predicts nothing."""
        found = self._person(key, number)
        return "" if found is None else page_html.attention_html(*found, joint)

    def _person(self, key: str | None, number: int) -> tuple[PhotographResult, Person] | None:
        try:
            result = self.memory.get(key)
        except UserError:
            return None
        return (result, result.people[number]) if number < len(result.people) else None

    def _detect(self, result: PhotographResult, how: str, boxes: str) -> list[Detection]:
        height, width = result.image.shape[:2]
        if how == WHOLE:
            found = WholePicture()(result.image)
        elif how == BOXES:
            typed = [[value * result.scale for value in box] for box in parse_boxes(boxes)]
            found = [Detection(check_box(box, height, width), 1.0) for box in typed]
        else:
            found = self._detector(result.image)
        if not found:
            raise UserError(
                "nobody was found: choose the whole photograph as one person, or type a box"
            )
        return found

    def _shown(self, key: str | None, result: PhotographResult, message: str) -> PhotographView:
        return PhotographView(
            self.memory.put(result, key),
            message,
            page_html.overlay_html(result),
            page_html.downloads_html(result),
            tuple(page_html.people_names(result.people)),
        )


def parse_boxes(text: str) -> list[tuple[float, ...]]:
    """Read typed boxes: x0,y0,x1,y1, separated by new lines or semicolons.

    Raises:
        UserError: there is no box, or one is not four numbers.
    """
    boxes = []
    for line in re.split(r"[;\n]", text or ""):
        if not line.strip():
            continue
        try:
            box = tuple(float(number) for number in re.split(r"[,\s]+", line.strip()))
        except ValueError:
            box = ()
        if len(box) != 4:
            raise UserError(f"the box {line.strip()[:60]!r} is not four numbers: write x0,y0,x1,y1")
        boxes.append(box)
    if not boxes:
        raise UserError("no box given: write x0,y0,x1,y1 in pixels, one person a line")
    return boxes


def _summary(result: PhotographResult, left_out: int) -> str:
    height, width = result.image.shape[:2]
    count = len(result.people)
    people = "One person" if count == 1 else counted(count, "person")
    text = f"{people} found in {result.name!r}"
    if left_out:
        text += f"; {left_out} more skipped, the page shows at most {MAX_PEOPLE}"
    if result.scale < 1:
        return (
            f"{text}, reduced to {width} x {height} pixels: coordinates on the page and in the "
            "files are in these pixels, typed boxes in those of the file."
        )
    return f"{text} ({width} x {height} pixels)."


def _sentence(error: UserError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + "."
