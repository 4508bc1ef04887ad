"""Draw the filters of a network's first convolution. For experiments: no command uses it yet."""

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from thalweg.errors import UsageError

GREY, BORDER = 128, 255


def filter_grid(model: nn.Module, *, columns: int = 8) -> UInt8[Tensor, "y x channel"]:
    """Lay the first convolution's filters side by side; each one's largest weight is 0 or 255.

    A weight of 0 is mid-grey. Filters of a trained network show edges and colours; noisy ones
    show that it was not trained, or not regularised (Zeiler & Fergus 2014, arXiv:1311.2901).
    Raises: UsageError for a model without a convolution of pixels.
    """
    filters = (m.weight for m in model.modules() if isinstance(m, nn.Conv2d))
    weights = next((w.detach() for w in filters if w.shape[1] in (1, 3)), None)
    if weights is None:
        raise UsageError(
            "the model has no convolution of 1 or 3 channels",
            seen=type(model).__name__,
            fix="a network that reads images",
        )
    largest = weights.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    pictures = (GREY + (weights / largest) * 127.5).round().clamp(0, 255).to(torch.uint8)
    count, channels, height, width = pictures.shape
    rows = -(-count // columns)
    shape = (rows * (height + 1) + 1, columns * (width + 1) + 1, channels)
    grid = torch.full(shape, BORDER, dtype=torch.uint8)
    for index, picture in enumerate(pictures.cpu()):
        top = index // columns * (height + 1) + 1
        left = index % columns * (width + 1) + 1
        grid[top : top + height, left : left + width] = picture.permute(1, 2, 0)
    return grid
