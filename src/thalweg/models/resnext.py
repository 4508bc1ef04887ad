"""ResNeXt-29 for 32-pixel images: residual branches with grouped convolutions.

A 32×4d bottleneck of 256 channels has 70,144 weights, the plain one of width 64 has 69,632: the
same cost, spent on more, thinner paths. ResNeXt-50 (32×4d) is in `resnet.py`.

Source: Xie et al. 2017, https://arxiv.org/abs/1611.05431. Published errors on CIFAR-10: 3.65 %
(8×64d), 3.58 % (16×64d).
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from thalweg.models.pieces.drop_path import DropPath, depth_rates
from thalweg.models.pieces.image_shape import image_channels
from thalweg.models.pieces.initialise import initialise_by_fan_out
from thalweg.models.pieces.swap_layers import swap_layers

EXPANSION = 4


class GroupedBottleneck(nn.Module):
    """relu(shortcut(x) + 1×1(grouped 3×3(1×1(x)))), each convolution with a batch norm."""

    def __init__(
        self, in_channels: int, channels: int, *, width: int, groups: int, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = nn.Sequential()
        if in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))
        self.drop_path = DropPath(0.0)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "batch c y x"]) -> Float[Tensor, "batch d y2 x2"]:
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.drop_path(self.bn3(self.conv3(branch)))
        return self.relu(self.downsample(x) + branch)

    def branch_end(self) -> nn.Module:
        return self.bn3


class CifarResNeXt(nn.Module):
    """Three stages of three blocks at 256, 512 and 1024 channels: 29 layers."""

    def __init__(
        self,
        num_classes: int,
        *,
        input_shape: tuple[int, ...],
        groups: int,
        group_width: int = 64,
        drop_path: float = 0.0,
        activation: str = "relu",
        norm: str = "batch",
        init: str = "he",
    ) -> None:
        super().__init__()
        in_channels = image_channels(input_shape, model="resnext29", least=8)
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        width = groups * group_width
        self.layer1 = _stage(64, 256, width=width, groups=groups, stride=1)
        self.layer2 = _stage(256, 512, width=2 * width, groups=groups, stride=2)
        self.layer3 = _stage(512, 1024, width=4 * width, groups=groups, stride=2)
        self.fc = nn.Linear(1024, num_classes)
        blocks = [module for module in self.modules() if isinstance(module, GroupedBottleneck)]
        for block, rate in zip(blocks, depth_rates(drop_path, len(blocks)), strict=True):
            block.drop_path.rate = rate
        self.apply(initialise_by_fan_out)
        swap_layers(self, activation=activation, norm=norm, init=init)
        nn.init.normal_(self.fc.weight, std=0.01)  # near-equal logits: the first loss is chance
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def _stage(
    in_channels: int, channels: int, *, width: int, groups: int, stride: int
) -> nn.Sequential:
    first = GroupedBottleneck(in_channels, channels, width=width, groups=groups, stride=stride)
    rest = (
        GroupedBottleneck(channels, channels, width=width, groups=groups, stride=1)
        for _ in range(2)
    )
    return nn.Sequential(first, *rest)


def resnext29_8x64d(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """ResNeXt-29 (8×64d) has 34,426,698 weights at 10 classes; its published error is 3.65 %."""
    return CifarResNeXt(num_classes, input_shape=input_shape, groups=8, **changes)


def resnext29_16x64d(
    num_classes: int, *, input_shape: tuple[int, ...], **changes: Any
) -> nn.Module:
    """ResNeXt-29 (16×64d) has 68,155,210 weights at 10 classes; its published error is 3.58 %."""
    return CifarResNeXt(num_classes, input_shape=input_shape, groups=16, **changes)
