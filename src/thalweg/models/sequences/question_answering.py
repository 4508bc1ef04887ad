"""A network that answers questions about an image from a closed set of answers."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from thalweg.errors import UsageError

GRID = 8  # the stem halves the image until its side is at most this


class ModulatedBlock(nn.Module):
    """Two 3×3 convolutions beside a skip; the question scales and shifts each one's channels.

    Source: Perez et al. 2018, https://arxiv.org/abs/1709.07871.
    """

    def __init__(self, width: int, question_width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(_conv(width, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for _ in range(2))
        self.modulation = nn.Linear(question_width, 4 * width)

    def forward(
        self, grid: Float[Tensor, "batch dim y x"], question: Float[Tensor, "batch summary"]
    ) -> Float[Tensor, "batch dim y x"]:
        changes = self.modulation(question)[:, :, None, None].chunk(4, dim=1)
        hidden = grid
        pairs = zip(changes[:2], changes[2:], strict=True)
        for convolve, norm, (scale, shift) in zip(
            self.convolutions, self.norms, pairs, strict=True
        ):
            hidden = F.relu(norm(convolve(hidden)) * (1 + scale) + shift)
        return grid + hidden


class FilmAnswerer(nn.Module):
    """A GRU reads the question, which modulates the convolutions over the image's grid.

    The mean and the maximum of the grid's places, beside the question's summary, give the logits of
    the answers. Padding behind a question changes nothing.
    """

    def __init__(
        self,
        answers: int,
        *,
        channels: int,
        side: int,
        vocabulary: int,
        width: int,
        depth: int,
        dropout: float,
    ) -> None:
        super().__init__()
        question_width = 2 * width
        self.embedding = nn.Embedding(vocabulary, width)
        self.reader = nn.GRU(width, question_width, batch_first=True)
        self.stem = _stem(channels, side, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, question_width) for _ in range(depth))
        self.hidden = nn.Linear(2 * width + question_width, 4 * width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, answers)
        nn.init.normal_(self.head.weight, std=0.01)  # near-equal logits: the first loss is chance
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        images: Float[Tensor, "batch channel y x"],
        words: Int64[Tensor, "batch word"],
        mask: Bool[Tensor, "batch word"],
    ) -> Float[Tensor, "batch answer"]:
        states, _ = self.reader(self.embedding(words))
        last = (mask.sum(1) - 1).clamp_min(0)
        question = states[torch.arange(len(states), device=states.device), last]
        grid = self.stem(images)
        for block in self.blocks:
            grid = block(grid, question)
        pooled = torch.cat((grid.mean((2, 3)), grid.amax((2, 3)), question), dim=1)
        return self.head(self.dropout(F.relu(self.hidden(pooled))))


def film_answerer(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    vocabulary: int = 1_000,
    width: int = 32,
    depth: int = 2,
    dropout: float = 0.0,
) -> FilmAnswerer:
    """Answers a question about an image with one of `num_classes` answers (FiLM).

    `vocabulary` words can be read; the image has `width` channels and `depth` modulated blocks.
    Raises: UsageError for inputs without an image.
    """
    if len(input_shape) != 3:
        raise UsageError(
            "film_answerer reads an image beside a question",
            seen=f"inputs of shape {input_shape}",
            fix="`thalweg model` lists all networks",
        )
    channels, height, width_px = input_shape
    return FilmAnswerer(
        num_classes,
        channels=channels,
        side=max(height, width_px),
        vocabulary=vocabulary,
        width=width,
        depth=depth,
        dropout=dropout,
    )


def _stem(channels: int, side: int, width: int) -> nn.Sequential:
    """Convolutions of stride 2 down to the grid."""
    layers: list[nn.Module] = []
    before, after = channels, max(8, width // 2)
    while True:
        layers += [_conv(before, after, stride=2), nn.BatchNorm2d(after), nn.ReLU()]
        side = (side + 1) // 2
        if side <= GRID and after == width:
            return nn.Sequential(*layers)
        before, after = after, width


def _conv(before: int, after: int, *, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution
