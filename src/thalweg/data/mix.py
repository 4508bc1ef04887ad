"""Mixing the samples of a batch, and their targets with them. Whole batches at a time, seeded.

Source: mixup, Zhang et al. 2018, https://arxiv.org/abs/1710.09412; cutmix, Yun et al. 2019,
https://arxiv.org/abs/1905.04899.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from thalweg.data.batch import Batch


def mixup(batch: Batch, *, alpha: float, num_classes: int, generator: Generator) -> Batch:
    """λ · a + (1 − λ) · b of every sample a and a partner b; λ from Beta(α, α), one a batch.

    The targets become probabilities: λ of a's class, 1 − λ of b's.
    """
    share, partner = _drawn(batch, alpha=alpha, generator=generator)
    inputs = share * batch.inputs + (1 - share) * batch.inputs[partner]
    targets = _mixed(batch.targets, partner, share=share, num_classes=num_classes)
    return Batch(inputs, targets)


def cutmix(batch: Batch, *, alpha: float, num_classes: int, generator: Generator) -> Batch:
    """A rectangle of every image is its partner's; targets are mixed by the areas that are seen."""
    share, partner = _drawn(batch, alpha=alpha, generator=generator)
    height, width = batch.inputs.shape[-2:]
    top, bottom = _cut(height, share=share, generator=generator)
    left, right = _cut(width, share=share, generator=generator)
    inputs = batch.inputs.clone()
    inputs[..., top:bottom, left:right] = batch.inputs[partner][..., top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return Batch(inputs, _mixed(batch.targets, partner, share=kept, num_classes=num_classes))


def _drawn(batch: Batch, *, alpha: float, generator: Generator) -> tuple[float, Tensor]:
    partner = torch.randperm(len(batch.inputs), generator=generator)
    both = torch._standard_gamma(torch.full((2,), alpha), generator=generator)
    total = both.sum().item()
    return (both[0].item() / total if total > 0 else 1.0), partner.to(batch.inputs.device)


def _cut(side: int, *, share: float, generator: Generator) -> tuple[int, int]:
    """Where the rectangle begins and ends: √(1 − share) of the side around a random middle."""
    middle = int(torch.randint(side, (), generator=generator))
    half = sqrt(1 - share) * side / 2
    return max(0, round(middle - half)), min(side, round(middle + half))


def _mixed(
    targets: Int[Tensor, " sample"],
    partner: Int[Tensor, " sample"],
    *,
    share: float,
    num_classes: int,
) -> Float[Tensor, "sample class"]:
    hot = F.one_hot(targets.long(), num_classes).float()
    return share * hot + (1 - share) * hot[partner]
