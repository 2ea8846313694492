"""Counts each module's refusals, so that a change cannot lose one unnoticed.

A refusal is a place that makes a `UserError` or a subclass. After adding, moving or removing some,
update the table below and review its difference; `list` prints all refusals with their messages.

    python -m tests.test_refusals
    python -m tests.test_refusals list
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("configs", "data_pipelines", "pare_jax", "scripts")
EXPECTED = """
  1 configs/common.py
  1 data_pipelines/bodies/body_settings.py
  2 data_pipelines/bodies/splits.py
  8 data_pipelines/datasets.py
  2 data_pipelines/fit_labels.py
  4 data_pipelines/fits/fit_file.py
  1 data_pipelines/fits/fit_people.py
  2 data_pipelines/label_checks.py
  2 data_pipelines/mixture.py
 10 data_pipelines/prepare.py
  8 data_pipelines/preparing/preparation.py
  1 data_pipelines/preparing/processes.py
  1 data_pipelines/reading/damaged_examples.py
  4 data_pipelines/reading/device_cache.py
  2 data_pipelines/reading/fitted_split.py
  6 data_pipelines/reading/input_pipeline.py
  2 data_pipelines/reading/sample_order.py
 14 data_pipelines/reading/storage.py
  5 data_pipelines/releases/bedlam.py
  5 data_pipelines/releases/coco_keypoints.py
  4 data_pipelines/releases/eft.py
  3 data_pipelines/releases/folder.py
  6 data_pipelines/releases/label_arrays.py
  6 data_pipelines/releases/labelled_photographs.py
  2 data_pipelines/releases/mpii.py
  2 data_pipelines/releases/mpii_annotations.py
  3 data_pipelines/releases/pw3d.py
  1 data_pipelines/releases/release.py
  3 data_pipelines/releases/spin.py
  1 data_pipelines/synthetic/backgrounds.py
  2 data_pipelines/synthetic/generate.py
  7 data_pipelines/synthetic/settings.py
  2 pare_jax/body/gendered.py
 16 pare_jax/body/io.py
  1 pare_jax/demo/__main__.py
  2 pare_jax/demo/blocks.py
  1 pare_jax/demo/hosts.py
  2 pare_jax/demo/memory.py
  2 pare_jax/demo/server.py
 12 pare_jax/demo/session.py
  6 pare_jax/demo/uploads.py
  5 pare_jax/evaluation/challenge.py
  1 pare_jax/evaluation/evaluate.py
  6 pare_jax/evaluation/protocols.py
  1 pare_jax/evaluation/report.py
  2 pare_jax/evaluation/sample_errors.py
  1 pare_jax/export/onnx_graph.py
  6 pare_jax/export/stablehlo.py
  2 pare_jax/finetuning/adopt.py
  6 pare_jax/finetuning/own_photographs.py
  6 pare_jax/fitting/batches.py
  6 pare_jax/fitting/prior.py
  5 pare_jax/io/archives.py
  4 pare_jax/io/command_line.py
 10 pare_jax/io/decoding.py
 11 pare_jax/io/files.py
  8 pare_jax/io/images.py
 13 pare_jax/io/media.py
  5 pare_jax/io/safe_pickle.py
  2 pare_jax/io/threads.py
  3 pare_jax/io/video.py
  2 pare_jax/keypoints/blazepose_files.py
  8 pare_jax/keypoints/coco_files.py
  5 pare_jax/keypoints/get.py
  5 pare_jax/keypoints/keypoint_files.py
  2 pare_jax/keypoints/keypoints.py
  3 pare_jax/keypoints/litert.py
  2 pare_jax/keypoints/mpii_files.py
  1 pare_jax/keypoints/onnx_keypoints.py
  5 pare_jax/keypoints/onnx_network.py
  2 pare_jax/keypoints/openpose_files.py
  8 pare_jax/keypoints/people_collector.py
  2 pare_jax/keypoints/sets.py
  4 pare_jax/keypoints/spin_files.py
  7 pare_jax/main.py
  1 pare_jax/meshes/animation.py
  7 pare_jax/models/build.py
  1 pare_jax/prediction/answers.py
 14 pare_jax/prediction/box_files.py
  6 pare_jax/prediction/boxes.py
  3 pare_jax/prediction/detection/__init__.py
 11 pare_jax/prediction/detection/coco.py
  5 pare_jax/prediction/detection/frames.py
 11 pare_jax/prediction/detection/other_formats.py
  1 pare_jax/prediction/detection/picture_sizes.py
  4 pare_jax/prediction/focal_length.py
  1 pare_jax/prediction/keypoint_source.py
  1 pare_jax/prediction/loading.py
  3 pare_jax/prediction/page/entries.py
  1 pare_jax/prediction/page/packing.py
  3 pare_jax/prediction/person.py
  1 pare_jax/prediction/person_arrays.py
  9 pare_jax/prediction/predictor.py
  3 pare_jax/prediction/run/command.py
  3 pare_jax/prediction/run/fit_command.py
  3 pare_jax/prediction/run/inputs.py
  3 pare_jax/prediction/run/options.py
  7 pare_jax/prediction/run/output_folder.py
  2 pare_jax/prediction/run/photographs.py
  1 pare_jax/prediction/scene.py
 10 pare_jax/pretrained/convert.py
  2 pare_jax/pretrained/hrnet_weights.py
  3 pare_jax/pretrained/load.py
  3 pare_jax/pretrained/mean_parameters.py
  4 pare_jax/pretrained/pare_options.py
  7 pare_jax/pretrained/pare_weights.py
  3 pare_jax/pretrained/read.py
  1 pare_jax/pretrained/resnet_weights.py
  3 pare_jax/pretrained/table.py
  3 pare_jax/pretrained/torch_file.py
  1 pare_jax/pretrained/weight_format.py
  4 pare_jax/pretrained/write.py
  8 pare_jax/sensitivity/cli.py
  1 pare_jax/sensitivity/occlusion_errors.py
  2 pare_jax/sensitivity/patches.py
  1 pare_jax/sensitivity/sensitivity_files.py
  2 pare_jax/sharding.py
  5 pare_jax/training/checkpoint_errors.py
  8 pare_jax/training/checkpoints.py
 19 pare_jax/training/config.py
  2 pare_jax/training/first_weights.py
  4 pare_jax/training/multiprocess.py
  1 pare_jax/training/optimizer.py
  6 pare_jax/training/shipped.py
  1 pare_jax/training/train.py
  8 pare_jax/training/trained_run.py
  1 pare_jax/training/watch.py
 10 pare_jax/training/workdir.py
  1 scripts/benchmark_releases.py
  5 scripts/draw_batch.py
  4 scripts/draw_contact_sheet.py
  2 scripts/measure_clip.py
  1 scripts/measure_finetuning.py
  1 scripts/measure_photos.py
  1 scripts/measure_pixels.py
  2 scripts/photo_labels.py
  2 scripts/photo_methods.py
  3 scripts/ship_keypoint_network.py
"""


def name_of(node: ast.expr) -> str:
    """Return the last part of a dotted name, or an empty string."""
    return (
        ast.unparse(node).rpartition(".")[2] if isinstance(node, ast.Name | ast.Attribute) else ""
    )


def refusals() -> Iterator[tuple[str, int, str]]:
    """Yield the path, line and message's source of each refusal."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in paths}
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    classes = [node for _, node in nodes if isinstance(node, ast.ClassDef)]
    errors = {"UserError"}
    while more := {c.name for c in classes if errors & set(map(name_of, c.bases))} - errors:
        errors |= more
    for path, node in nodes:
        if isinstance(node, ast.Call) and name_of(node.func) in errors:
            yield path, node.lineno, ", ".join(map(ast.unparse, node.args))


def counts() -> str:
    """Return the table of the refusals in each module."""
    modules = Counter(path for path, _, _ in refusals())
    return "".join(f"{modules[path]:3} {path}\n" for path in sorted(modules))


def test_each_module_has_as_many_refusals_as_the_table_says():
    table = counts()
    assert table == EXPECTED.lstrip("\n"), (
        f"review the difference, then run: python -m tests.test_refusals\n{table}"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["list"]:
        for path, line, message in sorted(refusals()):
            print(f"{path}:{line}: {message}")
    else:
        source = Path(__file__).read_text()
        table = f'EXPECTED = """\n{counts()}"""\n'
        Path(__file__).write_text(re.sub(r'(?ms)^EXPECTED = """.*?"""\n', lambda _: table, source))
