"""Residual networks for 32-pixel images, depth 6n + 2, and the same without skip connections.

Three stages of n blocks at 16, 32 and 64 channels. A shortcut that changes shape either
subsamples and pads with zero channels (option A, no weights) or projects with a 1×1 convolution
(option B). Weight names are those of the published checkpoints of akamaster/pytorch_resnet_cifar10.

Source: He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2. Published errors on CIFAR-10:
8.75, 7.51, 7.17, 6.97, 6.43 % at depth 20, 32, 44, 56, 110; plain networks get worse with depth.
"""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.models.pieces.drop_path import DropPath, depth_rates
from thalweg.models.pieces.image_shape import image_channels
from thalweg.models.pieces.swap_layers import swap_layers
from thalweg.registry import unknown_name

SHORTCUTS = ("A", "B", "none")


class PadShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the new channels."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        before = (channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, channels - in_channels - before)

    def forward(self, x: Float[Tensor, "batch c y x"]) -> Float[Tensor, "batch d y2 x2"]:
        return F.pad(x[:, :, ::2, ::2], self.padding)


class BasicBlock(nn.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x))))))."""

    def __init__(self, in_channels: int, channels: int, *, shortcut: str, drop_path: float) -> None:
        super().__init__()
        stride = 1 if in_channels == channels else 2
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.skips = shortcut != "none"
        self.shortcut = nn.Sequential()
        if stride == 2 and shortcut == "A":
            self.shortcut = nn.Sequential(PadShortcut(in_channels, channels))
        if stride == 2 and shortcut == "B":
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))
        self.drop_path = DropPath(drop_path)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "batch c y x"]) -> Float[Tensor, "batch d y2 x2"]:
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(self.shortcut(x) + self.drop_path(branch) if self.skips else branch)

    def branch_end(self) -> nn.Module:
        return self.bn2


class CifarResNet(nn.Module):
    def __init__(
        self,
        num_classes: int,
        *,
        input_shape: tuple[int, ...],
        depth: int,
        shortcut: str = "A",
        width: int = 16,
        drop_path: float = 0.0,
        activation: str = "relu",
        norm: str = "batch",
        init: str = "he",
    ) -> None:
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise unknown_name("shortcut", shortcut, SHORTCUTS)
        in_channels = image_channels(input_shape, model=f"resnet{depth}", least=8)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        blocks = (depth - 2) // 6
        rates = iter(depth_rates(drop_path, 3 * blocks))

        def stage(in_channels: int, channels: int) -> nn.Sequential:
            inputs = [in_channels] + [channels] * (blocks - 1)
            return nn.Sequential(
                *(
                    BasicBlock(before, channels, shortcut=shortcut, drop_path=next(rates))
                    for before in inputs
                )
            )

        self.layer1 = stage(width, width)
        self.layer2 = stage(width, 2 * width)
        self.layer3 = stage(2 * width, 4 * width)
        self.linear = nn.Linear(4 * width, num_classes)
        self.apply(_initialise)
        swap_layers(self, activation=activation, norm=norm, init=init)
        nn.init.normal_(self.linear.weight, std=0.01)  # near-equal logits: the first loss is chance

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def resnet20(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """ResNet-20 has 269,722 weights at 10 classes; its published error on CIFAR-10 is 8.75 %."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=20, **changes)


def resnet32(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """ResNet-32 has 464,154 weights at 10 classes; its published error on CIFAR-10 is 7.51 %."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=32, **changes)


def resnet44(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """ResNet-44 has 658,586 weights at 10 classes; its published error on CIFAR-10 is 7.17 %."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=44, **changes)


def resnet56(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """ResNet-56 has 853,018 weights at 10 classes; its published error on CIFAR-10 is 6.97 %."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=56, **changes)


def resnet110(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """ResNet-110 has 1,727,962 weights at 10 classes; its published error on CIFAR-10 is 6.43 %."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=110, **changes)


def plain20(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """resnet20 without skip connections still trains well."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=20, shortcut="none", **changes)


def plain32(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """resnet32 without skip connections is worse on the training set than plain20."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=32, shortcut="none", **changes)


def plain44(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """resnet44 without skip connections is worse on the training set than plain32."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=44, shortcut="none", **changes)


def plain56(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """resnet56 without skip connections shows the degradation that residual networks prevent."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=56, shortcut="none", **changes)


def plain110(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """resnet110 without skip connections has a published error above 60 %."""
    return CifarResNet(num_classes, input_shape=input_shape, depth=110, shortcut="none", **changes)
