"""A small, fast convolutional network for images of 8 to 64 pixels."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Three stages of two 3×3 convolutions, each stage at half the resolution of the one before.

    Normalisation after every convolution: Ioffe, Szegedy 2015, arXiv:1502.03167. The average over
    all places in place of large dense layers: Lin, Chen, Yan 2014, arXiv:1312.4400 §3.2.
    """

    def __init__(
        self, *, in_channels: int, width: int, num_classes: int, stride: int, dropout: float
    ) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.stem = _convolution(in_channels, width, stride=stride)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(before, after), _convolution(after, after))
            for before, after in zip((width, *widths), widths, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.01)  # nearly undecided: the first loss is chance
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        hidden = self.stem(images)
        for index, stage in enumerate(self.stages):
            if index > 0 and min(hidden.shape[-2:]) > 1:
                hidden = F.max_pool2d(hidden, 2)
            hidden = stage(hidden)
        return self.head(self.dropout(hidden.mean(dim=(2, 3))))


def convnet(
    num_classes: int, *, input_shape: tuple[int, ...], width: int = 32, dropout: float = 0.0
) -> ConvNet:
    """`width` channels in the first stage, twice and four times as many in the next two.

    Above 32 pixels the stem halves the resolution: a quarter of the work, and the last stage
    still sees the whole image.
    """
    return ConvNet(
        in_channels=input_shape[0],
        width=width,
        num_classes=num_classes,
        stride=1 if max(input_shape[1:]) <= 32 else 2,
        dropout=dropout,
    )


def _convolution(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
