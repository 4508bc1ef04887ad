"""Progressive resizing: train on smaller images first, on a share of the pixels.

Source: "progressive resizing", Howard 2018 (fast.ai's DAWNBench entries).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Num
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True, slots=True)
class ProgressiveResizing:
    """Resizes the images of a batch to the size of its phase of the training."""

    phases: tuple[tuple[int, int], ...]  # (longer side in pixels, first batch after it), in order

    @property
    def batches(self) -> int:
        """The number of batches with smaller images, from the first one on."""
        return self.phases[-1][1]

    def last_change(self, batches: int) -> int:
        """The first of `batches` batches whose images have the final size."""
        return max(end for end in (0, *(end for _, end in self.phases)) if end < max(1, batches))

    def __call__(self, raw: Num[Tensor, "n h w c"], number: int) -> Num[Tensor, "n a b c"]:
        """The images, smaller in the early phases, of the same dtype."""
        size = next((size for size, end in self.phases if number < end), None)
        return raw if size is None else resize_longer_side(raw, size=size)


def progressive_resizing(
    shares: Mapping[str, float], *, batches: int
) -> ProgressiveResizing | None:
    """The resizing for side → share of a training of `batches` batches, in order; None without."""
    ends = accumulate(shares.values())
    phases = [(int(size), round(e * batches)) for size, e in zip(shares, ends, strict=True)]
    return ProgressiveResizing(tuple(phases)) if phases else None


def resize_longer_side(raw: Num[Tensor, "n h w c"], *, size: int) -> Num[Tensor, "n a b c"]:
    """Resize the longer side to `size`: bilinear and antialiased."""
    height, width = raw.shape[1:3]
    longer = max(height, width)
    sides = [max(1, round(side * size / longer)) for side in (height, width)]
    planes = raw.permute(0, 3, 1, 2)
    # On the CPU torch resizes bytes as bytes, seven times as fast; a GPU cannot.
    keeps_bytes = raw.dtype == torch.uint8 and raw.device.type == "cpu"
    values = planes if keeps_bytes else planes.float()
    smaller = interpolate(values, size=sides, mode="bilinear", antialias=True)
    if raw.dtype == torch.uint8 and not keeps_bytes:
        smaller = smaller.round().clamp(0, 255).to(torch.uint8)
    return smaller.permute(0, 2, 3, 1).contiguous()
