"""ResNet, PARE's head and the losses as plain torch modules, written from the papers.

The ResNet has torchvision's names. The losses are those of `pare_jax.training.losses`.
Needs torch; import this module after `pytest.importorskip("torch")`.
"""

import copy

import numpy as np
import torch
from torch.nn import functional as F

from pare_jax.skeleton import PARENTS

BATCH, SIZE = 4, 64
RELU_INPUTS = []
# Blocks of each stage, and whether they are bottlenecks.
DEPTHS = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}


def relu(x):
    RELU_INPUTS.append(x.detach())
    return F.relu(x)


class TorchBlock(torch.nn.Module):
    def __init__(self, inputs, features, stride, bottleneck):
        super().__init__()
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        outputs = features * (4 if bottleneck else 1)
        self.count = len(sizes)
        channels = [inputs] + [features] * (self.count - 1) + [outputs]
        strided = sizes.index(3)  # torchvision: the stride is in the first 3x3 convolution.
        for i, size in enumerate(sizes):
            layer = torch.nn.Conv2d(
                channels[i],
                channels[i + 1],
                size,
                stride if i == strided else 1,
                size // 2,
                bias=False,
            )
            setattr(self, f"conv{i + 1}", layer)
            setattr(self, f"bn{i + 1}", torch.nn.BatchNorm2d(channels[i + 1]))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                torch.nn.BatchNorm2d(outputs),
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        for i in range(1, self.count + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            if i < self.count:
                x = relu(x)
        return relu(x + shortcut)


class TorchResNet(torch.nn.Module):
    def __init__(self, width, depths, bottleneck):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        inputs = width
        for index, depth in enumerate(depths):
            blocks = []
            for i in range(depth):
                stride = 2 if index and not i else 1
                blocks.append(TorchBlock(inputs, width * 2**index, stride, bottleneck))
                inputs = width * 2**index * (4 if bottleneck else 1)
            setattr(self, f"layer{index + 1}", torch.nn.Sequential(*blocks))
        self.out_features = inputs

    def forward(self, x):
        x = F.max_pool2d(relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class TorchBranch(torch.nn.Module):
    def __init__(self, inputs, features, num_blocks, align_corners):
        super().__init__()
        self.align_corners = align_corners
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(features if i else inputs, features, 3, 1, 1, bias=False)
            for i in range(num_blocks)
        )
        self.bns = torch.nn.ModuleList(torch.nn.BatchNorm2d(features) for _ in range(num_blocks))

    def forward(self, x):
        for conv, bn in zip(self.convs, self.bns, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=self.align_corners)
            x = relu(bn(conv(x)))
        return x


def torch_mlp(widths):
    layers = []
    for i in range(len(widths) - 1):
        layers += [torch.nn.Linear(widths[i], widths[i + 1]), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_rotations(sixd):
    a1, a2 = sixd.reshape(-1, 24, 3, 2).unbind(-1)
    b1 = F.normalize(a1, dim=-1)
    b2 = F.normalize(a2 - (b1 * a2).sum(-1, keepdim=True) * b1, dim=-1)
    return torch.stack([b1, b2, torch.cross(b1, b2, dim=-1)], -1)


class TorchNetwork(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        depths, bottleneck = DEPTHS[config.backbone]
        self.backbone = TorchResNet(config.backbone_width, depths, bottleneck)
        features = self.backbone.out_features
        self.pare = config.name == "pare"
        if self.pare:
            branch = (features, config.branch_features, config.num_blocks, config.align_corners)
            self.part_branch, self.feature_branch = TorchBranch(*branch), TorchBranch(*branch)
            self.part_conv = torch.nn.Conv2d(config.branch_features, 25, 1)
            self.shape_conv = torch.nn.Conv2d(config.branch_features, config.shape_features, 1)
            widths = (config.branch_features, *config.pose_hidden, 6)
            self.pose = torch.nn.ModuleList(torch_mlp(widths) for _ in range(24))
            features = 24 * config.shape_features
        else:
            self.pose = torch_mlp((features, *config.pose_hidden, 24 * 6))
        self.shape = torch_mlp((features, *config.shape_hidden, 10))
        self.camera = torch_mlp((features, *config.camera_hidden, 3))
        for name, length in (("mean_pose", (24, 6)), ("mean_betas", 10), ("mean_camera", 3)):
            self.register_buffer(name, torch.zeros(length))

    def forward(self, images):
        maps = self.backbone(images)
        result = {}
        if self.pare:
            logits = self.part_conv(self.part_branch(maps))
            attention = logits[:, 1:].flatten(2).softmax(-1)
            features = self.feature_branch(maps)
            attended = attention @ features.flatten(2).mT
            pose = torch.stack([mlp(attended[:, j]) for j, mlp in enumerate(self.pose)], 1)
            pooled = (attention @ self.shape_conv(features).flatten(2).mT).flatten(1)
            attention = attention.reshape(-1, 24, *logits.shape[2:])
            result = {"part_logits": logits.movedim(1, -1), "attention": attention.movedim(1, -1)}
        else:
            pooled = maps.mean((2, 3))
            pose = self.pose(pooled).reshape(-1, 24, 6)
        return result | {
            "rotations": torch_rotations(pose + self.mean_pose),
            "betas": self.shape(pooled) + self.mean_betas,
            "camera": self.camera(pooled) + self.mean_camera,
        }


def torch_loss(out, batch, body):
    rest = body["template_joints"] + torch.einsum("jik,bk->bji", body["basis"], out["betas"])
    rotations, joints = [out["rotations"][:, 0]], [rest[:, 0]]
    for j in range(1, 24):
        parent = PARENTS[j]
        offset = rotations[parent] @ (rest[:, j] - rest[:, parent])[..., None]
        joints.append(joints[parent] + offset[..., 0])
        rotations.append(rotations[parent] @ out["rotations"][:, j])
    joints = torch.stack(joints, 1)
    s, tx, ty = out["camera"].unbind(-1)
    moved = joints + torch.stack([tx, ty, 2 * 5000 / (224 * s + 1e-9)], -1)[:, None]
    projected = 5000 * moved[..., :2] / moved[..., 2:] / 112

    def labelled(error, weight):
        return (error.flatten(1).mean(1) * weight).sum() / weight.sum()

    truth = batch["joints_3d"]
    error_3d = (joints - joints[:, :1] - truth + truth[:, :1]) ** 2
    error_2d = (projected - batch["joints_2d"]) ** 2 * batch["joints_2d_weight"][..., None]
    error_pose = (out["rotations"] - batch["rotations"]) ** 2
    error_shape = (out["betas"] - batch["betas"]) ** 2
    logits = out["part_logits"].movedim(-1, 1)
    parts = F.cross_entropy(logits, batch["part_labels"].long(), reduction="none")
    return (
        300 * labelled(error_3d, batch["joints_3d_weight"])
        + 150 * error_2d.mean()
        + 60 * labelled(error_pose, batch["pose_weight"])
        + 0.06 * labelled(error_shape, batch["betas_weight"])
        + (torch.exp(-10 * s) ** 2).mean()
        + 60 * labelled(parts, batch["parts_weight"])
    )


def draw_weights(module, seed):
    """Draw random weights, and running statistics like a trained network's."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    for layer in module.modules():
        if isinstance(layer, TorchBlock):  # A damped branch keeps batch statistics well-behaved.
            last = getattr(layer, f"bn{layer.count}")
            last.weight.data = last.weight.data * 0.3
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.weight.data = layer.weight.data * (1 + 0.1 * draw(layer.num_features))
            layer.bias.data = 0.1 * draw(layer.num_features)
        elif isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            scale = np.sqrt(
                (2 if isinstance(layer, torch.nn.Conv2d) else 0.1) / layer.weight[0].numel()
            )
            layer.weight.data = scale * draw(*layer.weight.shape)
            if layer.bias is not None:
                layer.bias.data = 0.1 * draw(*layer.bias.shape)
    if isinstance(module, TorchNetwork):
        module.mean_pose.copy_(torch.tensor([1.0, 0, 0, 1, 0, 0]) + 0.1 * draw(24, 6))
        module.mean_betas.copy_(draw(10))
        module.mean_camera.copy_(torch.tensor([0.9, 0.1, -0.1]))
    module.train()
    with torch.no_grad():
        for step in range(10):
            module(to_torch(make_images(seed=seed + step)))


def make_images(size=SIZE, batch=BATCH, seed=0):
    """Draw images of random squares and noise.

    Images of white noise have nearly equal features. Batch statistics would amplify rounding.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(batch, 4, 4, 3)).repeat(size // 4, 1).repeat(size // 4, 2)
    return (coarse + 0.5 * rng.normal(size=(batch, size, size, 3))).astype(np.float32)


def to_torch(images):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))


def far_from_kinks(module, images):
    """Return whether rounding decides no ReLU's sign.

    Where it does, float32 gradients differ by the unit's whole contribution, in torch as here.
    """
    recorded = []
    for dtype in (torch.float32, torch.float64):
        RELU_INPUTS.clear()
        with torch.no_grad():
            copy.deepcopy(module).to(dtype)(to_torch(images).to(dtype))
        recorded.append(list(RELU_INPUTS))
    return all(
        bool((exact.abs() > 6 * (rounded - exact).square().mean().sqrt()).all())
        for rounded, exact in zip(*recorded, strict=True)
    )


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)
