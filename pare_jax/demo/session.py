"""Computes what the page shows: finds people in uploads and examples; needs no gradio."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pare_jax.body.io import BodyData
from pare_jax.demo import page_html
from pare_jax.demo.examples import Example
from pare_jax.demo.memory import Memory, PhotographResult
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError, counted
from pare_jax.io.images import Picture, encode_png
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.detection import Detection, Detector, WholePicture
from pare_jax.prediction.focal_length import FocalLength
from pare_jax.prediction.person import Person
from pare_jax.skeleton import JOINT_NAMES

# Sources of boxes: the detector given by --detector, the whole photograph, or boxes that are drawn
# or typed.
DETECTOR, WHOLE, BOXES = "detector", "whole", "boxes"
# More people would make the page too slow for a browser.
MAX_PEOPLE = 20
# The button that predicts, for a detector and for drawn boxes.
LOOK_AGAIN, PREDICT_BOXES = "Look again", "Predict in these boxes"


class PeoplePredictor(Protocol):
    """The part of `pare_jax.prediction.predictor.Predictor` that the page uses."""

    warning: str | None
    body_data: BodyData | None

    def __call__(
        self, image: Picture, boxes: Sequence[Any] | None = None, *, keypoints: Sequence[Any]
    ) -> list[Person]:
        """Return one person for each box, without those whose keypoints nobody sees."""
        ...


@dataclasses.dataclass(frozen=True)
class DemoNetwork:
    """A network that the page offers.

    Attributes:
        name: shown on the page.
        predictor: predicts the people in boxes.
        refined: the same, and fits the bodies to the people's keypoints; None: not offered.
    """

    name: str
    predictor: PeoplePredictor
    refined: PeoplePredictor | None = None


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
        has_attention: whether `attention` shows a joint's attention map.
    """

    attention: str = ""
    joints: str = ""
    body: Path | None = None
    has_attention: bool = True


class Session:
    """Handles the events of the page.

    A request may send any value for a choice or a text: each is checked here.

    Attributes:
        warning: of the networks, shown at the top of the page.
        networks: the networks to choose from, the default first.
        has_detector: whether `DETECTOR` is one of the choices.
    """

    def __init__(
        self,
        networks: Sequence[DemoNetwork],
        detector: Detector | None,
        folder: UploadFolder,
        examples: Sequence[Example] = (),
    ):
        """Take the networks, the detector and the files of the page.

        Args:
            networks: at least one.
            detector: finds the boxes for `DETECTOR`; None: the page does not offer this choice.
            folder: folder of uploads.
            examples: images offered on the page.
        """
        self.examples = list(examples)
        self.memory = Memory()
        self.networks = list(networks)
        self.warning = _joint_warning(self.networks)
        self.has_detector = detector is not None
        self._detector, self._folder = detector, folder

    def receive(
        self,
        upload: Any,
        how: Any,
        boxes: Any,
        key: str | None,
        owner: str = "",
        network: Any = None,
        refine: Any = False,
    ) -> PhotographView:
        """Read an uploaded photograph and find the people in it.

        Args:
            upload: the browser's description of the file, which is removed.
            how: `DETECTOR`, `WHOLE` or `BOXES`.
            boxes: text, for `BOXES`; if empty the page asks to draw boxes.
            key: key of the photograph shown before, which is removed from memory.
            owner: name of the visit.
            network: name of the network; None: the default.
            refine: whether to fit the bodies to the keypoints.
        """
        self.memory.forget(key)
        try:
            name, photograph = self._folder.take(upload)
        except UserError as error:
            return PhotographView(None, page_html.message_html(_sentence(error), True))
        scale = float(photograph.scale[0])
        focal_length = FocalLength()
        if photograph.focal_length is not None:
            focal_length = FocalLength(photograph.focal_length * scale, "exif")
        key = self.memory.put(
            PhotographResult(name, photograph.image, scale, owner=owner, focal_length=focal_length)
        )
        drawing = None if boxes else self.choose(key, how)
        return drawing or self.find(key, how, boxes, network, refine)

    def choose(self, key: str | None, how: Any) -> PhotographView | None:
        """Return the view after another choice of where boxes come from; None: no change.

        For `BOXES` this is the photograph without people, to draw boxes on it.
        """
        try:
            result = self.memory.get(key) if how == BOXES else None
        except UserError:
            return None
        if result is None:
            return None
        result = dataclasses.replace(result, people=())
        message = f"Drag a box around each person, then press “{PREDICT_BOXES}”."
        return self._shown(key, result, page_html.message_html(message))

    def example(
        self,
        number: int,
        key: str | None,
        owner: str = "",
        network: Any = None,
        refine: Any = False,
    ) -> tuple[PhotographView, str]:
        """Return the view of an example with its own boxes, and the boxes as text."""
        self.memory.forget(key)
        example = self.examples[number]
        boxes = "\n".join(",".join(f"{value:g}" for value in box) for box in example.boxes)
        key = self.memory.put(PhotographResult(example.name, example.image, 1.0, owner=owner))
        return self.find(key, BOXES, boxes, network, refine), boxes

    def find(
        self, key: str | None, how: Any, boxes: Any, network: Any = None, refine: Any = False
    ) -> PhotographView:
        """Find the people in a stored photograph again; replaces its people."""
        try:
            result = self.memory.get(key)
        except UserError as error:
            return PhotographView(None, page_html.message_html(_sentence(error), True))
        result = dataclasses.replace(result, people=())
        try:
            predictor = self._predictor(network, refine)
            found = self._detect(result, how, boxes)
            shown = found[:MAX_PEOPLE]
            people = predictor(
                result.image,
                [detection.box for detection in shown],
                keypoints=[detection.keypoints for detection in shown],
            )
            if not people:
                raise UserError("no keypoints of a person are seen: draw another box")
            people = [result.focal_length.of(person) for person in people]
        except UserError as error:
            return self._shown(key, result, page_html.message_html(_sentence(error), True))
        if how == DETECTOR:
            scores = {tuple(detection.box): detection.score for detection in shown}
            people = [
                dataclasses.replace(person, score=scores.get(tuple(person.box)))
                for person in people
            ]
        result = dataclasses.replace(result, people=tuple(people), body=predictor.body_data)
        left_out, unseen = len(found) - len(shown), len(shown) - len(people)
        return self._shown(key, result, page_html.message_html(_summary(result, left_out, unseen)))

    def write_example(self, number: int) -> Path:
        """Write the picture of an example for the page; it is removed when the page stops."""
        content = encode_png(self.examples[number].image)
        return self._folder.write(f"example_{number}.png", content)

    def person(self, key: str | None, who: Any, joint: Any) -> PersonView:
        """Return the view of one person in a stored photograph.

        Args:
            key: key of the photograph.
            who: the person's label, as in `PhotographView.people`; None: the first.
            joint: name of the joint whose attention map is shown.
        """
        try:
            result, person = self._person(key, who)
            attention = page_html.attention_html(result, person, _checked_joint(joint))
            body = self._folder.write("person.glb", person.to_glb(), result.owner)
        except UserError as error:
            return PersonView(page_html.message_html(_sentence(error), True))
        has_attention = person.attention is not None
        return PersonView(attention, page_html.joints_html(person), body, has_attention)

    def attention(self, key: str | None, who: Any, joint: Any) -> str:
        """Return the attention map of one joint as HTML; predicts nothing."""
        try:
            return page_html.attention_html(*self._person(key, who), _checked_joint(joint))
        except UserError as error:
            return page_html.message_html(_sentence(error), True)

    def _person(self, key: str | None, who: Any) -> tuple[PhotographResult, Person]:
        result = self.memory.get(key)
        labels = page_html.people_names(result.people)
        if not labels:
            raise UserError("nobody was found in this photograph")
        if who is not None and who not in labels:
            raise UserError(f"there is no {_shortened(who)}: choose one of {', '.join(labels)}")
        return result, result.people[labels.index(who) if who is not None else 0]

    def _predictor(self, name: Any, refine: Any) -> PeoplePredictor:
        chosen = [one for one in self.networks if name is None or one.name == name]
        if not chosen:
            raise UserError(f"there is no network {_shortened(name)}: choose another")
        network = chosen[0]
        if refine not in (None, True, False):
            raise UserError(f"{_shortened(refine)} is no yes or no: choose again")
        if not refine:
            return network.predictor
        if network.refined is None:
            raise UserError(f"the bodies of {network.name} cannot be fitted to keypoints here")
        return network.refined

    def _detect(self, result: PhotographResult, how: Any, boxes: Any) -> list[Detection]:
        height, width = result.image.shape[:2]
        if how == WHOLE:
            found = WholePicture()(result.image)
        elif how == BOXES:
            typed = [[value * result.scale for value in box] for box in parse_boxes(boxes)]
            found = [Detection(check_box(box, height, width), 1.0) for box in typed]
        elif how == DETECTOR and self._detector is not None:
            found = self._detector(result.image)
        else:
            raise UserError(f"there is no source of boxes {_shortened(how)}: choose another")
        if not found:
            raise UserError(
                "nobody was found: choose the whole photograph as one person, or draw a box"
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


def parse_boxes(text: Any) -> list[tuple[float, ...]]:
    """Read drawn or typed boxes: x0,y0,x1,y1, separated by new lines or semicolons.

    Raises:
        UserError: there is no box, or one is not four numbers.
    """
    boxes = []
    if text is not None and not isinstance(text, str):
        raise UserError(f"the boxes {_shortened(text)} are no text: write x0,y0,x1,y1")
    for line in re.split(r"[;\n]", text or ""):
        if not line.strip():
            continue
        try:
            box = tuple(float(number) for number in re.split(r"[,\s]+", line.strip()))
        except ValueError:
            box = ()
        if len(box) != 4:
            raise UserError(f"the box {_shortened(line)} is not four numbers: write x0,y0,x1,y1")
        boxes.append(box)
    if not boxes:
        raise UserError("no box: draw one, or write x0,y0,x1,y1 in pixels, one person a line")
    return boxes


def _joint_warning(networks: Sequence[DemoNetwork]) -> str | None:
    """Return the warnings of the networks in one line; None if there are none."""
    warnings = [(one.name, one.predictor.warning) for one in networks if one.predictor.warning]
    if len(networks) == 1:
        return warnings[0][1] if warnings else None
    return "; ".join(f"{name}: {warning}" for name, warning in warnings) or None


def _summary(result: PhotographResult, left_out: int, unseen: int) -> str:
    height, width = result.image.shape[:2]
    count = len(result.people)
    people = "One person" if count == 1 else counted(count, "person")
    text = f"{people} found in {result.name!r}"
    if left_out:
        text += f"; {left_out} more skipped, the page shows at most {MAX_PEOPLE}"
    if unseen:
        text += f"; in {counted(unseen, 'box')} no keypoints of a person are seen"
    if result.scale < 1:
        return (
            f"{text}, reduced to {width} x {height} pixels: coordinates on the page and in the "
            "files are in these pixels, boxes in those of the file."
        )
    return f"{text} ({width} x {height} pixels)."


def _checked_joint(joint: Any) -> str:
    if joint not in JOINT_NAMES:
        raise UserError(f"there is no joint {_shortened(joint)}: choose one of the list")
    return joint


def _shortened(value: Any) -> str:
    """Return the start of a value for a message, in one line."""
    return repr(value.strip()[:60]) if isinstance(value, str) else repr(value)[:60]


def _sentence(error: UserError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + "."
