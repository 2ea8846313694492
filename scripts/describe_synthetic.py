"""Count how much of the synthetic people is hidden.

    python scripts/describe_synthetic.py [--config=configs/quickstart.py] [--count=1000]

Prints for each split: the share of pictures with more than 3 % of the person hidden or a joint cut
off by the photograph's edge, the share of joints that are seen, and how much of a person's surface
something in front hides on average. Without --config it describes the default settings.
"""

import argparse

import numpy as np

from data_pipelines.prepare import read_settings
from data_pipelines.synthetic.scenery import draw_scene
from data_pipelines.synthetic.settings import SPLITS

# Less than this share of the person's pixels is no occlusion to speak of.
_HARDLY = 0.03


def main() -> None:
    """Draw people of each split and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", help="take data.synthetic from this config file")
    parser.add_argument("--count", type=int, default=1000, help="people of each split")
    flags = parser.parse_args()
    settings = read_settings(flags.config, [])
    print("| split | pictures with something hidden | joints seen | surface hidden |")
    print("| --- | ---: | ---: | ---: |")
    for split in SPLITS:
        scenes = [draw_scene(settings, split, index) for index in range(flags.count)]
        affected = np.mean([scene.hidden > _HARDLY or scene.truncated for scene in scenes])
        seen = np.mean([scene.visible.mean() for scene in scenes])
        hidden = np.mean([scene.hidden for scene in scenes])
        print(f"| {split} | {affected:.1%} | {seen:.1%} | {hidden:.1%} |", flush=True)


if __name__ == "__main__":
    main()
