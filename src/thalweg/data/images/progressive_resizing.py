"""Smaller images in the first part of a training: most is learned from a share of the pixels.

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
class Shrink:
    """The images of a batch brought to the size that its number asks for."""

    phases: tuple[tuple[int, int], ...]  # (longer side in pixels, first batch after it), in order

    @property
    def batches(self) -> int:
        """How many batches are shrunk, from the first one on."""
        return self.phases[-1][1]

    def last_change(self, batches: int) -> int:
        """From which of so many batches on the images have the size that they end with."""
        return max(end for end in (0, *(end for _, end in self.phases)) if end < max(1, batches))

    def __call__(self, raw: Num[Tensor, "n h w c"], number: int) -> Num[Tensor, "n a b c"]:
        """The images as they are, or smaller; of the same type."""
        size = next((size for size, end in self.phases if number < end), None)
        return raw if size is None else shrunk(raw, size=size)


def shrink_for(shares: Mapping[str, float], *, batches: int) -> Shrink | None:
    """From side → share of a training of so many batches, in order; None where there is none."""
    ends = accumulate(shares.values())
    phases = [(int(size), round(e * batches)) for size, e in zip(shares, ends, strict=True)]
    return Shrink(tuple(phases)) if phases else None


def shrunk(raw: Num[Tensor, "n h w c"], *, size: int) -> Num[Tensor, "n a b c"]:
    """The longer side brought to `size`: bilinear, each pixel an average of all that it covers."""
    height, width = raw.shape[1:3]
    longer = max(height, width)
    sides = [max(1, round(side * size / longer)) for side in (height, width)]
    planes = raw.permute(0, 3, 1, 2)
    # On the processor bytes are averaged as bytes, seven times as fast; a GPU cannot.
    is_done = raw.dtype == torch.uint8 and raw.device.type == "cpu"
    values = planes if is_done else planes.float()
    smaller = interpolate(values, size=sides, mode="bilinear", antialias=True)
    if raw.dtype == torch.uint8 and not is_done:
        smaller = smaller.round().clamp(0, 255).to(torch.uint8)
    return smaller.permute(0, 2, 3, 1).contiguous()
