"""Structure of the code: imports point down, no circle, no name twice, TensorFlow in one place.

The floors are read from docs/architecture.md. Imports inside functions and under TYPE_CHECKING
count like all others.
"""

import ast
import collections
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pare_jax", "data_pipelines", "configs", "scripts")
# clu's writer imports TensorFlow when it is made.
TENSORFLOW = ("tensorflow", "tensorflow_datasets", "array_record", "clu.metric_writers")
# `io` is a closed list: another module of helpers belongs to the package that uses it.
IO = (
    *("archives", "command_line", "decoding", "exif", "file_kinds", "files", "images", "media"),
    *("pickle_opcodes", "pickled_arrays", "pixel_modes", "progress", "safe_pickle", "threads"),
    "video",
)


@functools.cache
def modules():
    """Return the file of every module by its dotted name."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@functools.cache
def tree_of(name):
    return ast.parse(modules()[name].read_text())


@functools.cache
def imports_of(name):
    """Return all that a module imports, as the longest names that are modules."""
    found = set()
    for node in ast.walk(tree_of(name)):
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
def floors():
    """Return the number of each room's floor, 0 at the bottom."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    lines = re.search(r"```floors\n(.+?)```", text, re.DOTALL)[1].strip().splitlines()
    return {
        name if name in FOLDERS else f"pare_jax.{name}": len(lines) - 1 - number
        for number, line in enumerate(lines)
        for name in line.split()
    }


def room_of(name):
    """Return the room that a module is or belongs to; the package itself has none."""
    while name not in floors() and "." in name:
        name = name.rpartition(".")[0]
    return name if name in floors() else None


def test_every_module_has_a_room():
    assert [name for name in modules() if not room_of(name)] == ["pare_jax"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_down(folder):
    upward = [
        f"{name} imports {other}"
        for name in modules()
        if name.split(".")[0] == folder and room_of(name)
        for other in sorted(imports_of(name))
        if other in modules() and room_of(other) and room_of(other) != room_of(name)
        if floors()[room_of(other)] >= floors()[room_of(name)]
    ]
    assert upward == []


def test_nothing_imports_in_a_circle():
    path, done = [], set()

    def follow(name):
        assert name not in path, f"a circle: {' -> '.join([*path, name])}"
        if name not in done:
            path.append(name)
            for other in sorted(imports_of(name) & modules().keys()):
                follow(other)
            done.add(path.pop())

    # `import pare_jax` loads its public names on first use, from modules that need not import it.
    done.add("pare_jax")
    for name in modules():
        follow(name)
    assert len(done) == len(modules())


def test_the_picture_shows_the_floors():
    text = (ROOT / "docs" / "images" / "floors.svg").read_text()
    drawn = {}
    for number, group in re.findall(r'<g id="floor-(\d+)">(.*?)</g>', text, re.DOTALL):
        for name in re.findall(r'font-weight="bold"[^>]*>([^<]+)<', group):
            drawn[name if name in FOLDERS else f"pare_jax.{name}"] = int(number)
    assert drawn == floors()


def test_io_is_a_closed_list():
    found = {name.rpartition(".")[2] for name in modules() if name.startswith("pare_jax.io.")}
    assert found == set(IO)


def test_no_module_is_called_like_another():
    """Experiments excepted: they are called like the networks that they train."""
    names = [
        name.rpartition(".")[2]
        for name, path in modules().items()
        if not name.startswith("configs.") and path.stem not in ("__init__", "__main__")
    ]
    assert [name for name, count in collections.Counter(names).items() if count > 1] == []


def test_no_class_is_called_like_another():
    names = [
        node.name
        for name in modules()
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name, count in collections.Counter(names).items() if count > 1] == []


def test_tensorflow_is_imported_for_data_alone():
    users = {
        name
        for name in modules()
        for other in imports_of(name)
        if any(f"{other}.".startswith(f"{library}.") for library in TENSORFLOW)
    }
    assert "data_pipelines.reading.input_pipeline" in users
    assert [name for name in sorted(users) if not name.startswith("data_pipelines.")] == []
