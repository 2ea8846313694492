"""Draw a clip of two people who cross behind a post, and write its labels.

    python scripts/draw_clip.py --output=clip.mp4
    python scripts/draw_clip.py --output=clip.mp4 --seconds=8 --seed=3

The labels are in clip.npz beside the clip: `frame_rate`, `focal_length` and `principal_point` of
the clip, and for each frame and person `boxes` (of the whole person, pixels), `seen` (share of the
person that is not hidden), `betas`, `rotations`, `translations` (of the pelvis, metres),
`joints_3d` and `joints_2d`. People are in the same order in every frame.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np

from data_pipelines.synthetic.clip import ClipSettings, draw_clip
from pare_jax.errors import UserError
from pare_jax.io.files import write_atomically
from pare_jax.io.video import VideoWriter

_LABELS = ("boxes", "seen", "betas", "rotations", "translations", "joints_3d", "joints_2d")


def write_clip(settings: ClipSettings, output: Path) -> Path:
    """Draw a clip and write it with its labels; return the labels' path."""
    labels: dict[str, list[np.ndarray]] = {name: [] for name in _LABELS}
    with VideoWriter(output, settings.frame_rate) as writer:
        for frame in draw_clip(settings):
            writer.write(frame.image)
            for name, values in labels.items():
                values.append(getattr(frame, name))
    arrays = {name: np.stack(values).astype(np.float32) for name, values in labels.items()}
    arrays["frame_rate"] = np.array(settings.frame_rate)
    arrays["focal_length"] = np.array(settings.focal_length)
    arrays["principal_point"] = np.array([settings.width / 2, settings.height / 2])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    path = output.with_suffix(".npz")
    write_atomically(path, buffer.getvalue())
    return path


def main() -> int:
    defaults = ClipSettings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="the clip, an .mp4 file")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of looks and background")
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument("--frame_rate", type=float, default=defaults.frame_rate)
    parser.add_argument(
        "--post_width", type=float, default=defaults.post_width, help="metres; 0: no post"
    )
    flags = parser.parse_args()
    settings = ClipSettings(
        seed=flags.seed,
        seconds=flags.seconds,
        frame_rate=flags.frame_rate,
        post_width=flags.post_width,
    )
    try:
        flags.output.parent.mkdir(parents=True, exist_ok=True)
        labels = write_clip(settings, flags.output)
    except UserError as error:
        print(f"draw_clip: {error}", file=sys.stderr)
        return 2
    print(f"wrote {settings.num_frames} frames to {flags.output}, their labels to {labels}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
