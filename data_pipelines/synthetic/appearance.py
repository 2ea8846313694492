"""Random looks of people: skin, hair, faces, clothes and their patterns, painted on the rest pose.

Each pixel of a person shows a known point of the rest pose. Clothes are regions of the rest pose (a
sleeve ends at some |x|), and patterns are functions of its points.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.synthetic.meshes import BodyMesh
from pare_jax.skeleton import joint_index

# Skin from dark to light, sRGB in [0, 1], chosen by eye along the Monk scale. People get mixtures
# of neighbours.
_SKINS = np.array(
    [
        [0.24, 0.16, 0.12],
        [0.42, 0.28, 0.20],
        [0.62, 0.44, 0.33],
        [0.80, 0.61, 0.48],
        [0.94, 0.79, 0.70],
    ]
)
_HAIRS = np.array(
    [
        [0.06, 0.05, 0.05],
        [0.20, 0.12, 0.07],
        [0.38, 0.24, 0.13],
        [0.72, 0.56, 0.33],
        [0.62, 0.61, 0.60],
    ]
)
_HAIR_WEIGHTS = (0.35, 0.25, 0.2, 0.12, 0.08)
_PATTERNS = ("plain", "plain", "plain", "stripes", "bars", "checks", "dots", "print")
_EYE_WIDTH, _EYE_HEIGHT = 0.017, 0.010  # metres
_IRIS = 0.008
_SHOE = 0.008  # thickness of a shoe


@dataclasses.dataclass(frozen=True)
class Cloth:
    """A piece of cloth: base colour, second colour, pattern and the pattern's size in metres."""

    colour: np.ndarray
    second: np.ndarray
    pattern: str
    period: float


@dataclasses.dataclass(frozen=True)
class Appearance:
    """A person's colours and clothes; lengths in metres on the template."""

    skin: np.ndarray
    hair: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    shoes: np.ndarray
    top: Cloth
    bottom: Cloth
    sleeve: float  # |x| where sleeves end
    neckline: float  # y above which the neck is bare
    hem: float  # y where the top ends
    leg_length: float  # y where trousers end
    shoe_top: float  # y where shoes end
    open_jacket: float  # half width of a jacket's opening, 0 for none
    hair_length: float  # y of the hair's lower end at the back
    beard: bool
    bald: bool
    looseness: float  # distance of clothes from the skin
    hair_volume: float  # distance of the hair's surface from the skin


def sample_appearance(rng: np.random.Generator, mesh: BodyMesh) -> Appearance:
    """Draw a person's looks."""
    joints = mesh.data.joint_template
    at = {n: joints[joint_index(n)] for n in ("pelvis", "neck", "head", "left_knee", "left_ankle")}
    shoulder, elbow, wrist = (
        joints[joint_index(f"left_{n}"), 0] for n in ("shoulder", "elbow", "wrist")
    )
    tone = rng.uniform(0, len(_SKINS) - 1.001)
    low = int(tone)
    skin = _SKINS[low] + (tone - low) * (_SKINS[low + 1] - _SKINS[low])
    skin = np.clip(skin * rng.normal(1.0, 0.04, 3), 0, 1)
    sleeve = _pick(
        rng,
        (shoulder - 0.02, 0.5 * (shoulder + elbow), elbow, wrist - 0.02),
        (0.1, 0.4, 0.1, 0.4),
    )
    knee, ankle = at["left_knee"][1], at["left_ankle"][1]
    leg_length = _pick(
        rng, (ankle - 0.02, 0.5 * (knee + ankle), knee, 0.5 * knee), (0.6, 0.08, 0.16, 0.16)
    )
    top, bottom = _sample_cloth(rng), _sample_cloth(rng, busy=0.35)
    hem = rng.uniform(-0.13, 0.1)
    if rng.random() < 0.12:  # overall or dress: one cloth
        bottom = top
    head = at["head"][1]
    return Appearance(
        skin=skin,
        hair=np.clip(_pick(rng, _HAIRS, _HAIR_WEIGHTS) * rng.normal(1, 0.12, 3), 0, 1),
        lips=skin * [0.85, 0.55, 0.55],
        iris=np.array([0.12, 0.1, 0.1]) + rng.uniform(0, 0.15, 3),
        shoes=_colour(rng) * rng.uniform(0.3, 1.0),
        top=top,
        bottom=bottom,
        sleeve=float(sleeve + rng.normal(0, 0.02)),
        neckline=at["neck"][1] - rng.uniform(-0.02, 0.06),
        hem=hem,
        leg_length=float(leg_length + rng.normal(0, 0.02)),
        shoe_top=ankle + _pick(rng, (-0.03, 0.0, 0.08), (0.3, 0.4, 0.3)),
        open_jacket=rng.uniform(0.02, 0.07) if rng.random() < 0.2 else 0.0,
        hair_length=head + _pick(rng, (0.05, -0.02, -0.12), (0.5, 0.25, 0.25)),
        beard=bool(rng.random() < 0.15),
        bald=bool(rng.random() < 0.07),
        looseness=rng.uniform(0.002, 0.018),
        hair_volume=rng.uniform(0.004, 0.028),
    )


def thickness(mesh: BodyMesh, looks: Appearance) -> Float[np.ndarray, " vertices"]:
    """Return the distance of hair and clothes from the skin at each vertex, metres."""
    x, y = np.abs(mesh.template[:, 0]), mesh.template[:, 1]

    def among(*names: str) -> np.ndarray:
        return mesh.among(names)[mesh.region_of_vertex]

    clothed = among("torso", "pelvis")
    clothed |= among("upper_arm", "forearm") & (x < looks.sleeve)
    clothed |= among("thigh", "shin") & (y > looks.leg_length)
    result = np.where(clothed, np.float32(looks.looseness), np.float32(0))
    result[among("foot") & (y < looks.shoe_top)] = _SHOE
    if not looks.bald:
        result[among("scalp")] = looks.hair_volume
    return result


def paint(
    mesh: BodyMesh,
    looks: Appearance,
    region: UInt8[np.ndarray, " pixels"],
    rest: Float[np.ndarray, "pixels 3"],
) -> Float[np.ndarray, "pixels 3"]:
    """Return the colours of a person's pixels, before light.

    Args:
        mesh: the mesh that was drawn.
        looks: the person's looks.
        region: each pixel's region of the surface, an index into `mesh.regions`.
        rest: the point of the template each pixel shows, metres.

    Returns:
        sRGB in [0, 1].
    """
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]

    def among(*names: str) -> np.ndarray:
        return mesh.among(names)[region]

    colours = np.empty((len(region), 3), np.float32)
    colours[:] = looks.skin
    trunk, arm = among("torso", "pelvis"), among("upper_arm", "forearm")
    body = trunk | among("thigh", "shin", "foot")
    bare_neck = (y > looks.neckline) & (z > 0.0)
    top = (body & (y > looks.hem) & ~bare_neck) | (arm & (x < looks.sleeve))
    bottom = body & (y <= looks.hem) & (y > looks.leg_length)
    shoe = body & (y < looks.shoe_top)
    _dress(colours, looks.top, top, rest)
    _dress(colours, looks.bottom, bottom, rest)
    if looks.open_jacket:
        inside = top & trunk & (z > 0) & (x < looks.open_jacket)
        colours[inside] = looks.top.second
    colours[shoe] = looks.shoes
    head = among("face", "ears", "scalp", "eyes", "brows", "lips", "neck")
    if head.any():
        colours[head] = _paint_head(mesh, looks, region[head], rest[head])
    return colours


def _paint_head(mesh: BodyMesh, looks: Appearance, region, rest) -> np.ndarray:
    colours = np.empty((len(region), 3), np.float32)
    colours[:] = looks.skin
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    eye_x, eye_y, eye_z = np.abs(mesh.eyes).mean(0)
    in_front = z > eye_z - 0.05
    if looks.beard:
        low = (y < eye_y - 0.055) & (y > eye_y - 0.13) & (z > 0.02)
        colours[low | ((x > 0.05) & (y < eye_y - 0.02) & (z > 0.05))] = looks.hair
    mouth = in_front & (np.abs(y - (eye_y - 0.068)) < 0.009) & (x < 0.024)
    colours[mouth | mesh.among(("lips",))[region]] = looks.lips
    colours[(z > eye_z + 0.018) & (x < 0.012) & (np.abs(y - (eye_y - 0.04)) < 0.006)] *= 0.75
    across, up = (x - eye_x) / _EYE_WIDTH, (y - eye_y) / _EYE_HEIGHT
    eye = in_front & (across**2 + up**2 < 1.0)
    colours[eye] = (0.85, 0.85, 0.85)
    colours[eye & (np.hypot(x - eye_x, y - eye_y) < _IRIS)] = looks.iris
    brow = in_front & (np.abs(y - (eye_y + 0.02)) < 0.005) & (np.abs(x - eye_x) < 0.022)
    colours[brow] = 0.6 * looks.hair + 0.4 * 0.3 * looks.skin
    if not looks.bald:
        crown = mesh.template[:, 1].max()
        hairline = (y > crown - 0.035 - 0.25 * np.maximum(z - 0.05, 0)) & (z < 0.13)
        back = (z < 0.035) & (y > looks.hair_length) & ~mesh.among(("ears",))[region]
        colours[mesh.among(("scalp",))[region] | hairline | back] = looks.hair
    return colours


def _dress(colours, cloth: Cloth, where: np.ndarray, rest: np.ndarray) -> None:
    """Paint one cloth where `where` is true, in place."""
    if not where.any():
        return
    if cloth.pattern == "plain":
        colours[where] = cloth.colour
        return
    x, y, z = rest[where].T
    phase_x, phase_y = x / cloth.period, y / cloth.period
    # Patterns run around the limb: arms lie along x, the other parts along y.
    arm = (np.abs(x) > 0.2) & (y > 0)
    if cloth.pattern == "stripes":
        along = np.where(arm, phase_x, phase_y)
        second = np.mod(along, 1.0) < 0.45
    elif cloth.pattern == "bars":
        around = np.where(arm, phase_y, phase_x)
        second = np.mod(around, 1.0) < 0.35
    elif cloth.pattern == "checks":
        second = (np.mod(phase_x, 1.0) < 0.5) ^ (np.mod(phase_y, 1.0) < 0.5)
    elif cloth.pattern == "dots":
        second = np.hypot(np.mod(phase_x, 1.0) - 0.5, np.mod(phase_y, 1.0) - 0.5) < 0.28
    else:  # "print", on the chest
        second = (z > 0.05) & (np.abs(x) < 1.2 * cloth.period) & (np.abs(y - 0.33) < cloth.period)
    colours[where] = np.where(second[:, None], cloth.second, cloth.colour)


def _pick(rng: np.random.Generator, values: Sequence, weights: Sequence[float]):
    """Draw one of the values; weights sum to 1. Much faster than Generator.choice for a few."""
    rest = rng.random()
    for value, weight in zip(values, weights, strict=True):
        rest -= weight
        if rest < 0:
            return value
    return values[-1]


def _sample_cloth(rng: np.random.Generator, busy: float = 1.0) -> Cloth:
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))] if rng.random() < busy else "plain"
    return Cloth(_colour(rng), _colour(rng), pattern, rng.uniform(0.03, 0.1))


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour of clothes, from grey to vivid and from black to white."""
    value = rng.uniform(0.08, 0.95)
    saturation = rng.beta(1.0, 1.6)
    hue = np.mod(rng.random() + np.array([0.0, 1 / 3, 2 / 3]), 1.0)
    pure = np.clip(np.abs(hue * 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return value * (1.0 - saturation * (1.0 - pure))
