"""Losses of a linear classifier: (summed loss, gradient with respect to the scores)."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import softplus

ScoreLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def softmax(
    scores: Float[Tensor, "sample class"], targets: Int64[Tensor, " sample"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "sample class"]]:
    """Cross-entropy −ln softmax(s)_y, in nats, over the rows; the gradient is p − one-hot."""
    log_p = torch.log_softmax(scores, dim=1)
    target = targets[:, None]
    loss = -log_p.gather(1, target).sum(dtype=torch.float64)
    gradient = log_p.exp_()
    return loss, gradient.scatter_add_(1, target, gradient.new_full(target.shape, -1))


def sigmoid(
    scores: Float[Tensor, "sample label"], targets: Float[Tensor, "sample label"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "sample label"]]:
    """Σ over labels of ln(1 + eˢ) − y s, in nats, over the rows; the gradient is σ(s) − y."""
    loss = (softplus(scores) - targets * scores).sum(dtype=torch.float64)
    return loss, scores.sigmoid() - targets


def multiclass_hinge(*, margin: float = 1.0, smoothing: float = 0.0) -> ScoreLoss:
    """Σ_{j≠y} max(0, s_j − s_y + margin). Source: Weston & Watkins 1999.

    `smoothing` δ replaces the corner by a parabola, z²/(2δ) on [0, δ] and z − δ/2 beyond: at most
    δ/2 below the hinge for each class.
    """

    def loss(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        target = targets[:, None]
        excess = (scores - scores.gather(1, target) + margin).scatter_(1, target, 0).clamp_min_(0)
        if smoothing == 0:
            slope = (excess > 0).to(scores.dtype)
            total = excess.sum(dtype=torch.float64)
        else:
            slope = (excess / smoothing).clamp_max_(1)
            total = (slope * (excess - 0.5 * smoothing * slope)).sum(dtype=torch.float64)
        return total, slope.scatter_(1, target, -slope.sum(1, keepdim=True))

    return loss


def squared_hinge(
    scores: Float[Tensor, "sample class"], targets: Int64[Tensor, " sample"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "sample class"]]:
    """Σ_j max(0, 1 − t_j s_j)², t = +1 for the class and −1 for the others: the one-vs-rest L2-SVM.

    It is the default of scikit-learn's LinearSVC; Coates, Lee & Ng 2011 use it on visual words.
    """
    signs = torch.full_like(scores, -1).scatter_(1, targets[:, None], 1)
    shortfall = (1 - signs * scores).clamp_min_(0)
    return shortfall.square().sum(dtype=torch.float64), -2 * signs * shortfall
