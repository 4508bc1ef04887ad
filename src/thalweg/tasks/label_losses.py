"""Losses of several labels that hold or do not, by name. Each is a mean over the samples."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from thalweg.registry import Registry


def bce(
    logits: Float[Tensor, "sample label"], targets: Float[Tensor, "sample label"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy from logits, summed over the labels, in nat a sample.

    It is −log of the probability of exactly these labels, were they independent. PyTorch's
    BCEWithLogitsLoss is this divided by the number of labels.
    """
    mean = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
    return mean * logits.shape[1]


LABEL_LOSSES: Registry[Callable[..., Tensor]] = Registry("loss", (bce,))
