"""Checks the events that a browser sends, before gradio reads them."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pare_jax.demo.asgi import RequestRefused

# Kinds of an event's inputs. The browser's value of a state is never used.
FILE, STATE, VALUE = "file", "state", "value"
# Characters of one value; the longest is the text of the boxes.
_MAX_TEXT = 8192
_MAX_NAME = 300
_VISIT = re.compile(r"[a-z0-9]{1,40}")

Inputs = Mapping[int, tuple[str, ...]]


def event_inputs(page: Any) -> Inputs:
    """Return the kinds of the inputs of each event that runs on the server.

    Args:
        page: gradio's Blocks.
    """

    def kind(block: Any) -> str:
        if getattr(block, "stateful", False):
            return STATE
        return FILE if getattr(block, "data_model", None) is not None else VALUE

    return {
        number: tuple(kind(block) for block in event.inputs)
        for number, event in page.fns.items()
        if event.fn is not None
    }


def checked_visit(value: Any) -> str:
    """Return the name of a visit.

    Raises:
        RequestRefused: it is not one.
    """
    if not isinstance(value, str) or not _VISIT.fullmatch(value):
        raise RequestRefused(400, "The request has no session_hash of letters and digits.")
    return value


def checked_event(
    body: bytes, inputs: Inputs, is_uploaded: Callable[[str], bool]
) -> tuple[str, bytes]:
    """Check an event and write it again, with nothing in it that was not checked.

    gradio copies every file that an event names, wherever it is. So a file must be one that this
    browser uploaded.

    Args:
        body: JSON.
        inputs: from `event_inputs`.
        is_uploaded: returns whether this browser uploaded the file at a path.

    Returns:
        The name of the visit, and JSON for gradio.

    Raises:
        RequestRefused: the event is malformed, unknown, or names any other file.
    """
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise RequestRefused(400, "The event is not JSON.") from None
    if not isinstance(event, dict):
        raise RequestRefused(400, "The event is not a JSON object.")
    visit = checked_visit(event.get("session_hash"))
    number, values = event.get("fn_index"), event.get("data")
    kinds = inputs.get(number) if type(number) is int else None
    if kinds is None:
        raise RequestRefused(404, "There is no such event.")
    if not isinstance(values, list) or len(values) != len(kinds):
        raise RequestRefused(400, f"The event needs {len(kinds)} values.")
    trigger = event.get("trigger_id")
    checked = {
        "data": [
            _checked_value(value, kind, is_uploaded)
            for value, kind in zip(values, kinds, strict=True)
        ],
        "fn_index": number,
        "trigger_id": trigger if type(trigger) is int else None,
        "session_hash": visit,
    }
    return visit, json.dumps(checked).encode()


def _checked_value(value: Any, kind: str, is_uploaded: Callable[[str], bool]) -> Any:
    if kind == STATE or value is None:
        return None
    if kind == FILE:
        path = value.get("path") if isinstance(value, dict) else None
        if not isinstance(path, str) or not is_uploaded(path):
            raise RequestRefused(403, "The event names a file that this page did not upload.")
        name = value.get("orig_name")
        return {
            "path": path,
            "orig_name": name[:_MAX_NAME] if isinstance(name, str) else None,
            "meta": {"_type": "gradio.FileData"},
        }
    if isinstance(value, bool | int | float) or (
        isinstance(value, str) and len(value) <= _MAX_TEXT
    ):
        return value
    raise RequestRefused(400, "The event has a value of a wrong type.")
