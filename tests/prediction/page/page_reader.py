"""Reads a run's page with Python's HTML parser, for tests."""

import base64
import html.parser
import json
from typing import Any

import numpy as np


class Page(html.parser.HTMLParser):
    """A parsed page.

    Attributes:
        elements: (tag, attributes) of every element, in order.
        text: the visible text, without scripts and styles.
        scripts: the text of each script by id; those without one under "".
    """

    def __init__(self, content: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: dict[str, str] = {}
        self._inside: list[str] = []
        self._script = ""
        self.feed(content)
        self.close()
        assert not self._inside, f"never closed: {self._inside}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self._inside.append(tag)
        if tag == "script":
            self._script = dict(attrs).get("id") or ""

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif self._inside and self._inside[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element with a tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def run(self) -> dict[str, Any]:
        """The data of the page's script."""
        return json.loads(self.scripts["run"])

    def numbers(self, name: str, kind: str) -> np.ndarray:
        """Return an array by the id of its element."""
        return np.frombuffer(base64.b64decode(self.scripts[name], validate=True), kind)
