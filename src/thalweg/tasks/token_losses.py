"""The loss of tokens, and what an evaluation holds of each; padding counts nowhere."""

from collections.abc import Callable
from math import exp, nan

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.registry import Registry

IGNORED = -100  # the target at padding


def cross_entropy(
    logits: Float[Tensor, "sample token entry"], targets: Int[Tensor, "sample token"]
) -> Float[Tensor, ""]:
    """The mean over all tokens of −log of the probability of the one that follows, in nat."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


TOKEN_LOSSES: Registry[Callable[..., Tensor]] = Registry("loss", (cross_entropy,))


def condense(
    logits: Float[Tensor, "sample token entry"], targets: Int[Tensor, "sample token"]
) -> Float[Tensor, "sample token 2"]:
    """The loss of each token in nat, 0 at padding, and the number of the likeliest one.

    The logits of a whole split would fill the memory: one for each token and entry.
    """
    rows = logits.flatten(0, 1).float()
    losses = F.cross_entropy(rows, targets.flatten(), ignore_index=IGNORED, reduction="none")
    pairs = torch.stack((losses, rows.argmax(dim=1).float()), dim=1)
    return pairs.unflatten(0, targets.shape)


def predicted_tokens(condensed: Float[Tensor, "sample token 2"]) -> Int[Tensor, "sample token"]:
    """The number of the likeliest token at each place."""
    return condensed[..., 1].long()


def perplexity_of(loss: float) -> float:
    """e to the mean loss: a model that chooses among so many tokens at random is as unsure."""
    return exp(min(loss, 700.0)) if loss == loss else nan
