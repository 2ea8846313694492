"""The page itself: what stands where, and what happens when. The only module that knows gradio."""

import atexit
import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from pare_jax.demo.session import BOXES, DETECTOR, WHOLE, PersonView, PictureView, Session
from pare_jax.demo.showing import spoken
from pare_jax.errors import UserError
from pare_jax.io.images import encode_png
from pare_jax.skeleton import JOINT_NAMES

TITLE = "People in 3D from one picture"
_FIRST_JOINT = "left_wrist"
_INVITATION = "<p class=invitation>Drop a picture or choose an example.</p>"
# Where the viewer stands: on the z axis at the body's height, degrees, and metres away, from where
# a person is seen whole on a narrow screen too.
_BEFORE_THE_BODY = (90, 90, 2.6)
# One at a time, whoever asks.
_ALONE: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}

STYLE = """
/* All of the width: the columns stay where they are when what they show changes. */
.gradio-container { width: 100% !important; max-width: 90rem !important; margin-inline: auto; }
#shown img, #attention img { display: block; max-width: 100%; width: auto; height: auto;
  margin-inline: auto; border-radius: .375rem; }
#shown img { max-height: 34rem; }
#attention img { max-height: 26rem; }
/* gradio 6.31 leaves a 3D view empty that is made visible and filled at once: hidden here. */
.gradio-container:not(:has(#shown img.found)) #one { display: none; }
.invitation { padding: 4rem 1rem; text-align: center; opacity: .7; }
.problem { border-left: .25rem solid #b3261e; padding: .25rem .75rem; overflow-wrap: anywhere; }
.note { padding: .25rem 0; overflow-wrap: anywhere; }
.downloads a { display: inline-block; padding: .4rem .6rem; text-decoration: underline; }
.scroll { overflow-x: auto; max-width: calc(100vw - 7.5rem); }
table.joints { border-collapse: collapse; width: 100%; font-size: .875rem; }
table.joints th, table.joints td { padding: .15rem .4rem; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
table.joints th[scope=row] { text-align: left; font-weight: normal; }
@media (max-width: 40rem) {
  table.joints { font-size: .6875rem; letter-spacing: -.01em; }
  table.joints th, table.joints td { padding: .15rem .1rem; }
  table.joints thead th { white-space: normal; }
}
"""
# gradio 6.31 says nothing where there is no camera, or another program has it.
HEAD = """
<script>
addEventListener("unhandledrejection", event => {
  const reasons = {
    NotFoundError: "No camera was found; drop a picture instead.",
    NotReadableError: "The camera cannot be used; another program may have it.",
    OverconstrainedError: "No camera was found that can be used; drop a picture instead.",
  };
  const picture = document.querySelector("#picture");
  const reason = event.reason instanceof DOMException && reasons[event.reason.name];
  if (!picture || !reason) return;
  event.preventDefault();
  document.querySelector("#no-camera")?.remove();
  const said = document.createElement("p");
  Object.assign(said, {id: "no-camera", className: "problem", textContent: reason});
  said.setAttribute("role", "alert");
  picture.after(said);
  picture.addEventListener("click", () => said.remove(), {once: true});
  picture.addEventListener("change", () => said.remove(), {once: true});
});
</script>
"""
# On a narrow screen the answer is below everything that is asked.
_SHOW_ANSWER = """() => {
  const message = document.querySelector("#message");
  if (innerWidth < 700 && message?.textContent.trim()) message.scrollIntoView({block: "start"});
}"""
# What the detector that comes along is called on the page.
_NAMES = {"hog": "OpenCV's HOG, which misses many"}


def import_gradio() -> Any:
    """Return gradio, kept from reporting what it is used for.

    Raises:
        UserError: it is not installed.
    """
    try:
        with _import_folder():
            import gradio  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        if (error.name or "").split(".")[0] != "gradio":
            raise UserError(
                f"gradio cannot be loaded ({error}): pip install 'pare-jax[demo]'"
            ) from None
        raise UserError("the page needs gradio: pip install 'pare-jax[demo]'") from None
    return gradio


@contextlib.contextmanager
def _import_folder() -> Iterator[None]:
    """Give gradio a folder for what it makes when it is loaded, now and later; it goes at exit."""
    if "gradio" in sys.modules or "GRADIO_TEMP_DIR" in os.environ:
        yield
        return
    folder = tempfile.TemporaryDirectory(prefix="pare-jax-demo-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    try:
        yield
    finally:
        del os.environ["GRADIO_TEMP_DIR"]


def build_page(session: Session, detector_name: str) -> Any:
    """Lay out the page and say what happens when something on it is done.

    Args:
        session: answers it.
        detector_name: what the detector is called on the page.

    Returns:
        gradio's Blocks.

    Raises:
        UserError: gradio is missing.
    """
    gr = import_gradio()
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(f"# {TITLE}")
        key = gr.State(None, delete_callback=session.memory.forget)
        with gr.Row():
            asked = _lay_out_question(gr, session, detector_name)
            found = _lay_out_answer(gr)
        one = _lay_out_person(gr)
        _connect(gr, session, _Widgets(key=key, **asked, **found, **one))
    return page


@dataclasses.dataclass(frozen=True)
class _Widgets:
    """What is on the page, as gradio has it; `examples` is None where there are none."""

    key: Any
    picture: Any
    how: Any
    boxes: Any
    again: Any
    examples: Any
    message: Any
    shown: Any
    downloads: Any
    who: Any
    joint: Any
    attention: Any
    body: Any
    joints: Any
    table: Any


def _lay_out_question(gr: Any, session: Session, detector_name: str) -> dict[str, Any]:
    """The picture, and where people are in it."""
    with gr.Column(scale=1, min_width=320):
        picture = gr.Image(
            label="Picture (at most 20 MB; it is not kept)",
            sources=["upload", "webcam", "clipboard"],
            height=260,
            elem_id="picture",
        )
        how = gr.Radio(
            [
                (f"find people ({_NAMES.get(detector_name, detector_name)})", DETECTOR),
                ("the whole picture is one person", WHOLE),
                ("boxes that I type in", BOXES),
            ],
            value=DETECTOR,
            label="Where are the people?",
            elem_id="how",
        )
        boxes = gr.Textbox(
            label="Boxes: x0,y0,x1,y1 in pixels, one person a line",
            lines=2,
            visible=False,
            elem_id="boxes",
        )
        again = gr.Button("Look again", elem_id="again")
        examples = _examples(gr, session)
    return {"picture": picture, "how": how, "boxes": boxes, "again": again, "examples": examples}


def _lay_out_answer(gr: Any) -> dict[str, Any]:
    """Everybody who was found."""
    with gr.Column(scale=2, min_width=320):
        message = gr.HTML("", elem_id="message")
        shown = gr.HTML(_INVITATION, elem_id="shown")
        downloads = gr.HTML("", elem_id="downloads")
        who = gr.Radio([], type="index", label="Person", visible=False, elem_id="who")
    return {"message": message, "shown": shown, "downloads": downloads, "who": who}


def _lay_out_person(gr: Any) -> dict[str, Any]:
    """One of them: attention, body, joints."""
    with gr.Row(elem_id="one"):
        with gr.Column(scale=1, min_width=320):
            joint = gr.Dropdown(
                [(spoken(name), name) for name in JOINT_NAMES],
                value=_FIRST_JOINT,
                label="Attention of the joint",
                elem_id="joint",
            )
            attention = gr.HTML("", elem_id="attention")
        with gr.Column(scale=1, min_width=320):
            body = gr.Model3D(
                label="The body (drag to turn)",
                height=460,
                clear_color=(0.93, 0.93, 0.95, 1.0),
                camera_position=_BEFORE_THE_BODY,
                interactive=False,
                elem_id="body",
            )
    with gr.Accordion("Joints", open=False, visible=False, elem_id="joints") as joints:
        table = gr.HTML("")
    return {"joint": joint, "attention": attention, "body": body, "joints": joints, "table": table}


def _connect(gr: Any, session: Session, w: _Widgets) -> None:
    """Say what happens when something on the page is done."""
    looks = [w.key, w.message, w.shown, w.downloads, w.who, w.joints, w.attention, w.table, w.body]

    def look(view: PictureView, joint_name: str) -> list[Any]:
        found = bool(view.people)
        first = session.person(view.key, 0, joint_name) if found else PersonView()
        several = {
            "choices": list(view.people),
            "value": view.people[0] if found else None,
            "visible": len(view.people) > 1,
        }
        return [
            view.key,
            view.message,
            view.overlay or _INVITATION,
            view.downloads,
            gr.update(**several),
            gr.update(visible=found),
            *_of_person(first),
        ]

    def received(upload: Any, how: str, boxes: str, key: str, joint: str) -> list[Any]:
        if upload is None:  # the page has emptied the place itself, or the user has
            return [None, *[gr.skip()] * len(looks)]
        return [None, *look(session.receive(upload, how, boxes, key), joint)]

    def looked_again(key: str, how: str, boxes: str, joint: str) -> list[Any]:
        return look(session.find(key, how, boxes), joint)

    def example_chosen(number: int, key: str, joint: str) -> list[Any]:
        view, typed = session.example(number, key)
        return [BOXES, gr.update(value=typed, visible=True), *look(view, joint)]

    def person_chosen(key: str, number: int, joint: str) -> tuple[Any, ...]:
        return _of_person(session.person(key, number or 0, joint))

    def joint_chosen(key: str, number: int | None, joint: str) -> str:
        return session.attention(key, number or 0, joint)

    private: dict[str, Any] = {"api_visibility": "private"}
    # Not read by gradio, which would say in its own way what is wrong with a file.
    answered = w.picture.input(
        received,
        [w.picture, w.how, w.boxes, w.key, w.joint],
        [w.picture, *looks],
        preprocess=False,
        **private,
        **_ALONE,
    )
    answered.then(None, js=_SHOW_ANSWER, **private)
    answered = w.again.click(
        looked_again, [w.key, w.how, w.boxes, w.joint], looks, **private, **_ALONE
    )
    answered.then(None, js=_SHOW_ANSWER, **private)
    w.how.input(lambda how: gr.update(visible=how == BOXES), w.how, w.boxes, **private)
    if w.examples is not None:
        answered = w.examples.click(
            example_chosen,
            [w.examples, w.key, w.joint],
            [w.how, w.boxes, *looks],
            **private,
            **_ALONE,
        )
        answered.then(None, js=_SHOW_ANSWER, **private)
    w.who.input(person_chosen, [w.key, w.who, w.joint], [w.attention, w.table, w.body], **private)
    w.joint.input(joint_chosen, [w.key, w.who, w.joint], w.attention, **private)


def _of_person(view: PersonView) -> tuple[Any, ...]:
    return view.attention, view.joints, None if view.body is None else str(view.body)


def _examples(gr: Any, session: Session) -> Any:
    """Small pictures to choose from; None where there are none."""
    if not session.examples:
        return None
    samples = []
    for number, example in enumerate(session.examples):
        samples.append(
            [str(session.write_file(f"example_{number}.png", encode_png(example.image)))]
        )
    return gr.Dataset(
        label="Examples: synthetic people, with their boxes",
        components=[gr.Image(visible=False)],
        samples=samples,
        type="index",
        elem_id="examples",
    )
