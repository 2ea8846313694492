"""Builds the page's HTML with embedded images and downloads, so that nothing is fetched."""

import base64
import html
from collections.abc import Sequence

import cv2
import numpy as np

from pare_jax.demo.memory import PhotographResult
from pare_jax.io.images import Picture, cut_crop
from pare_jax.prediction.drawing import draw_people, person_number
from pare_jax.prediction.person import Person, people_json, people_npz
from pare_jax.prediction.scene import scene_glb
from pare_jax.rendering.attention_maps import draw_attention
from pare_jax.rendering.keypoint_picture import draw_keypoints
from pare_jax.skeleton import JOINT_NAMES, joint_index

_JPEG_QUALITY = 92
_CROP_SIDE = 448


def readable(joint: str) -> str:
    """Return a joint's name with spaces: "left wrist"."""
    return joint.replace("_", " ")


def people_names(people: Sequence[Person]) -> list[str]:
    """Return labels of people with the numbers of the overlay: "person 0"."""
    return [f"person {person_number(person, place)}" for place, person in enumerate(people)]


def message_html(text: str, is_problem: bool = False) -> str:
    """Return a message line; screen readers announce a problem at once."""
    role, kind = ("alert", "problem") if is_problem else ("status", "note")
    return f'<p class="{kind}" role="{role}">{html.escape(text)}</p>'


def overlay_html(result: PhotographResult) -> str:
    """Return the overlay; the page's script draws boxes on it."""
    picture = draw_people(result.image, result.people)
    count = len(result.people)
    found = "nobody" if not count else "one person" if count == 1 else f"{count} people"
    kind = "overlay found" if count else "overlay"
    # The overlay of a large photograph is reduced, and the photograph itself may be.
    height, width = (round(side / result.scale) for side in result.image.shape[:2])
    size = f' data-width="{width}" data-height="{height}"'
    image = _image(kind, picture, f"{result.name}: {found}", size)
    return f'<div class="photograph">{image}</div>'


def attention_html(result: PhotographResult, person: Person, joint: str) -> str:
    """Return the attention map of a joint over the person's crop, else the keypoints over it."""
    crop = cut_crop(result.image, person.crop_centre, person.crop_side, _CROP_SIDE)
    if person.attention is None:
        points = person.body_keypoints()
        if points is None:
            return message_html("This network has no attention maps.")
        scale = _CROP_SIDE / person.crop_side
        corner = person.crop_centre - person.crop_side / 2
        points = np.column_stack([(points[:, :2] - corner) * scale, points[:, 2]])
        return _image("attention", draw_keypoints(crop, points), "the keypoints: left blue")
    shown = draw_attention(crop, person.attention[..., joint_index(joint)])
    return _image("attention", shown, f"attention of the {readable(joint)}")


def joints_html(person: Person) -> str:
    """Return a table of the joints, in pixels and in metres from the pelvis."""
    from_pelvis = person.joints_3d - person.joints_3d[0]
    rows = "".join(
        f"<tr><th scope=row>{readable(name)}</th>"
        + "".join(f"<td>{value:.1f}</td>" for value in pixels)
        + "".join(f"<td>{value:.3f}</td>" for value in place)
        + "</tr>"
        for name, pixels, place in zip(JOINT_NAMES, person.joints_2d, from_pelvis, strict=True)
    )
    return (
        "<div class=scroll><table class=joints><thead><tr><th></th>"
        "<th colspan=2 scope=colgroup>in the image, px</th>"
        "<th colspan=3 scope=colgroup>from the pelvis, m</th></tr>"
        "<tr><th></th><th scope=col>x</th><th scope=col>y</th>"
        "<th scope=col>right</th><th scope=col>down</th><th scope=col>depth</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def downloads_html(result: PhotographResult) -> str:
    """Return download links of the people in three formats; the links contain the files.

    Args:
        result: has the people.
    """
    if not result.people:
        return ""
    people, image = result.people, result.image
    size = (image.shape[1], image.shape[0])
    files = (
        ("people.npz", "application/octet-stream", people_npz(people, people[0].faces, size)),
        ("people.json", "application/json", people_json(people, result.name, size).encode()),
        ("people.glb", "model/gltf-binary", scene_glb(people, size, result.body)),
    )
    links = "".join(
        f'<a download="{name}" href="{_data(kind, content)}">{name}</a>'
        for name, kind, content in files
    )
    return f"<p class=downloads>Download: {links}</p>"


def _image(kind: str, picture: Picture, description: str, more: str = "") -> str:
    bgr = np.ascontiguousarray(picture[..., ::-1])
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        raise ValueError(f"cannot encode an image of shape {picture.shape}")
    height, width = picture.shape[:2]
    source = _data("image/jpeg", data.tobytes())
    described = html.escape(description, quote=True)
    return (
        f'<img class="{kind}" width="{width}" height="{height}"{more} alt="{described}" '
        f'src="{source}">'
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
