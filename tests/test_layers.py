"""Who imports whom: down only, as docs/architecture.md draws it, and TensorFlow in one place."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pare_jax", "data_pipelines", "configs", "scripts")
# clu's writer imports TensorFlow when it is made.
TENSORFLOW = ("tensorflow", "tensorflow_datasets", "array_record", "clu.metric_writers")


@functools.cache
def modules():
    """By dotted name, the file of every module."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@functools.cache
def imports_of(name):
    """Whatever a module imports when it runs, by the longest name that is a module."""
    found = set()
    tree = ast.parse(modules()[name].read_text())
    # What annotations alone need is imported by nobody.
    tree.body = [node for node in tree.body if not is_for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                ours = whole in modules() or node.module not in modules()
                found.add(whole if ours else node.module)
    return found - {name}


@functools.cache
def layers():
    """By module, package or folder of the picture, how far up it stands."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    picture = re.search(r"Imports point down only[^:]*:\n\n((?: {4}.+\n)+)", text)
    lines = picture[1].splitlines()
    return {
        name if name in FOLDERS else f"pare_jax.{name}": len(lines) - number
        for number, line in enumerate(lines)
        for name in line.split()
    }


def layer_of(name):
    """The layer of a module, or of the package that it is a part of; None: not in the picture."""
    while name not in layers() and "." in name:
        name = name.rpartition(".")[0]
    return layers().get(name)


def ours(name):
    """What a module imports of those in the picture."""
    return {other for other in imports_of(name) if other in modules() and layer_of(other)}


def test_the_picture_is_read():
    assert layers()["pare_jax.errors"] < layers()["data_pipelines"] < layers()["pare_jax.main"]
    assert layer_of("pare_jax.body.io") == layers()["pare_jax.body"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_down(folder):
    upward = [
        f"{name} imports {other}"
        for name in modules()
        if name.split(".")[0] == folder and layer_of(name)
        for other in sorted(ours(name))
        if layer_of(other) > layer_of(name)
    ]
    assert upward == []


def test_nothing_imports_in_a_circle():
    above, done = [], set()

    def follow(name):
        assert name not in above, f"a circle: {' -> '.join([*above, name])}"
        if name not in done:
            above.append(name)
            for other in sorted(ours(name)):
                follow(other)
            done.add(above.pop())

    for name in modules():
        if layer_of(name):
            follow(name)


def test_tensorflow_is_imported_for_data_alone():
    users = {
        name
        for name in modules()
        for other in imports_of(name)
        if any(f"{other}.".startswith(f"{library}.") for library in TENSORFLOW)
    }
    assert "data_pipelines.reading.input_pipeline" in users
    assert [name for name in sorted(users) if not name.startswith("data_pipelines.")] == []
