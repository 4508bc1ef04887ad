"""Losses of a linear classifier as (summed loss, its gradient with respect to the scores)."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

ScoreLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def softmax(
    scores: Float[Tensor, "sample class"], targets: Int64[Tensor, " sample"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "sample class"]]:
    """Cross-entropy −ln softmax(s)_y, in nats, over the rows; the gradient is p − one-hot."""
    log_p = torch.log_softmax(scores, dim=1)
    own = targets[:, None]
    loss = -log_p.gather(1, own).sum(dtype=torch.float64)
    gradient = log_p.exp_()
    return loss, gradient.scatter_add_(1, own, gradient.new_full(own.shape, -1))


def multiclass_hinge(*, margin: float = 1.0, smoothing: float = 0.0) -> ScoreLoss:
    """Σ_{j≠y} max(0, s_j − s_y + margin), as in the notes (Weston & Watkins 1999).

    With `smoothing` δ the corner becomes a parabola, z²/(2δ) on [0, δ] and z − δ/2 beyond: at most
    δ/2 below the hinge for each class.
    """

    def loss(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        own = targets[:, None]
        excess = (scores - scores.gather(1, own) + margin).scatter_(1, own, 0).clamp_min_(0)
        if smoothing == 0:
            slope = (excess > 0).to(scores.dtype)
            total = excess.sum(dtype=torch.float64)
        else:
            slope = (excess / smoothing).clamp_max_(1)
            total = (slope * (excess - 0.5 * smoothing * slope)).sum(dtype=torch.float64)
        return total, slope.scatter_(1, own, -slope.sum(1, keepdim=True))

    return loss


def squared_hinge(
    scores: Float[Tensor, "sample class"], targets: Int64[Tensor, " sample"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "sample class"]]:
    """Σ_j max(0, 1 − t_j s_j)², t = +1 for the class and −1 for the others: the L2-SVM, one
    against the rest (LinearSVC's default; Coates, Lee & Ng 2011 put it on visual words)."""
    signs = torch.full_like(scores, -1).scatter_(1, targets[:, None], 1)
    short = (1 - signs * scores).clamp_min_(0)
    return short.square().sum(dtype=torch.float64), -2 * signs * short
