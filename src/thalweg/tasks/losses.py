"""Losses beside cross-entropy and squared error, by name. Each is a mean over the samples.

A classification loss takes class indices, or one probability per class (soft targets: mixed or
doubtful labels). What a model that knows nothing scores stands beside each.
"""

import torch
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

    PyTorch's MultiMarginLoss is this divided by K. Source: Weston & Watkins 1999 (ESANN).
    """
    return F.multi_margin_loss(logits, targets, margin=margin) * logits.shape[1]


def focal(
    logits: Float[Tensor, "sample class"], targets: Int[Tensor, " sample"], *, gamma: float = 2.0
) -> Float[Tensor, ""]:
    """−(1 − p)^γ log p of the right class: what is already right counts less; γ = 0: cross-entropy.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 4.
    """
    surprise = F.cross_entropy(logits, targets, reduction="none")
    return ((1 - torch.exp(-surprise)) ** gamma * surprise).mean()


def squared_error(logits: Float[Tensor, "sample class"], targets: Classes) -> Float[Tensor, ""]:
    """Σ (softmax − target)² per sample. Flat where it is most wrong: prefer cross-entropy."""
    return (
        (logits.softmax(dim=1) - soft(targets, num_classes=logits.shape[1])).square().sum(1).mean()
    )


def binary_cross_entropy(
    logits: Float[Tensor, "sample class"], targets: Classes
) -> Float[Tensor, ""]:
    """Each class a yes or no of its own, averaged over classes: several may be true at once.

    Chance: ln 2.
    """
    wanted = soft(targets, num_classes=logits.shape[1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, wanted)


LOSSES = Registry(
    "loss", (cross_entropy, multiclass_svm, focal, squared_error, binary_cross_entropy)
)


def absolute_error(
    outputs: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]
) -> Float[Tensor, ""]:
    """Mean |output − target|: its best constant is the median, so outliers weigh little."""
    return F.l1_loss(outputs.squeeze(1), targets)


def soft(targets: Classes, *, num_classes: int) -> Float[Tensor, "sample class"]:
    """One probability per class: class indices become 1 and 0; soft targets stay as they are."""
    if targets.is_floating_point():
        return targets
    return F.one_hot(targets.long(), num_classes).float()
