"""The same networks in PyTorch for scripts/benchmark_step.py: training step and prediction.

They are the networks that the tests hold ours to, written from the papers. On a GPU: channels last,
bfloat16 autocast, torch.compile and fused Adam. On a CPU, where compiling takes minutes, both
layouts are run without it, and the faster one counts. A training step is normalisation, network, a
loss on all outputs, gradients and Adam. It has less to do than ours, which also colours the
pictures, poses the body and clips gradients.
"""

import copy
import importlib
import time
from collections.abc import Callable
from typing import Any

import torch
from ml_collections import ConfigDict
from torch.nn import functional as F

from scripts.benchmark_predict import fold_torch
from scripts.step_rows import Peaks, PreparedRow, Row, seconds_a_call
from tests.models import torch_hrnet, torch_networks

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_GPU = torch.cuda.is_available()
_DEVICE = torch.device("cuda" if _GPU else "cpu")


class TorchSteps:
    """Prepares one row at a time, then measures it."""

    def __init__(self):
        # The tests' own remembers its inputs.
        torch_networks.relu = torch_hrnet.relu = F.relu
        torch.backends.cudnn.benchmark = True

    def describe(self) -> str:
        """Return version and device."""
        name = torch.cuda.get_device_name() if _GPU else f"{torch.get_num_threads()} threads"
        return f"PyTorch {torch.__version__} on {name}"

    def platform(self) -> str:
        """Return "cpu" or "gpu"."""
        return "gpu" if _GPU else "cpu"

    def peaks(self) -> Peaks:
        """Measure a large matrix product and a large copy."""
        size, dtype = (8192, torch.bfloat16) if _GPU else (2048, torch.float32)
        one, other = torch.randn(2, size, size, dtype=dtype, device=_DEVICE)
        multiply_time = seconds_a_call(lambda: one @ other, _wait, 1.0)
        numbers = torch.zeros((1 << 30) if _GPU else (1 << 26), device=_DEVICE)
        copy_time = seconds_a_call(lambda: numbers + 1, _wait, 1.0)
        moved = 2 * numbers.numel() * numbers.element_size()
        return Peaks(flops=2 * size**3 / multiply_time, bandwidth=moved / copy_time)

    def prepare(self, row: Row) -> PreparedRow:
        """Build and warm up a row's network."""
        self._calls: list[Callable[[], Any]] = []
        if _GPU:
            torch._dynamo.reset()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        config = importlib.import_module(f"configs.{row.network}").get_config()
        began = time.perf_counter()
        layouts = [torch.channels_last] if _GPU else [torch.channels_last, torch.contiguous_format]
        start = _training if row.work == "train" else _predicting
        self._calls = [start(config, row, layout) for layout in layouts]
        for call in self._calls:
            _wait(call())
        memory = torch.cuda.max_memory_allocated() if _GPU else 0.0
        return PreparedRow(compile_time=time.perf_counter() - began, memory=memory)

    def measure(self, seconds: float) -> float:
        """Return the seconds of a call, in the faster layout."""
        share = seconds / len(self._calls)
        return min(seconds_a_call(call, _wait, share, at_least=1) for call in self._calls)


def _wait(_: Any) -> None:
    if _GPU:
        torch.cuda.synchronize()


def build_network(config: ConfigDict) -> torch.nn.Module:
    """Build the network of a config's `model` section with random weights.

    Raises:
        ValueError: there is no such network in PyTorch here.
    """
    model = config.model
    if model.name == "baseline":
        return torch_networks.TorchNetwork(model)
    if model.backbone == "resnet50":
        backbone = torch_networks.TorchResNet(model.backbone_width, (3, 4, 6, 3), True)
    elif model.backbone == "hrnet_w32":
        backbone = torch_hrnet.TorchHRNet()
    else:
        raise ValueError(f"{model.backbone} is not written in PyTorch")
    network = torch_hrnet.TorchPare(
        backbone,
        channels=model.branch_features,
        blocks=model.num_blocks,
        shape_channels=model.shape_features,
    )
    for layer in network.modules():  # zeros would give rotations without a direction
        if isinstance(layer, torch_hrnet.LocalLinear):
            torch.nn.init.normal_(layer.weight, std=0.01)
    network.head.means = ("pose", "camshape")
    network.head.init_pose.copy_(torch.eye(6, 24).reshape(1, -1) + 0.1 * torch.randn(1, 144))
    return network


def _autocast(row: Row) -> torch.autocast:
    return torch.autocast(_DEVICE.type, torch.bfloat16, enabled=row.precision == "bfloat16")


def _normalise(images: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    mean, deviation = (torch.tensor(v, device=images.device) for v in (_MEAN, _DEVIATION))
    scaled = (images.float() / 255.0 - mean) / deviation
    return scaled.movedim(-1, 1).contiguous(memory_format=layout)


def _images(config: ConfigDict, row: Row) -> torch.Tensor:
    shape = (row.batch, config.image_size, config.image_size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=_DEVICE)


def _training(config: ConfigDict, row: Row, layout: torch.memory_format) -> Callable[[], Any]:
    network = build_network(config).to(_DEVICE, memory_format=layout).train()
    rate = config.optimizer.learning_rate
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    images, mean_weight = _images(config, row), float(config.loss.parts)
    side = config.image_size // 4
    parts = torch.randint(0, 25, (row.batch, side, side), device=_DEVICE)

    def loss_of(images: torch.Tensor) -> torch.Tensor:
        with _autocast(row):
            found = network(_normalise(images, layout))
            loss = sum(found[name].float().square().mean() for name in ("betas", "camera"))
            loss = loss + (found["rotations"].float() - 0.1).square().mean()
            if mean_weight:
                logits = found["part_logits"].float().movedim(-1, 1)
                loss = loss + mean_weight * F.cross_entropy(logits, parts)
            return loss

    compiled = torch.compile(loss_of) if _GPU else loss_of

    def call() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = compiled(images)
        loss.backward()
        optimizer.step()
        return loss

    return call


def _predicting(config: ConfigDict, row: Row, layout: torch.memory_format) -> Callable[[], Any]:
    network = fold_torch(copy.deepcopy(build_network(config)).eval())
    network = network.to(_DEVICE, memory_format=layout)
    images = _images(config, row)

    def predict(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with _autocast(row):
            found = network(_normalise(images, layout))
        return tuple(found[name] for name in ("rotations", "betas", "camera"))

    # With CUDA graphs, which matter for small batches.
    compiled = torch.compile(predict, mode="reduce-overhead") if _GPU else predict

    def call() -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            return compiled(images)

    return call
