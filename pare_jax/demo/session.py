"""What the page does with pictures, whatever it looks like; knows nothing of gradio."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pare_jax.demo import showing
from pare_jax.demo.examples import Example
from pare_jax.demo.memory import Looked, Memory
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.detection import Detection, Detector, WholePicture
from pare_jax.prediction.person import Person

# Ways of finding people: the detector the page was started with, and two that need none.
DETECTOR, WHOLE, BOXES = "detector", "whole", "boxes"
# More than these in one picture would make the page too heavy for a browser.
MAX_PEOPLE = 20


class PictureToPeople(Protocol):
    """What is asked of a predictor; `pare_jax.Predictor` is one."""

    def __call__(self, image: Picture, boxes: Sequence[Any] | None = None) -> list[Person]:
        """Return one person a box."""
        ...


@dataclasses.dataclass(frozen=True)
class PictureView:
    """What the page shows of a picture.

    Attributes:
        key: of the picture in the page's memory; None where nothing is shown.
        message: HTML.
        overlay: HTML.
        downloads: HTML.
        people: what everybody is called.
    """

    key: str | None
    message: str
    overlay: str = ""
    downloads: str = ""
    people: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class PersonView:
    """What the page shows of one person.

    Attributes:
        attention: HTML.
        joints: HTML.
        body: GLB file.
    """

    attention: str = ""
    joints: str = ""
    body: Path | None = None


class Session:
    """Answers whatever is done on the page."""

    def __init__(
        self,
        predictor: PictureToPeople,
        detector: Detector,
        folder: UploadFolder,
        examples: Sequence[Example] = (),
    ):
        """Serve a predictor.

        Args:
            predictor: of people.
            detector: for those who let people be found.
            folder: where uploads lie.
            examples: pictures to begin with.
        """
        self.examples = list(examples)
        self.memory = Memory()
        self._predictor, self._detector, self._folder = predictor, detector, folder

    def receive(
        self, upload: Mapping[str, Any] | None, how: str, boxes: str, key: str | None
    ) -> PictureView:
        """Take an uploaded picture and find the people in it.

        Args:
            upload: what the browser says of it; its file is removed.
            how: `DETECTOR`, `WHOLE` or `BOXES`.
            boxes: what was typed in.
            key: of the picture shown until now, which is forgotten.
        """
        self.memory.forget(key)
        try:
            name, photograph = self._folder.take(upload)
        except UserError as error:
            return PictureView(None, showing.message_html(_sentence(error), True))
        scale = float(photograph.scale[0])
        key = self.memory.put(Looked(name, photograph.image, scale))
        return self.find(key, how, boxes)

    def example(self, number: int, key: str | None) -> tuple[PictureView, str]:
        """Show an example with its own boxes; returns these as they would be typed, too."""
        self.memory.forget(key)
        example = self.examples[number]
        boxes = "\n".join(",".join(f"{value:g}" for value in box) for box in example.boxes)
        key = self.memory.put(Looked(example.name, example.image, 1.0))
        return self.find(key, BOXES, boxes), boxes

    def find(self, key: str | None, how: str, boxes: str) -> PictureView:
        """Find the people in a remembered picture, in place of those found before."""
        try:
            looked = self.memory.get(key)
        except UserError as error:
            return PictureView(None, showing.message_html(_sentence(error), True))
        looked = dataclasses.replace(looked, people=())
        try:
            found = self._detect(looked, how, boxes)
            shown = found[:MAX_PEOPLE]
            people = self._predictor(looked.image, [detection.box for detection in shown])
        except UserError as error:
            return self._shown(key, looked, showing.message_html(_sentence(error), True))
        left_out = len(found) - len(people)
        if how == DETECTOR:
            people = [
                dataclasses.replace(person, score=detection.score)
                for person, detection in zip(people, shown, strict=True)
            ]
        looked = dataclasses.replace(looked, people=tuple(people))
        return self._shown(key, looked, showing.message_html(_said(looked, left_out)))

    def write_file(self, name: str, content: bytes) -> Path:
        """Write a file that the page shows, where it goes at the end."""
        return self._folder.write(name, content)

    def person(self, key: str | None, number: int, joint: str) -> PersonView:
        """Show one of the people in a remembered picture."""
        found = self._person(key, number)
        if found is None:
            return PersonView()
        looked, person = found
        return PersonView(
            showing.attention_html(looked, person, joint),
            showing.joints_html(person),
            self.write_file("person.glb", person.to_glb()),
        )

    def attention(self, key: str | None, number: int, joint: str) -> str:
        """Show the attention of one joint; nothing is predicted again."""
        found = self._person(key, number)
        return "" if found is None else showing.attention_html(*found, joint)

    def _person(self, key: str | None, number: int) -> tuple[Looked, Person] | None:
        try:
            looked = self.memory.get(key)
        except UserError:
            return None
        return (looked, looked.people[number]) if number < len(looked.people) else None

    def _detect(self, looked: Looked, how: str, boxes: str) -> list[Detection]:
        height, width = looked.image.shape[:2]
        if how == WHOLE:
            found = WholePicture()(looked.image)
        elif how == BOXES:
            typed = [[value * looked.scale for value in box] for box in parse_boxes(boxes)]
            found = [Detection(check_box(box, height, width), 1.0) for box in typed]
        else:
            found = self._detector(looked.image)
        if not found:
            raise UserError(
                "nobody was found; take the whole picture for one person, or type in a box"
            )
        return found

    def _shown(self, key: str | None, looked: Looked, message: str) -> PictureView:
        return PictureView(
            self.memory.put(looked, key),
            message,
            showing.overlay_html(looked),
            showing.downloads_html(looked),
            tuple(showing.people_names(looked.people)),
        )


def parse_boxes(text: str) -> list[tuple[float, ...]]:
    """Read boxes as they are typed: x0,y0,x1,y1, one a line or with semicolons between.

    Raises:
        UserError: there are none, or something else.
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
            raise UserError(f"the box {line.strip()[:60]!r} is not four numbers x0,y0,x1,y1")
        boxes.append(box)
    if not boxes:
        raise UserError("no box is typed in; write x0,y0,x1,y1 in pixels, one person a line")
    return boxes


def _said(looked: Looked, left_out: int) -> str:
    height, width = looked.image.shape[:2]
    count = len(looked.people)
    text = f"{'One person' if count == 1 else f'{count} people'} found in {looked.name!r}"
    if left_out:
        text += f"; {left_out} more left out, since the page shows at most {MAX_PEOPLE}"
    if looked.scale < 1:
        return (
            f"{text}, read at {width} x {height} pixels: coordinates shown and in the files are in "
            "these, boxes typed in are in the picture's own."
        )
    return f"{text} ({width} x {height} pixels)."


def _sentence(error: UserError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + "."
