"""The likeliest class number of each prediction, as the gradient at its logits shows it."""

import torch
from torch import Tensor

IGNORED = -100  # in place of a target that the loss left out


def lowest_entries(gradient: Tensor, axis: int) -> Tensor:
    """The index of the lowest entry along a dimension; IGNORED where all entries are zero.

    Reduced sample by sample, without a temporary of the size of the gradient.
    """
    axis = axis % gradient.ndim - 1
    rows = []
    for sample in gradient:
        low, high = torch.aminmax(sample, dim=axis)
        rows.append(torch.where((low == 0) & (high == 0), IGNORED, sample.argmin(axis)))
    shape = gradient.shape[1 : axis + 1] + gradient.shape[axis + 2 :]
    return torch.stack(rows) if rows else torch.empty((0, *shape), dtype=torch.long)
