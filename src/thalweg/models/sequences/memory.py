"""The memory of a decoder: the encoded inputs that it may look at."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Memory(NamedTuple):
    """Encoded inputs of a batch: words of a question, places of an image, turns of a dialog.

    A language model has none: its memory is None.
    """

    tokens: Float[Tensor, "batch entry dim"]
    mask: Bool[Tensor, "batch entry"]  # True where there is an entry; at least one a row
    summary: Float[Tensor, "batch dim"] | None = None

    def take_rows(self, rows: Int64[Tensor, " chosen"]) -> "Memory":
        """The memory of these rows of the batch, in this order; a row may repeat."""
        summary = None if self.summary is None else self.summary[rows]
        return Memory(self.tokens[rows], self.mask[rows], summary)

    def mean(self) -> Float[Tensor, "batch dim"]:
        """The summary, or else the mean over the entries of each row."""
        if self.summary is not None:
            return self.summary
        weight = self.mask[..., None].to(self.tokens.dtype)
        return (self.tokens * weight).sum(1) / weight.sum(1).clamp_min(1)


def join_memories(memories: Sequence[Memory]) -> Memory:
    """One memory of all entries, such as an image's and a question's; summaries are averaged."""
    return Memory(
        torch.cat([memory.tokens for memory in memories], dim=1),
        torch.cat([memory.mask for memory in memories], dim=1),
        torch.stack([memory.mean() for memory in memories]).mean(0),
    )
