"""What the page shows, as pieces of HTML that hold everything they need: nothing is fetched."""

import base64
import html
from collections.abc import Sequence

import cv2
import numpy as np

from pare_jax.demo.memory import Looked
from pare_jax.io.images import Picture, cut_crop
from pare_jax.meshes.formats import mesh_bytes
from pare_jax.prediction.drawing import draw_people, person_number
from pare_jax.prediction.person import Person, people_json, people_npz
from pare_jax.prediction.scene import scene_meshes
from pare_jax.rendering.attention_maps import draw_attention
from pare_jax.skeleton import JOINT_NAMES, joint_index

_JPEG_QUALITY = 92
_CROP_SIDE = 448


def spoken(joint: str) -> str:
    """Return a joint's name as people say it: "left wrist"."""
    return joint.replace("_", " ")


def people_names(people: Sequence[Person]) -> list[str]:
    """Return what people are called on the page, with the numbers in the overlay."""
    return [f"person {person_number(person, place)}" for place, person in enumerate(people)]


def message_html(text: str, is_problem: bool = False) -> str:
    """Return one line to the user; screen readers say a problem at once."""
    role, kind = ("alert", "problem") if is_problem else ("status", "note")
    return f'<p class="{kind}" role="{role}">{html.escape(text)}</p>'


def overlay_html(looked: Looked) -> str:
    """Return the picture with everybody drawn over it."""
    picture = draw_people(looked.image, looked.people)
    count = len(looked.people)
    found = "nobody" if not count else "one person" if count == 1 else f"{count} people"
    kind = "overlay found" if count else "overlay"
    return _image(kind, picture, f"{looked.name}: {found}")


def attention_html(looked: Looked, person: Person, joint: str) -> str:
    """Return where in the person's crop the network looked for a joint."""
    if person.attention is None:
        return message_html("This network has no attention to show.")
    crop = cut_crop(looked.image, person.crop_centre, person.crop_side, _CROP_SIDE)
    shown = draw_attention(crop, person.attention[..., joint_index(joint)])
    return _image("attention", shown, f"attention of the {spoken(joint)}")


def joints_html(person: Person) -> str:
    """Return a table of the joints: where in the picture, and where from the pelvis, metres."""
    from_pelvis = person.joints_3d - person.joints_3d[0]
    rows = "".join(
        f"<tr><th scope=row>{spoken(name)}</th>"
        + "".join(f"<td>{value:.1f}</td>" for value in pixels)
        + "".join(f"<td>{value:.3f}</td>" for value in place)
        + "</tr>"
        for name, pixels, place in zip(JOINT_NAMES, person.joints_2d, from_pelvis, strict=True)
    )
    return (
        "<div class=scroll><table class=joints><thead><tr><th></th>"
        "<th colspan=2 scope=colgroup>in the picture, px</th>"
        "<th colspan=3 scope=colgroup>from the pelvis, m</th></tr>"
        "<tr><th></th><th scope=col>x</th><th scope=col>y</th><th scope=col>right</th>"
        f"<th scope=col>down</th><th scope=col>away</th></tr></thead><tbody>{rows}</tbody></table>"
        "</div>"
    )


def downloads_html(looked: Looked) -> str:
    """Return links to what was found, in three formats; the files are in the links themselves."""
    if not looked.people:
        return ""
    people, image = looked.people, looked.image
    size = (image.shape[1], image.shape[0])
    files = (
        ("people.npz", "application/octet-stream", people_npz(people, people[0].faces, size)),
        ("people.json", "application/json", people_json(people, looked.name, size).encode()),
        ("people.glb", "model/gltf-binary", mesh_bytes(scene_meshes(people, size), ".glb")),
    )
    links = "".join(
        f'<a download="{name}" href="{_data(kind, content)}">{name}</a>'
        for name, kind, content in files
    )
    return f"<p class=downloads>Take with you: {links}</p>"


def _image(kind: str, picture: Picture, description: str) -> str:
    bgr = np.ascontiguousarray(picture[..., ::-1])
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        raise ValueError(f"cannot encode a picture of shape {picture.shape}")
    height, width = picture.shape[:2]
    source = _data("image/jpeg", data.tobytes())
    described = html.escape(description, quote=True)
    return (
        f'<img class="{kind}" width="{width}" height="{height}" alt="{described}" src="{source}">'
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
