"""VGG: stacks of 3×3 convolutions with max pooling after each stage.

Two 3×3 layers see 5×5 pixels and three see 7×7, with fewer weights (18C² < 25C², 27C² < 49C²) and
more non-linearities. Weight names are torchvision's; the CIFAR variants have small hidden layers
after 1×1 maps, as in chenyaofo/pytorch-cifar-models.

Source: Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556, table 1 (A, B, D, E).
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from thalweg.models.pieces.image_shape import image_channels
from thalweg.models.pieces.swap_layers import swap_layers
from thalweg.registry import unknown_name

STAGES = {  # convolutions per stage, by depth
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)
HEADS = {"imagenet": (7, 4096), "cifar": (1, 512)}  # side of the pooled map, hidden width


class VGG(nn.Module):
    def __init__(
        self,
        num_classes: int,
        *,
        input_shape: tuple[int, ...],
        depth: int,
        norm: bool,
        head: str = "imagenet",
        dropout: float = 0.5,
        activation: str = "relu",
        init: str = "he",
    ) -> None:
        super().__init__()
        channels = image_channels(input_shape, model=f"vgg{depth}", least=32)
        if head not in HEADS:
            raise unknown_name("head", head, HEADS)
        side, hidden = HEADS[head]
        self.features = _features(channels, depth=depth, norm=norm)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(WIDTHS[-1] * side * side, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        self.apply(_initialise)
        swap_layers(self, activation=activation, init=init)

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def _features(in_channels: int, *, depth: int, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for convolutions, width in zip(STAGES[depth], WIDTHS, strict=True):
        for _ in range(convolutions):
            layers.append(nn.Conv2d(in_channels, width, 3, padding=1))
            layers.extend([nn.BatchNorm2d(width)] if norm else [])
            layers.append(nn.ReLU(inplace=True))
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)


def vgg11(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-11 has 132,863,336 weights at 1000 classes."""
    return VGG(num_classes, input_shape=input_shape, depth=11, norm=False, **changes)


def vgg11_bn(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-11 with batch norm has 132,868,840 weights at 1000 classes."""
    return VGG(num_classes, input_shape=input_shape, depth=11, norm=True, **changes)


def cifar_vgg11_bn(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-11 for CIFAR has 9.76 million weights; its published accuracy on CIFAR-10 is 92.79 %."""
    return vgg11_bn(num_classes, input_shape=input_shape, head="cifar", **changes)


def vgg13(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-13 has 133,047,848 weights at 1000 classes."""
    return VGG(num_classes, input_shape=input_shape, depth=13, norm=False, **changes)


def vgg13_bn(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-13 with batch norm has 133,053,736 weights at 1000 classes."""
    return VGG(num_classes, input_shape=input_shape, depth=13, norm=True, **changes)


def cifar_vgg13_bn(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-13 for CIFAR has 9.94 million weights; its published accuracy on CIFAR-10 is 94.00 %."""
    return vgg13_bn(num_classes, input_shape=input_shape, head="cifar", **changes)


def vgg16(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-16 has 138,357,544 weights at 1000 classes."""
    return VGG(num_classes, input_shape=input_shape, depth=16, norm=False, **changes)


def vgg16_bn(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-16 with batch norm has 138,365,992 weights at 1000 classes."""
    return VGG(num_classes, input_shape=input_shape, depth=16, norm=True, **changes)


def cifar_vgg16_bn(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-16 for CIFAR has 15.25 million weights; its published accuracy on CIFAR-10 is 94.16 %."""
    return vgg16_bn(num_classes, input_shape=input_shape, head="cifar", **changes)


def vgg19(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-19 has 143,667,240 weights at 1000 classes."""
    return VGG(num_classes, input_shape=input_shape, depth=19, norm=False, **changes)


def vgg19_bn(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-19 with batch norm has 143,678,248 weights at 1000 classes."""
    return VGG(num_classes, input_shape=input_shape, depth=19, norm=True, **changes)


def cifar_vgg19_bn(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
    """VGG-19 for CIFAR has 20.57 million weights; its published accuracy on CIFAR-10 is 93.91 %."""
    return vgg19_bn(num_classes, input_shape=input_shape, head="cifar", **changes)
