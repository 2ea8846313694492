"""Measure the share of synthetic people that is hidden.

    python scripts/describe_synthetic.py [--config=configs/quickstart.py] [--count=1000]

It prints for each split the share of pictures with more than 3 % of the person hidden or a joint
cut off by the photograph's edge, the share of visible joints, and the mean share of a person's
pixels hidden by occluders. Without --config it uses the default settings.
"""

import argparse

import numpy as np

from data_pipelines.prepare import read_settings
from data_pipelines.synthetic.scenery import draw_scene
from data_pipelines.synthetic.settings import SPLITS

# A smaller hidden share of the person's pixels does not count as occlusion.
_LEAST_HIDDEN = 0.03


def main() -> None:
    """Draw people of each split and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", help="config file whose data.synthetic to use")
    parser.add_argument("--count", type=int, default=1000, help="people in each split")
    flags = parser.parse_args()
    settings = read_settings(flags.config, [])
    print("| split | pictures with hidden parts | visible joints | hidden pixels |")
    print("| --- | ---: | ---: | ---: |")
    for split in SPLITS:
        scenes = [draw_scene(settings, split, index) for index in range(flags.count)]
        affected = np.mean([scene.hidden > _LEAST_HIDDEN or scene.truncated for scene in scenes])
        visible = np.mean([scene.visible.mean() for scene in scenes])
        hidden = np.mean([scene.hidden for scene in scenes])
        print(f"| {split} | {affected:.1%} | {visible:.1%} | {hidden:.1%} |", flush=True)


if __name__ == "__main__":
    main()
