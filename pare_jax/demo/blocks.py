"""Builds the page with gradio: its layout and its events. Only `server` also uses gradio."""

import atexit
import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from pare_jax.demo.page_html import readable
from pare_jax.demo.session import BOXES, DETECTOR, WHOLE, PersonView, PhotographView, Session
from pare_jax.errors import UserError
from pare_jax.io.images import encode_png
from pare_jax.skeleton import JOINT_NAMES

TITLE = "People in 3D from one photograph"
_FIRST_JOINT = "left_wrist"
_INVITATION = "<p class=invitation>Drop a photograph or choose an example.</p>"
# Camera of the 3D view: two angles in degrees, on the z axis at the body's height, and a distance
# in metres at which a narrow screen shows the whole person.
_IN_FRONT_OF_THE_BODY = (90, 90, 2.6)
# One prediction at a time, over all users.
_ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}

STYLE = """
/* Full width, so that columns do not move when their content changes. */
.gradio-container { width: 100% !important; max-width: 90rem !important; margin-inline: auto; }
#shown img, #attention img { display: block; max-width: 100%; width: auto; height: auto;
  margin-inline: auto; border-radius: .375rem; }
#shown img { max-height: 34rem; }
#attention img { max-height: 26rem; }
/* gradio 6.31 leaves a 3D view empty if it becomes visible and is filled at once: hidden here. */
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
# gradio 6.31 shows no message if there is no camera or another program uses it.
HEAD = """
<script>
addEventListener("unhandledrejection", event => {
  const reasons = {
    NotFoundError: "No camera was found; drop a photograph instead.",
    NotReadableError: "The camera cannot be used; another program may be using it.",
    OverconstrainedError: "No camera was found that can be used; drop a photograph instead.",
  };
  const picture = document.querySelector("#picture");
  const reason = event.reason instanceof DOMException && reasons[event.reason.name];
  if (!picture || !reason) return;
  event.preventDefault();
  document.querySelector("#no-camera")?.remove();
  const message = document.createElement("p");
  Object.assign(message, {id: "no-camera", className: "problem", textContent: reason});
  message.setAttribute("role", "alert");
  picture.after(message);
  picture.addEventListener("click", () => message.remove(), {once: true});
  picture.addEventListener("change", () => message.remove(), {once: true});
});
</script>
"""
# On a narrow screen the result is below the inputs.
_SHOW_RESULT = """() => {
  const message = document.querySelector("#message");
  if (innerWidth < 700 && message?.textContent.trim()) message.scrollIntoView({block: "start"});
}"""
# Names of detectors on the page, if other than the flag's.
_NAMES = {"hog": "OpenCV's HOG, which misses many"}


def import_gradio() -> Any:
    """Import gradio and return it.

    Raises:
        UserError: it is missing or cannot be loaded.
    """
    try:
        with _import_folder():
            import gradio  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        if (error.name or "").split(".")[0] != "gradio":
            raise UserError(f"cannot load gradio ({error}): pip install 'pare-jax[demo]'") from None
        raise UserError("the page needs gradio: pip install 'pare-jax[demo]'") from None
    return gradio


@contextlib.contextmanager
def _import_folder() -> Iterator[None]:
    """Set a folder for the files that gradio writes on import; it is removed at exit."""
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
    """Build the layout and the events of the page.

    Args:
        session: handles the events.
        detector_name: name of the detector on the page.

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
            inputs = _lay_out_inputs(gr, session, detector_name)
            outputs = _lay_out_outputs(gr)
        person = _lay_out_person(gr)
        _connect(gr, session, _Widgets(key=key, **inputs, **outputs, **person))
    return page


@dataclasses.dataclass(frozen=True)
class _Widgets:
    """The page's gradio components; `examples` is None if there are none."""

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


def _lay_out_inputs(gr: Any, session: Session, detector_name: str) -> dict[str, Any]:
    """Build the photograph and the choice of boxes."""
    with gr.Column(scale=1, min_width=320):
        picture = gr.Image(
            label="Photograph (at most 20 MB; it is not stored)",
            sources=["upload", "webcam", "clipboard"],
            height=260,
            elem_id="picture",
        )
        how = gr.Radio(
            [
                (f"find people ({_NAMES.get(detector_name, detector_name)})", DETECTOR),
                ("the whole photograph is one person", WHOLE),
                ("boxes that I type", BOXES),
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


def _lay_out_outputs(gr: Any) -> dict[str, Any]:
    """Build the message, the overlay, the downloads and the choice of a person."""
    with gr.Column(scale=2, min_width=320):
        message = gr.HTML("", elem_id="message")
        shown = gr.HTML(_INVITATION, elem_id="shown")
        downloads = gr.HTML("", elem_id="downloads")
        who = gr.Radio([], type="index", label="Person", visible=False, elem_id="who")
    return {"message": message, "shown": shown, "downloads": downloads, "who": who}


def _lay_out_person(gr: Any) -> dict[str, Any]:
    """Build the views of one person: attention map, body and joints."""
    with gr.Row(elem_id="one"):
        with gr.Column(scale=1, min_width=320):
            joint = gr.Dropdown(
                [(readable(name), name) for name in JOINT_NAMES],
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
                camera_position=_IN_FRONT_OF_THE_BODY,
                interactive=False,
                elem_id="body",
            )
    with gr.Accordion("Joints", open=False, visible=False, elem_id="joints") as joints:
        table = gr.HTML("")
    return {"joint": joint, "attention": attention, "body": body, "joints": joints, "table": table}


def _connect(gr: Any, session: Session, w: _Widgets) -> None:
    """Connect the events of the page with the session."""
    person = [w.attention, w.table, w.body]
    outputs = [w.key, w.message, w.shown, w.downloads, w.who, w.joints, *person]

    def show(view: PhotographView, joint_name: str) -> list[Any]:
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
            *_person_values(first),
        ]

    def received(upload: Any, how: str, boxes: str, key: str, joint: str) -> list[Any]:
        if upload is None:  # cleared by the page or by the user
            return [None, *[gr.skip()] * len(outputs)]
        return [None, *show(session.receive(upload, how, boxes, key), joint)]

    def found_again(key: str, how: str, boxes: str, joint: str) -> list[Any]:
        return show(session.find(key, how, boxes), joint)

    def example_chosen(number: int, key: str, joint: str) -> list[Any]:
        view, typed = session.example(number, key)
        return [BOXES, gr.update(value=typed, visible=True), *show(view, joint)]

    def person_chosen(key: str, number: int, joint: str) -> tuple[Any, ...]:
        return _person_values(session.person(key, number or 0, joint))

    def joint_chosen(key: str, number: int | None, joint: str) -> str:
        return session.attention(key, number or 0, joint)

    private: dict[str, Any] = {"api_visibility": "private"}
    # preprocess=False: gradio would show its own error messages for broken files.
    event = w.picture.input(
        received,
        [w.picture, w.how, w.boxes, w.key, w.joint],
        [w.picture, *outputs],
        preprocess=False,
        **private,
        **_ONE_AT_A_TIME,
    )
    event.then(None, js=_SHOW_RESULT, **private)
    event = w.again.click(
        found_again, [w.key, w.how, w.boxes, w.joint], outputs, **private, **_ONE_AT_A_TIME
    )
    event.then(None, js=_SHOW_RESULT, **private)
    w.how.input(lambda how: gr.update(visible=how == BOXES), w.how, w.boxes, **private)
    if w.examples is not None:
        event = w.examples.click(
            example_chosen,
            [w.examples, w.key, w.joint],
            [w.how, w.boxes, *outputs],
            **private,
            **_ONE_AT_A_TIME,
        )
        event.then(None, js=_SHOW_RESULT, **private)
    w.who.input(person_chosen, [w.key, w.who, w.joint], person, **private)
    w.joint.input(joint_chosen, [w.key, w.who, w.joint], w.attention, **private)


def _person_values(view: PersonView) -> tuple[Any, ...]:
    return view.attention, view.joints, None if view.body is None else str(view.body)


def _examples(gr: Any, session: Session) -> Any:
    """Build the choice of examples; None if there are none."""
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
