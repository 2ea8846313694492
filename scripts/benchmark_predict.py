"""Time the network alone, in JAX as trained and for inference, in its exported files, and in torch.

    python -m scripts.benchmark_predict [--config=configs/final.py] [--batches=1,8,32] [--threads=2]

`predict` runs the network folded; after `Predictor.warm_up`, as in the demo, the program for one
person also holds its weights as constants.
All ways are called in turn in one run, with as many threads each, on the same made-up crops. Prints
medians of wall time and of the processor's time; the latter counts waiting threads of OpenMP, too,
and says most with --threads=1 on a machine that has other work. The torch network is the one
that tests/models holds ours to, in evaluation mode under torch.inference_mode: as written, with its
batch normalisations folded into its convolutions, and that with channels last.
"""

import argparse
import copy
import os
import runpy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def jax_ways(network, image_size: int) -> dict[str, Callable]:
    """Return what calls the network as trained, folded, and through both exported files."""
    import jax

    from pare_jax.export.description import crop_input
    from pare_jax.export.stablehlo import export, people_function
    from pare_jax.models.folding import fold
    from pare_jax.prediction.network_programs import constants, pure_network

    def compiled(module, *, holds_weights: bool = False) -> Callable:
        predict, weights = pure_network(module)
        if holds_weights:
            held = jax.jit(lambda crops: predict(constants(weights), crops))
            return lambda crops: jax.block_until_ready(held(crops))
        passed = jax.jit(predict)
        return lambda crops: jax.block_until_ready(passed(weights, crops))

    network.eval()
    folded = fold(network)
    ways = {
        "as trained": compiled(network),
        "folded": compiled(folded),
        "folded, holding its weights": compiled(folded, holds_weights=True),
    }
    function, file_input = people_function(network), crop_input(image_size)
    exported = jax.jit(jax.export.deserialize(export(function, file_input, "jax")).call)
    ways["jax.export file"] = lambda crops: jax.block_until_ready(exported(crops))
    try:
        import onnxruntime
    except ImportError:
        print("onnxruntime is not installed: pip install 'pare-jax[onnx]' for its rows\n")
        return ways
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(export(function, file_input, "onnx"))
        session = onnxruntime.InferenceSession(path, options)
    ways["ONNX file, onnxruntime"] = lambda crops: session.run(None, {file_input.name: crops})
    return ways


def torch_ways(config) -> dict[str, Callable]:
    """Return what calls the same network in torch, from crops to rotations."""
    import torch

    from tests.models import torch_networks

    # The tests' own remembers its inputs.
    torch_networks.relu = torch.nn.functional.relu
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])

    def caller(module: torch.nn.Module, layout: torch.memory_format) -> Callable:
        module = module.to(memory_format=layout)

        def call(crops: np.ndarray) -> dict:
            with torch.inference_mode():
                images = (torch.from_numpy(crops) / 255.0 - mean) / deviation
                return module(images.movedim(-1, 1).contiguous(memory_format=layout))

        return call

    plain = torch_networks.TorchNetwork(config).eval()
    folded = fold_torch(plain)
    return {
        "torch": caller(plain, torch.contiguous_format),
        "torch, folded": caller(folded, torch.contiguous_format),
        "torch, folded, channels last": caller(copy.deepcopy(folded), torch.channels_last),
    }


def fold_torch(module):
    """Return a copy of a torch network without batch normalisations."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    module = copy.deepcopy(module)
    for owner in module.modules():
        names = list(owner._modules)
        for name in names:
            norm = owner._modules[name]
            if isinstance(norm, torch.nn.BatchNorm2d):
                # bn1 follows conv1; in a list, what stands before it.
                conv = name.replace("bn", "conv") if "bn" in name else names[names.index(name) - 1]
                owner._modules[conv] = fuse_conv_bn_eval(owner._modules[conv], norm)
                owner._modules[name] = torch.nn.Identity()
        if hasattr(owner, "bns"):
            pairs = zip(owner.convs, owner.bns, strict=True)
            owner.convs = torch.nn.ModuleList(fuse_conv_bn_eval(*pair) for pair in pairs)
            owner.bns = torch.nn.ModuleList(torch.nn.Identity() for _ in owner.bns)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules())
    return module


def measure(ways: dict[str, Callable], crops: np.ndarray, seconds: float) -> dict[str, tuple]:
    """Call all ways in turn for about so many seconds; returns medians in ms: wall, processor."""
    for call in ways.values():
        for _ in range(2):
            call(crops)
    times = {name: [] for name in ways}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[next(iter(ways))]) < 3:
        for name, call in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            call(crops)
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {name: tuple(1e3 * np.median(taken, axis=0)) for name, taken in times.items()}


def main() -> None:
    """Measure and print a table for each size of the batch."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=str(ROOT / "configs" / "final.py"))
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=30.0, help="spent on each batch")
    arguments = parser.parse_args()
    # Before anything counts the cores.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    from flax import nnx

    from pare_jax.models import build_model

    config = runpy.run_path(arguments.config)["get_config"]()
    network = build_model(config.model, rngs=nnx.Rngs(0))
    ways = jax_ways(network, config.image_size) | torch_ways(config.model)
    rng = np.random.default_rng(0)
    for batch in map(int, arguments.batches.split(",")):
        crops = rng.integers(0, 256, (batch, config.image_size, config.image_size, 3), np.uint8)
        rows = measure(ways, crops, arguments.seconds)
        print(f"batch {batch}, {config.image_size} px, {arguments.threads} threads\n")
        print("| way | ms (median) | people/s | of torch | of torch, folded | processor, ms |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name, (wall, processor) in rows.items():
            ratios = [wall / rows[other][0] for other in ("torch", "torch, folded")]
            print(
                f"| {name} | {wall:.1f} | {1e3 * batch / wall:.1f} | {ratios[0]:.2f} "
                f"| {ratios[1]:.2f} | {processor:.1f} |"
            )
        print(flush=True)


if __name__ == "__main__":
    main()
