"""Mixup and cutmix: blend the samples of a batch, and their targets with them.

Source: mixup, Zhang et al. 2018, https://arxiv.org/abs/1710.09412; cutmix, Yun et al. 2019,
https://arxiv.org/abs/1905.04899.
"""

from collections import abc
from dataclasses import dataclass
from hashlib import blake2b
from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from thalweg.data.batch import Batch, to_device


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Mixup or cutmix of whole batches; one of them by chance where both are on."""

    mixup: float = 0.0  # α of Beta(α, α); 0: off
    cutmix: float = 0.0
    num_classes: int  # 1: targets are values, and are mixed as such

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        if not (self.mixup or self.cutmix):
            return batch
        cut = self.cutmix > 0
        if self.mixup and self.cutmix:
            cut = bool(torch.rand((), generator=generator) < 0.5)
        mix, alpha = (cutmix, self.cutmix) if cut else (mixup, self.mixup)
        return mix(batch, alpha=alpha, num_classes=self.num_classes, generator=generator)

    def stream(
        self, batches: abc.Iterator[Batch], *, seed: int, start: int = 0
    ) -> abc.Generator[Batch]:
        """Yield the batches mixed; the mixture of batch `number` follows from seed and number."""
        generator = Generator()
        for number, batch in enumerate(batches, start):
            digest = blake2b(f"mix/{seed}/{number}".encode(), digest_size=8).digest()
            generator.manual_seed(int.from_bytes(digest, "little") >> 1)
            yield self(batch, generator)


def mixup(batch: Batch, *, alpha: float, num_classes: int, generator: Generator) -> Batch:
    """λ · a + (1 − λ) · b of every sample a and a partner b; λ from Beta(α, α), one a batch.

    The targets become probabilities: λ of a's class, 1 − λ of b's. Values are blended likewise.
    """
    tensor = _single(batch)
    share, partner = _draw(tensor, alpha=alpha, generator=generator)
    inputs = share * tensor + (1 - share) * tensor[partner]
    targets = _mixed_targets(batch.targets, partner, share=share, num_classes=num_classes)
    return Batch(inputs, targets)


def cutmix(batch: Batch, *, alpha: float, num_classes: int, generator: Generator) -> Batch:
    """Replace a rectangle of every image by its partner's; mix the targets by the areas."""
    images = _single(batch)
    share, partner = _draw(images, alpha=alpha, generator=generator)
    height, width = images.shape[-2:]
    top, bottom = _interval(height, share=share, generator=generator)
    left, right = _interval(width, share=share, generator=generator)
    inputs = images.clone()
    inputs[..., top:bottom, left:right] = images[partner][..., top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return Batch(
        inputs, _mixed_targets(batch.targets, partner, share=share, num_classes=num_classes)
    )


def _single(batch: Batch) -> Tensor:
    assert isinstance(batch.inputs, Tensor), "a group of tensors is not mixed"
    return batch.inputs


def _draw(inputs: Tensor, *, alpha: float, generator: Generator) -> tuple[float, Tensor]:
    """The share that samples keep of themselves, and the partner of each."""
    partner = torch.randperm(len(inputs), generator=generator)
    both = torch._standard_gamma(torch.full((2,), alpha), generator=generator)
    total = both.sum().item()
    return (both[0].item() / total if total > 0 else 1.0), to_device(partner, inputs.device)


def _interval(side: int, *, share: float, generator: Generator) -> tuple[int, int]:
    """The rectangle's first and last place: √(1 − share) of the side around a random middle."""
    middle = int(torch.randint(side, (), generator=generator))
    half = sqrt(1 - share) * side / 2
    return max(0, round(middle - half)), min(side, round(middle + half))


def _mixed_targets(
    targets: Int[Tensor, " sample"] | Float[Tensor, "sample ..."],
    partner: Int[Tensor, " sample"],
    *,
    share: float,
    num_classes: int,
) -> Float[Tensor, "sample class"] | Float[Tensor, "sample ..."]:
    if targets.is_floating_point():
        return share * targets + (1 - share) * targets[partner]
    hot = F.one_hot(targets.long(), num_classes).float()
    return share * hot + (1 - share) * hot[partner]
