"""HRNet and PARE as plain torch modules, written from their papers.

Names are those of the published files, so that converters can read their `state_dict()`.
Needs torch; import this module after `pytest.importorskip("torch")`.
"""

import torch
from torch import nn

from tests.models.torch_networks import TorchBlock, TorchResNet, relu, torch_rotations


class Relu(nn.Module):
    def forward(self, x):
        return relu(x)


def conv_bn(inputs, outputs, size, stride=1, *, activate):
    layers = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([Relu()] if activate else []))


def upsampling(channels, times):
    layers = []
    for _ in range(times):
        layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))
        layers += conv_bn(channels, channels, 3, activate=True)
    return nn.Sequential(*layers)


class TorchModule(nn.Module):
    """One fusion of maps of several sizes."""

    def __init__(self, channels, outputs, blocks):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*[TorchBlock(width, width, 1, False) for _ in range(blocks)])
            for width in channels
        )
        self.fuse_layers = nn.ModuleList()
        for target in range(outputs):
            row = nn.ModuleList()
            for source, width in enumerate(channels):
                if source > target:
                    layer = conv_bn(width, channels[target], 1, activate=False)
                    layer.append(nn.Upsample(scale_factor=2 ** (source - target)))
                elif source == target:
                    layer = None
                else:
                    layer = nn.Sequential(
                        *[
                            conv_bn(width, width, 3, 2, activate=True)
                            for _ in range(target - source - 1)
                        ],
                        conv_bn(width, channels[target], 3, 2, activate=False),
                    )
                row.append(layer)
            self.fuse_layers.append(row)

    def forward(self, maps):
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [
            relu(sum(x if layer is None else layer(x) for layer, x in zip(row, maps, strict=True)))
            for row in self.fuse_layers
        ]


class TorchHRNet(nn.Module):
    """HRNet; `pose_only` omits the layers that files for pose estimation do not have."""

    def __init__(self, width=32, stem=64, modules=(1, 4, 3), blocks=4, layer1=4, pose_only=False):
        super().__init__()
        channels = [width * 2**i for i in range(4)]
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.layer1 = nn.Sequential(
            *[TorchBlock(4 * stem if i else stem, stem, 1, True) for i in range(layer1)]
        )
        coarser = [
            nn.Sequential(
                conv_bn(4 * stem if i == 0 else channels[i], channels[i + 1], 3, 2, activate=True)
            )
            for i in range(3)
        ]
        self.transition1 = nn.ModuleList(
            [conv_bn(4 * stem, channels[0], 3, activate=True), coarser[0]]
        )
        self.transition2 = nn.ModuleList([None, None, coarser[1]])
        self.transition3 = nn.ModuleList([None, None, None, coarser[2]])
        for index, count in enumerate(modules):
            sizes = index + 2
            stage = [
                TorchModule(
                    channels[:sizes],
                    1 if pose_only and sizes == 4 and i == count - 1 else sizes,
                    blocks,
                )
                for i in range(count)
            ]
            setattr(self, f"stage{sizes}", nn.Sequential(*stage))
        self.final_layer = nn.Conv2d(width, 17, 1)
        if not pose_only:
            for times in (1, 2, 3):
                setattr(self, f"upsample_stage_{times + 1}", upsampling(channels[times], times))
        self.out_features = sum(channels)

    def forward(self, x):
        x = relu(self.bn1(self.conv1(x)))
        x = relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        maps = self.stage2([layer(x) for layer in self.transition1])
        maps = self.stage3([*maps, self.transition2[2](maps[-1])])
        maps = self.stage4([*maps, self.transition3[3](maps[-1])])
        finest = [getattr(self, f"upsample_stage_{i + 1}")(maps[i]) for i in (1, 2, 3)]
        return torch.cat([maps[0], *finest], 1)


class LocalLinear(nn.Module):
    """A linear layer for every joint: PARE's locally connected 1x1 convolution."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 6, channels, 24, 1, 1))

    def forward(self, x):
        return torch.einsum("bcj,kcj->bjk", x, self.weight[0, :, :, :, 0, 0])


class TorchPareHead(nn.Module):
    def __init__(self, inputs, channels, blocks, upsample, shape_channels=64, means=()):
        super().__init__()
        self.means = means

        def branch():
            layers = []
            for i in range(blocks):
                if upsample:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))
                layers += conv_bn(channels if i else inputs, channels, 3, activate=True)
            return nn.Sequential(*layers)

        self.keypoint_deconv_layers = branch()
        self.smpl_deconv_layers = branch()
        self.keypoint_final_layer = nn.Conv2d(channels, 25, 1)
        self.smpl_final_layer = nn.Conv2d(channels, shape_channels, 1)
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("init_pose", torch.zeros(1, 144))
        self.register_buffer("init_shape", torch.zeros(1, 10))
        self.register_buffer("init_cam", torch.zeros(1, 3))
        self.shape_mlp = nn.Linear(24 * shape_channels, 10)
        self.cam_mlp = nn.Linear(24 * shape_channels, 3)
        self.pose_mlp = LocalLinear(channels)

    def forward(self, maps):
        logits = self.keypoint_final_layer(self.keypoint_deconv_layers(maps))
        attention = logits[:, 1:].flatten(2).softmax(-1)
        features = self.smpl_deconv_layers(maps)
        attended = torch.einsum("bjp,bcp->bcj", attention, features.flatten(2))
        reduced = self.smpl_final_layer(features).flatten(2)
        flat = torch.einsum("bjp,bcp->bcj", attention, reduced).flatten(1)
        pose, shape, camera = self.pose_mlp(attended), self.shape_mlp(flat), self.cam_mlp(flat)
        if "pose" in self.means:  # PARE reads the buffer as (6, 24).
            pose = pose + self.init_pose.reshape(6, 24).T
        if "camshape" in self.means:
            shape, camera = shape + self.init_shape, camera + self.init_cam
        attention = attention.reshape(-1, 24, *logits.shape[2:])
        return {
            "part_logits": logits.movedim(1, -1),
            "attention": attention.movedim(1, -1),
            "rotations": torch_rotations(pose),
            "betas": shape,
            "camera": camera,
        }


class TorchPare(nn.Module):
    def __init__(self, backbone, **head):
        super().__init__()
        self.backbone = backbone
        self.head = TorchPareHead(
            backbone.out_features, upsample=isinstance(backbone, TorchResNet), **head
        )

    def forward(self, images):
        return self.head(self.backbone(images))


def draw_weights(module, seed, images):
    """Draw random weights, and running statistics like a trained network's."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    for layer in module.modules():
        if isinstance(layer, TorchBlock):  # A damped branch keeps batch statistics well-behaved.
            last = getattr(layer, f"bn{layer.count}")
            last.weight.data = last.weight.data * 0.3
        elif isinstance(layer, TorchModule):  # So do sums of damped ones.
            for row in layer.fuse_layers:
                for i in range(len(row)):
                    if row[i] is not None:
                        last = [m for m in row[i].modules() if isinstance(m, nn.BatchNorm2d)][-1]
                        last.weight.data = last.weight.data * 0.5
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data = layer.weight.data * (1 + 0.1 * draw(layer.num_features))
            layer.bias.data = 0.1 * draw(layer.num_features)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            gain = 2 if isinstance(layer, nn.Conv2d) else 0.1
            scale = (gain / layer.weight[0].numel()) ** 0.5
            layer.weight.data = scale * draw(*layer.weight.shape)
            if layer.bias is not None:
                layer.bias.data = 0.1 * draw(*layer.bias.shape)
        elif isinstance(layer, LocalLinear):
            channels = layer.weight.shape[2]
            layer.weight.data = draw(*layer.weight.shape) / channels**0.5
        elif isinstance(layer, TorchPareHead):
            layer.init_pose.copy_(draw(1, 144))
            layer.init_shape.copy_(draw(1, 10))
            layer.init_cam.copy_(torch.tensor([[0.9, 0.1, -0.1]]))
    module.train()
    with torch.no_grad():
        for batch in images:
            module(batch)
    module.eval()
    return module
