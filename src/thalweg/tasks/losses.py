"""Losses of classes, by name. Each is a mean over the samples.

A loss takes class indices or one probability per class (soft targets: mixed, smoothed or doubtful
labels), but for those that `takes_soft_targets` names.
"""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.registry import Registry

Classes = Int[Tensor, " sample"] | Float[Tensor, "sample class"]


def cross_entropy(
    logits: Float[Tensor, "sample class"], targets: Classes, *, label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """−Σ p log q in nat; chance: ln K. Soft targets p differ from KL(p‖q) by p's own entropy."""
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


def multiclass_svm(
    logits: Float[Tensor, "sample class"], targets: Int[Tensor, " sample"], *, margin: float = 1.0
) -> Float[Tensor, ""]:
    """Σ over j ≠ y of max(0, s_j − s_y + margin); chance: (K − 1) · margin.

    PyTorch's MultiMarginLoss is this divided by K. It takes no soft targets. Source: Weston &
    Watkins 1999 (ESANN).
    """
    return F.multi_margin_loss(logits, targets, margin=margin) * logits.shape[1]


def focal(
    logits: Float[Tensor, "sample class"],
    targets: Classes,
    *,
    gamma: float = 2.0,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """−Σ p (1 − q)^γ log q: samples that are already right count less; γ = 0: cross-entropy.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 4.
    """
    soft_targets = smoothed(targets, num_classes=logits.shape[1], share=label_smoothing)
    log_q = logits.log_softmax(dim=1)
    return -(soft_targets * (1 - log_q.exp()) ** gamma * log_q).sum(dim=1).mean()


def mse(
    logits: Float[Tensor, "sample class"], targets: Classes, *, label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Σ (softmax − target)² per sample. Flat where it is most wrong: prefer cross-entropy."""
    soft_targets = smoothed(targets, num_classes=logits.shape[1], share=label_smoothing)
    return (logits.softmax(dim=1) - soft_targets).square().sum(dim=1).mean()


def bce(
    logits: Float[Tensor, "sample class"], targets: Classes, *, label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Binary cross-entropy: each class a yes or no of its own, averaged over classes.

    Several may be true at once. Chance: ln 2.
    """
    soft_targets = smoothed(targets, num_classes=logits.shape[1], share=label_smoothing)
    return F.binary_cross_entropy_with_logits(logits, soft_targets.to(logits.dtype))


LOSSES: Registry[Callable[..., Tensor]] = Registry(
    "loss", (cross_entropy, multiclass_svm, focal, mse, bce)
)

_HARD_ONLY = frozenset({"multiclass_svm"})


def takes_soft_targets(name: str) -> bool:
    """Return whether the loss takes probabilities as targets: mixed samples, smoothed labels."""
    return name not in _HARD_ONLY


def soft(targets: Classes, *, num_classes: int) -> Float[Tensor, "sample class"]:
    """One probability per class: class indices become 1 and 0; soft targets stay as they are."""
    if targets.is_floating_point():
        return targets
    return F.one_hot(targets.long(), num_classes).float()


def smoothed(targets: Classes, *, num_classes: int, share: float) -> Float[Tensor, "sample class"]:
    """Probabilities of which `share` is spread over all classes, as label smoothing does."""
    soft_targets = soft(targets, num_classes=num_classes)
    return soft_targets if share == 0 else (1 - share) * soft_targets + share / num_classes
