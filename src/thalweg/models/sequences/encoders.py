"""Encoders: texts and images become a `Memory` that decoders look at."""

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from thalweg.models.sequences.memory import Memory
from thalweg.models.sequences.padding import run_over_real_tokens
from thalweg.models.sequences.recurrent import CELLS
from thalweg.models.sequences.rotary import rotations
from thalweg.models.sequences.transformer import Block, check_sizes, masked_attention, normalise
from thalweg.registry import unknown_name


class TextEncoder(nn.Module):
    """Embedding and recurrent layers, by default in both directions; `width` numbers a token.

    The summary is the last layer's state behind the text, of both directions. Padding may stand
    anywhere; it changes nothing.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        width: int = 256,
        depth: int = 1,
        cell: str = "gru",
        bidirectional: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise unknown_name("recurrent cell", cell, CELLS)
        self.width = width
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.dropout = nn.Dropout(dropout)
        directions = 1 + bidirectional
        self.layers = CELLS[cell](
            width,
            width // directions,
            depth,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if depth > 1 else 0.0,
        )
        self.project = nn.Linear(width // directions * directions, width)

    def forward(
        self, tokens: Int64[Tensor, "batch time"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Memory:
        mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        inputs = self.dropout(self.embedding(tokens))
        outputs, states = run_over_real_tokens(self.layers, inputs, mask)
        directions = 2 if self.layers.bidirectional else 1
        summary = rearrange(states[0][-directions:], "d b w -> b (d w)")
        return Memory(self.project(outputs), mask, self.project(summary))


class TransformerTextEncoder(nn.Module):
    """Embedding and `depth` Transformer blocks in which every token sees all others."""

    def __init__(
        self,
        vocabulary_size: int,
        *,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(width=width, heads=heads, context=1)
        self.width, self.head_dim = width, width // heads
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, heads, memory_width=0, dropout=dropout) for _ in range(depth)
        )

    def forward(
        self, tokens: Int64[Tensor, "batch time"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Memory:
        mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)
        attend = partial(masked_attention, allowed=(mask[:, None] | itself)[:, None])
        x = self.dropout(normalise(self.embedding(tokens)))
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        rotation = rotations(positions, self.head_dim, dtype=x.dtype)
        for block in self.blocks:
            x = block(x, attend, rotation, None)
        return Memory(normalise(x), mask)


class GridEncoder(nn.Module):
    """The places of a convolutional network's feature map, `width` numbers each.

    `features` maps images to [batch, channels, y, x], as a pretrained network without its head.
    """

    def __init__(self, features: Callable[[Tensor], Tensor], channels: int, *, width: int) -> None:
        super().__init__()
        self.features, self.width = features, width
        self.project = nn.Linear(channels, width)

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Memory:
        places = rearrange(self.features(images), "b c y x -> b (y x) c")
        tokens = self.project(places)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Memory(tokens, mask, tokens.mean(1))


class PooledEncoder(nn.Module):
    """One entry an image: the mean of a feature map over its places, or a vector as it is."""

    def __init__(self, features: Callable[[Tensor], Tensor], channels: int, *, width: int) -> None:
        super().__init__()
        self.features, self.width = features, width
        self.project = nn.Linear(channels, width)

    def forward(self, images: Float[Tensor, " batch *shape"]) -> Memory:
        features = self.features(images)
        pooled = features.flatten(2).mean(2) if features.ndim > 2 else features
        tokens = self.project(pooled)[:, None]
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Memory(tokens, mask, tokens[:, 0])
