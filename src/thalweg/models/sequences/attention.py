"""Attention of a recurrent decoder over its memory: one score for each entry, one weighted mean.

The query is the output of the recurrent layers at the same step, so that all steps of a sequence
are computed at once (Luong, Pham, Manning 2015, https://arxiv.org/abs/1508.04025, without input
feeding); in Bahdanau et al. it is the state before the step.
"""

from collections.abc import Callable
from math import sqrt

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from thalweg.models.sequences.memory import Memory
from thalweg.registry import Registry


class Attention(nn.Module):
    """Projects queries and keys, scores each pair, returns the mean of the values and its weights.

    The values are the memory's tokens themselves.
    """

    def __init__(self, width: int, memory_width: int, score: nn.Module) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(memory_width, width, bias=False)
        self.score = score

    def forward(
        self, queries: Float[Tensor, "batch time width"], memory: Memory
    ) -> tuple[Float[Tensor, "batch time dim"], Float[Tensor, "batch time entry"]]:
        scores = self.score(self.query(queries), self.key(memory.tokens))
        weights = masked_softmax(scores, memory.mask[:, None])
        return weights @ memory.tokens.to(weights.dtype), weights


class AdditiveScore(nn.Module):
    """v · tanh(query + key). Cost: a tensor [batch, time, entry, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Linear(width, 1, bias=False)

    def forward(
        self, queries: Float[Tensor, "batch time width"], keys: Float[Tensor, "batch entry width"]
    ) -> Float[Tensor, "batch time entry"]:
        return self.weight(torch.tanh(queries[:, :, None] + keys[:, None])).squeeze(-1)


class DotScore(nn.Module):
    """query · key / √width, which keeps the variance of the scores at that of the entries."""

    def forward(
        self, queries: Float[Tensor, "batch time width"], keys: Float[Tensor, "batch entry width"]
    ) -> Float[Tensor, "batch time entry"]:
        return queries @ keys.mT / sqrt(keys.shape[-1])


def additive(width: int, memory_width: int) -> Attention:
    """v · tanh(W q + U k). Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473."""
    return Attention(width, memory_width, AdditiveScore(width))


def dot(width: int, memory_width: int) -> Attention:
    """W q · U k / √width. Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, §3.2.1."""
    return Attention(width, memory_width, DotScore())


ATTENTIONS: Registry[Callable[[int, int], Attention]] = Registry("attention", (additive, dot))


def masked_softmax(
    scores: Float[Tensor, "batch time entry"], mask: Bool[Tensor, "batch 1 entry"]
) -> Float[Tensor, "batch time entry"]:
    """Softmax over the entries where the mask is True; finite also where it is True nowhere."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
