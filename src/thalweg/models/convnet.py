"""A small, fast convolutional network for images of 8 to 64 pixels."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.models.pieces.activation import ACTIVATIONS, widening
from thalweg.models.pieces.image_shape import image_channels
from thalweg.models.pieces.initialise import INITIALISATIONS
from thalweg.models.pieces.norm import NORMS

Layer = Callable[..., nn.Module]  # (in_channels, out_channels, *, stride) → convolution to ReLU


class ConvNet(nn.Module):
    """Three stages of two 3×3 convolutions, each stage at half the resolution of the one before.

    Normalisation follows every convolution (Ioffe, Szegedy 2015, arXiv:1502.03167). Global average
    pooling replaces large dense layers (Lin, Chen, Yan 2014, arXiv:1312.4400 §3.2).
    """

    def __init__(
        self, layer: Layer, *, in_channels: int, width: int, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.stem = layer(in_channels, width)
        self.stages = nn.ModuleList(
            nn.Sequential(layer(before, after, stride=1), layer(after, after, stride=1))
            for before, after in zip((width, *widths), widths, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)
        nn.init.normal_(self.head.weight, std=0.01)  # near-equal logits: the first loss is chance
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        hidden = self.stem(images)
        for index, stage in enumerate(self.stages):
            if index > 0 and min(hidden.shape[-2:]) > 1:
                hidden = F.max_pool2d(hidden, 2)
            hidden = stage(hidden)
        return self.head(self.dropout(hidden.mean(dim=(2, 3))))


def convnet(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 32,
    dropout: float = 0.0,
    activation: str = "relu",
    norm: str = "batch",
    init: str = "he",
) -> ConvNet:
    """The ConvNet has `width` channels in its first stage, 2 and 4 times as many in the next two.

    Above 32 pixels the stem halves the resolution: a quarter of the work, and the last stage
    still sees the whole image. `activation`, `norm` and `init` take any name in the tables of
    `models.pieces`.
    """
    stride = 1 if max(input_shape[1:], default=1) <= 32 else 2
    return ConvNet(
        partial(_convolution, stride=stride, activation=activation, norm=norm, init=init),
        in_channels=image_channels(input_shape, model="convnet", least=1),
        width=width,
        num_classes=num_classes,
        dropout=dropout,
    )


def _convolution(
    in_channels: int, out_channels: int, *, stride: int, activation: str, norm: str, init: str
) -> nn.Sequential:
    channels = out_channels * widening(activation)
    convolution = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=norm == "none")
    INITIALISATIONS[init](convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, NORMS[norm](channels), ACTIVATIONS[activation]())
