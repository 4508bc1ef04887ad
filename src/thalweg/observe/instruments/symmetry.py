"""Weights that cannot learn different things because they are all the same."""

from collections.abc import Mapping

import torch

from thalweg.observe.instrument import Moment, Reading, survey
from thalweg.record import Quantity
from thalweg.record.quantities import CONSTANT_WEIGHT, IDENTICAL_ROWS

SAME = 1e-6  # relative; float32 has 1e-7


@survey(IDENTICAL_ROWS, CONSTANT_WEIGHT, when="probe")
def symmetry(moment: Moment) -> Mapping[Quantity, Reading]:
    """For each weight matrix: are its rows all equal, and are its entries. Cost: one read each."""
    matrices = [
        (name, weight.detach())
        for name, weight in moment.model.named_parameters()
        if weight.ndim >= 2 and len(weight) > 1 and not weight.is_sparse
    ]
    same, constant = {}, {}
    for name, weight in matrices:
        low, high = weight.aminmax(dim=0)  # over rows: all else is of one row's size
        size = torch.maximum(low.abs(), high.abs()).max()
        apart = torch.maximum(high - weight[0], weight[0] - low).max()
        same[name] = (apart <= SAME * size).float()
        constant[name] = size * ((high.max() - low.min()) <= SAME * size).float()
    return {IDENTICAL_ROWS: same, CONSTANT_WEIGHT: constant}
