"""Residual networks, with torchvision's weight names, so that its pretrained weights load.

Source: He et al. 2016, arXiv:1512.03385; the stride sits on the 3×3 convolution of a bottleneck,
as in torchvision ("v1.5"). The last normalisation of each branch starts at zero, so that every
block starts as the identity: Goyal et al. 2017, arXiv:1706.02677 §5.1.
"""

from jaxtyping import Float
from torch import Tensor, nn

from thalweg.registry import unknown_name

STEMS = ("auto", "imagenet", "small")


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride=stride)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return self.relu(branch + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride=stride)
        nn.init.zeros_(self.bn3.weight)

    def forward(self, x: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return self.relu(branch + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        num_classes: int,
        in_channels: int,
        width: int,
        small_stem: bool,
    ) -> None:
        super().__init__()
        kernel, stride = (3, 1) if small_stem else (7, 2)
        self.conv1 = nn.Conv2d(
            in_channels, width, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, stride=2, padding=1)
        out = block.expansion * width
        self.layer1 = _stage(block, (width, width), depth=depths[0], stride=1)
        self.layer2 = _stage(block, (out, 2 * width), depth=depths[1], stride=2)
        self.layer3 = _stage(block, (2 * out, 4 * width), depth=depths[2], stride=2)
        self.layer4 = _stage(block, (4 * out, 8 * width), depth=depths[3], stride=2)
        self.fc = nn.Linear(8 * out, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.fc.weight, std=0.01)  # nearly undecided: the first loss is chance
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        hidden = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        hidden = self.layer4(self.layer3(self.layer2(self.layer1(hidden))))
        return self.fc(hidden.mean(dim=(2, 3)))


def resnet18(
    num_classes: int, *, input_shape: tuple[int, ...], stem: str = "auto", width: int = 64
) -> ResNet:
    """11.7 million weights at 1000 classes."""
    return _resnet(BasicBlock, (2, 2, 2, 2), num_classes, shape=input_shape, stem=stem, width=width)


def resnet34(
    num_classes: int, *, input_shape: tuple[int, ...], stem: str = "auto", width: int = 64
) -> ResNet:
    """21.8 million weights at 1000 classes."""
    return _resnet(BasicBlock, (3, 4, 6, 3), num_classes, shape=input_shape, stem=stem, width=width)


def resnet50(
    num_classes: int, *, input_shape: tuple[int, ...], stem: str = "auto", width: int = 64
) -> ResNet:
    """25.6 million weights at 1000 classes."""
    return _resnet(Bottleneck, (3, 4, 6, 3), num_classes, shape=input_shape, stem=stem, width=width)


def _resnet(
    block: type[BasicBlock | Bottleneck],
    depths: tuple[int, int, int, int],
    num_classes: int,
    *,
    shape: tuple[int, ...],
    stem: str,
    width: int,
) -> ResNet:
    """`stem`: "imagenet" reduces the image 4-fold before the first block, "small" not at all.

    "auto" is "small" up to 64 pixels: the 4-fold stem would leave 32-pixel images 1 × 1 places
    in the last stage; He et al. §4.2 use a 3×3 stem on CIFAR-10 for the same reason.
    """
    if stem not in STEMS:
        raise unknown_name("stem", stem, STEMS)
    return ResNet(
        block,
        depths,
        num_classes=num_classes,
        in_channels=shape[0],
        width=width,
        small_stem=stem == "small" or (stem == "auto" and max(shape[1:]) <= 64),
    )


def _stage(
    block: type[BasicBlock | Bottleneck], channels: tuple[int, int], *, depth: int, stride: int
) -> nn.Sequential:
    before, within = channels
    rest = (block(block.expansion * within, within, stride=1) for _ in range(depth - 1))
    return nn.Sequential(block(before, within, stride=stride), *rest)


def _shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential | None:
    """What brings the block's input to its output's shape; None where they are equal."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )
