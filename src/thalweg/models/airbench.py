"""The network of the CIFAR-10 speed records: whitened patches, then three short stages.

Source: Jordan 2024, https://arxiv.org/abs/2404.00498, after Page 2018, "How to train your ResNet".
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.models.pieces.activation import ACTIVATIONS
from thalweg.models.pieces.image_shape import image_channels
from thalweg.models.pieces.whitening_filters import whitening_filters

PATCH = 2  # pixels: side of the first layer's kernel


class Stage(nn.Module):
    """Two 3×3 convolutions; pooling between them halves the resolution."""

    def __init__(self, in_channels: int, channels: int, *, activation: str) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, channels)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = _norm(channels)
        self.conv2 = _convolution(channels, channels)
        self.norm2 = _norm(channels)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        x = self.activation(self.norm1(self.pool(self.conv1(x))))
        return self.activation(self.norm2(self.conv2(x)))


class Airbench(nn.Module):
    def __init__(self, *, num_classes: int, in_channels: int, width: int, activation: str) -> None:
        super().__init__()
        patch = in_channels * PATCH**2
        self.whiten = nn.Conv2d(in_channels, 2 * patch, PATCH)
        self.whiten.weight.requires_grad_(False)
        self.activation = ACTIVATIONS[activation]()
        widths = (2 * patch, width, 4 * width, 4 * width)
        self.stages = nn.Sequential(
            *(Stage(before, after, activation=activation) for before, after in pairwise(widths))
        )
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        nn.init.normal_(self.head.weight, std=1 / widths[-1])  # near-equal logits

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        hidden = self.stages(self.activation(self.whiten(images))).amax(dim=(2, 3))
        return self.head(hidden)

    @torch.no_grad()
    def fit_to(self, images: Float[Tensor, "batch channel y x"]) -> None:
        """Set the first layer's filters to whiten these images' patches, in both signs.

        The activation that follows would lose one of them.
        """
        filters = whitening_filters(images, side=PATCH)
        self.whiten.weight.copy_(torch.cat((filters, -filters)))


def airbench(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 64,
    activation: str = "silu",
) -> Airbench:
    """The network has 1,972,792 weights at 10 classes; `width` is that of the first stage.

    It suits images of 9 to about 64 pixels. Training first fits the filters of the first layer to
    its images, so that patches reach the second layer uncorrelated, and then freezes them.
    """
    return Airbench(
        num_classes=num_classes,
        in_channels=image_channels(input_shape, model="airbench", least=8 + PATCH - 1),
        width=width,
        activation=activation,
    )


def _convolution(in_channels: int, channels: int) -> nn.Conv2d:
    """Start as the identity on the input channels; further channels start at random."""
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight[:in_channels])
    return convolution


def _norm(channels: int) -> nn.BatchNorm2d:
    """Fix the scale at 1: the convolution that follows can learn it."""
    norm = nn.BatchNorm2d(channels, eps=1e-12)
    norm.weight.requires_grad_(False)
    return norm
