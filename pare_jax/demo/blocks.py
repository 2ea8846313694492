"""Builds the page with gradio: its layout and its events. Only `server` also uses gradio."""

import dataclasses
from importlib import resources
from typing import Any

from pare_jax.demo.page_html import message_html, readable
from pare_jax.demo.session import (
    BOXES,
    DETECTOR,
    LOOK_AGAIN,
    PREDICT_BOXES,
    WHOLE,
    PersonView,
    PhotographView,
    Session,
)
from pare_jax.errors import UserError
from pare_jax.skeleton import JOINT_NAMES

_FOLDER = resources.files("pare_jax.demo")
TITLE = "People in 3D from one photograph"
_FIRST_JOINT = "left_wrist"
_INVITATION = "<p class=invitation>Drop a photograph or choose an example.</p>"
# Camera of the 3D view: two angles in degrees, on the z axis at the body's height, and a distance
# in metres at which a narrow screen shows the whole person.
_IN_FRONT_OF_THE_BODY = (90, 90, 2.6)
# One prediction at a time, over all users.
_ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}

# On a narrow screen the result is below the inputs.
_SHOW_RESULT = """() => {
  const message = document.querySelector("#message");
  if (innerWidth < 700 && message?.textContent.trim()) message.scrollIntoView({block: "start"});
}"""
# Names of detectors on the page, if other than the flag's.
_NAMES = {"blazepose": "BlazePose"}


def import_gradio() -> Any:
    """Import gradio and return it.

    Raises:
        UserError: it is missing or cannot be loaded.
    """
    try:
        import gradio  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        if (error.name or "").split(".")[0] != "gradio":
            raise UserError(f"cannot load gradio ({error}): pip install 'pare-jax[demo]'") from None
        raise UserError("the page needs gradio: pip install 'pare-jax[demo]'") from None
    return gradio


def style() -> str:
    """Return the page's style sheet."""
    return _FOLDER.joinpath("page.css").read_text(encoding="utf-8")


def head() -> str:
    """Return the page's script, for the head of the page."""
    return f"<script>\n{_FOLDER.joinpath('page.js').read_text(encoding='utf-8')}</script>"


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
        if session.warning:
            gr.HTML(message_html(f"Warning: {session.warning}.", True), elem_id="warning")
        key = gr.State(None, delete_callback=session.memory.forget)
        with gr.Row():
            inputs = _lay_out_inputs(gr, session, detector_name)
            outputs = _lay_out_outputs(gr)
        person = _lay_out_person(gr)
        _connect(gr, session, _Widgets(key=key, **inputs, **outputs, **person))
    return page


@dataclasses.dataclass(frozen=True)
class _Widgets:
    """The page's gradio components."""

    key: Any
    picture: Any
    how: Any
    boxes: Any
    again: Any
    network: Any
    refine: Any
    examples: list[Any]
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
        find_people = (f"find people ({_NAMES.get(detector_name, detector_name)})", DETECTOR)
        choices = [
            *[find_people] * session.has_detector,
            ("the whole photograph is one person", WHOLE),
            ("boxes that I draw", BOXES),
        ]
        how = gr.Radio(
            choices,
            value=choices[0][1],
            label="Where are the people?",
            elem_id="how",
        )
        boxes = gr.Textbox(
            label="Boxes: drag on the photograph, or write x0,y0,x1,y1 in pixels, one a line",
            lines=2,
            visible=False,
            elem_id="boxes",
        )
        again = gr.Button(LOOK_AGAIN, elem_id="again")
        networks = _networks(gr, session)
        examples = _examples(gr, session)
    inputs = {"picture": picture, "how": how, "boxes": boxes, "again": again}
    return {**inputs, **networks, "examples": examples}


def _networks(gr: Any, session: Session) -> dict[str, Any]:
    """Build the choice of the network and of fitting, which show if there is a choice."""
    names = [network.name for network in session.networks]
    network = gr.Radio(
        names, value=names[0], label="Network", visible=len(names) > 1, elem_id="network"
    )
    refine = gr.Checkbox(
        False,
        label="Fit the body to the keypoints",
        visible=any(one.refined for one in session.networks),
        elem_id="refine",
    )
    return {"network": network, "refine": refine}


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
    outputs = [w.key, w.message, w.shown, w.downloads, w.who, w.joints, w.joint, *person]
    chosen = [w.network, w.refine]
    nothing = [gr.skip()] * len(outputs)

    def show(view: PhotographView, joint_name: Any) -> list[Any]:
        found = bool(view.people)
        first = session.person(view.key, None, joint_name) if found else PersonView()
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
            gr.update(visible=first.has_attention),
            *_person_values(first),
        ]

    def received(
        upload: Any,
        how: Any,
        boxes: Any,
        key: str,
        joint: Any,
        network: Any,
        refine: Any,
        request: Any,
    ) -> Any:
        if upload is None:  # cleared by the page or by the user
            return [None, gr.skip(), *nothing]
        if key is not None:  # they are boxes of the photograph before
            boxes = ""
        view = session.receive(upload, how, boxes, key, _visit(request), network, refine)
        return [None, gr.update(value=boxes), *show(view, joint)]

    def found_again(
        key: str, how: Any, boxes: Any, joint: Any, network: Any, refine: Any
    ) -> list[Any]:
        return show(session.find(key, how, boxes, network, refine), joint)

    def network_chosen(key: str, *choices: Any) -> list[Any]:
        return nothing if key is None else found_again(key, *choices)

    def source_chosen(key: str, how: Any, joint: Any) -> list[Any]:
        view = session.choose(key, how)
        return [*_box_widgets(gr, how), *(nothing if view is None else show(view, joint))]

    def chooser(number: int) -> Any:
        def example_chosen(
            key: str, joint: Any, network: Any, refine: Any, request: Any
        ) -> list[Any]:
            view, boxes = session.example(number, key, _visit(request), network, refine)
            field, button = _box_widgets(gr, BOXES)
            return [BOXES, field | {"value": boxes}, button, *show(view, joint)]

        return _with_request(gr, example_chosen)

    def person_chosen(key: str, who: Any, joint: Any) -> tuple[Any, ...]:
        return _person_values(session.person(key, who, joint))

    # preprocess=False: gradio would report a wrong value by a traceback, a broken file in its own
    # words.
    options: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
    on_results = {"fn": None, "js": _SHOW_RESULT, "api_visibility": "private"}
    w.picture.input(
        _with_request(gr, received),
        [w.picture, w.how, w.boxes, w.key, w.joint, *chosen],
        [w.picture, w.boxes, *outputs],
        **options,
        **_ONE_AT_A_TIME,
    ).then(**on_results)
    finding = [w.key, w.how, w.boxes, w.joint, *chosen]
    w.again.click(found_again, finding, outputs, **options, **_ONE_AT_A_TIME).then(**on_results)
    for choice in chosen:
        choice.input(network_chosen, finding, outputs, **options, **_ONE_AT_A_TIME)
    w.how.input(source_chosen, [w.key, w.how, w.joint], [w.boxes, w.again, *outputs], **options)
    for number, button in enumerate(w.examples):
        button.click(
            chooser(number),
            [w.key, w.joint, *chosen],
            [w.how, w.boxes, w.again, *outputs],
            **options,
            **_ONE_AT_A_TIME,
        ).then(**on_results)
    w.who.input(person_chosen, [w.key, w.who, w.joint], person, **options)
    w.joint.input(session.attention, [w.key, w.who, w.joint], w.attention, **options)


def _with_request(gr: Any, function: Any) -> Any:
    """Let gradio pass the request: it does so for a parameter of this type."""
    function.__annotations__["request"] = gr.Request
    return function


def _visit(request: Any) -> str:
    return request.session_hash or ""


def _box_widgets(gr: Any, how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the updates of the field of boxes and of the button for a source of boxes."""
    is_drawn = how == BOXES
    button = PREDICT_BOXES if is_drawn else LOOK_AGAIN
    return gr.update(visible=is_drawn), gr.update(value=button)


def _person_values(view: PersonView) -> tuple[Any, ...]:
    return view.attention, view.joints, None if view.body is None else str(view.body)


def _examples(gr: Any, session: Session) -> list[Any]:
    """Build a button for each example, with its picture and its name."""
    if not session.examples:
        return []
    gr.Markdown("Examples: synthetic people, with their boxes")
    with gr.Row(elem_id="examples"):
        return [
            gr.Button(example.name, icon=str(session.write_example(number)), size="sm")
            for number, example in enumerate(session.examples)
        ]
