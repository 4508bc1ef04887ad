"""Residual networks with torchvision's weight names, so that its pretrained weights load.

Source: He et al. 2016, arXiv:1512.03385; the stride sits on the 3×3 convolution of a bottleneck,
as in torchvision ("v1.5"). The last normalisation of each branch starts at zero, so that every
block starts as the identity: Goyal et al. 2017, arXiv:1706.02677 §5.1.
"""

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from thalweg.models.pieces.drop_path import DropPath, depth_rates
from thalweg.models.pieces.image_shape import image_channels
from thalweg.models.pieces.swap_layers import swap_layers
from thalweg.registry import unknown_name

EXPANSION = 4  # output channels of a bottleneck per inner channel
STEMS = ("auto", "imagenet", "small")
Block = Callable[..., nn.Module]  # (in_channels, channels, *, stride, drop_path)


class BasicBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, *, stride: int, drop_path: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride=stride)
        self.drop_path = DropPath(drop_path)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.drop_path(self.bn2(self.conv2(branch)))
        return self.relu(branch + (x if self.downsample is None else self.downsample(x)))

    def branch_end(self) -> nn.Module:
        return self.bn2


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up; `groups` > 1 makes it ResNeXt's (arXiv:1611.05431)."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int,
        drop_path: float,
        groups: int = 1,
        group_width: int = 64,  # channels per group in the first stage
    ) -> None:
        super().__init__()
        inner, out_channels = channels * group_width // 64 * groups, channels * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride=stride)
        self.drop_path = DropPath(drop_path)
        nn.init.zeros_(self.bn3.weight)

    def forward(self, x: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.drop_path(self.bn3(self.conv3(branch)))
        return self.relu(branch + (x if self.downsample is None else self.downsample(x)))

    def branch_end(self) -> nn.Module:
        return self.bn3


class ResNet(nn.Module):
    def __init__(
        self,
        block: Block,
        depths: tuple[int, int, int, int],
        *,
        num_classes: int,
        in_channels: int,
        width: int,
        expansion: int,
        small_stem: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        kernel, stride = (3, 1) if small_stem else (7, 2)
        self.conv1 = nn.Conv2d(
            in_channels, width, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, stride=2, padding=1)
        rates, before, stages = iter(depth_rates(drop_path, sum(depths))), width, []
        for index, depth in enumerate(depths):
            channels, blocks = width << index, []
            for first in [True] + [False] * (depth - 1):
                stride = 2 if first and index else 1
                blocks.append(block(before, channels, stride=stride, drop_path=next(rates)))
                before = channels * expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                outputs = module.weight[:, 0].numel() / module.groups  # that one input reaches
                nn.init.normal_(module.weight, std=sqrt(2 / outputs))
        nn.init.normal_(self.fc.weight, std=0.01)  # near-equal logits: the first loss is chance
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        # Pooling before ReLU gives the same; ReLU then has a quarter of the pixels.
        hidden = self.relu(self.maxpool(self.bn1(self.conv1(images))))
        hidden = self.layer4(self.layer3(self.layer2(self.layer1(hidden))))
        return self.fc(hidden.mean(dim=(2, 3)))


def resnet18(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> ResNet:
    """ResNet-18 has 11,689,512 weights at 1000 classes."""
    return _resnet(BasicBlock, (2, 2, 2, 2), num_classes, shape=input_shape, **changes)


def resnet34(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> ResNet:
    """ResNet-34 has 21,797,672 weights at 1000 classes."""
    return _resnet(BasicBlock, (3, 4, 6, 3), num_classes, shape=input_shape, **changes)


def resnet50(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> ResNet:
    """ResNet-50 has 25,557,032 weights at 1000 classes."""
    return _resnet(Bottleneck, (3, 4, 6, 3), num_classes, shape=input_shape, **changes)


def resnet101(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> ResNet:
    """ResNet-101 has 44,549,160 weights at 1000 classes."""
    return _resnet(Bottleneck, (3, 4, 23, 3), num_classes, shape=input_shape, **changes)


def resnext50_32x4d(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> ResNet:
    """ResNeXt-50 (32×4d) has 25,028,904 weights at 1000 classes."""
    grouped = partial(Bottleneck, groups=32, group_width=4)
    return _resnet(grouped, (3, 4, 6, 3), num_classes, shape=input_shape, **changes)


def _resnet(
    block: Block,
    depths: tuple[int, int, int, int],
    num_classes: int,
    *,
    shape: tuple[int, ...],
    stem: str = "auto",
    width: int = 64,
    drop_path: float = 0.0,
    activation: str = "relu",
    norm: str = "batch",
    init: str = "he",
) -> ResNet:
    """Build a ResNet whose `stem` shrinks the image 4-fold ("imagenet") or not at all ("small").

    "auto" is "small" up to 64 pixels: the 4-fold stem would leave 32-pixel images a 1×1 map in
    the last stage; He et al. §4.2 use a 3×3 stem on CIFAR-10 for the same reason.
    """
    if stem not in STEMS:
        raise unknown_name("stem", stem, STEMS)
    small = stem == "small" or (stem == "auto" and max(shape[1:], default=0) <= 64)
    model = ResNet(
        block,
        depths,
        num_classes=num_classes,
        # a 2×2 map in the last stage: on a 1×1 map a 3×3 kernel uses only its centre
        in_channels=image_channels(shape, model="a resnet", least=16 if small else 64),
        width=width,
        expansion=1 if block is BasicBlock else EXPANSION,
        small_stem=small,
        drop_path=drop_path,
    )
    swap_layers(model, activation=activation, norm=norm, init=init)
    return model


def _shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential | None:
    """A projection to the block's output shape; None where input and output shapes are equal."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )
