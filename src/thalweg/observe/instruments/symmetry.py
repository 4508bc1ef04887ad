from collections.abc import Mapping

import torch

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record import Quantity
from thalweg.record.quantities import CONSTANT_WEIGHT, IDENTICAL_ROWS

TOLERANCE = 1e-6  # relative; float32 has 1e-7


@instrument(IDENTICAL_ROWS, CONSTANT_WEIGHT, when="probe")
def symmetry(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Weight matrices with equal rows, or with equal entries, which cannot learn to differ.

    Cost: one read of every matrix.
    """
    matrices = [
        (name, weight.detach())
        for name, weight in moment.model.named_parameters()
        if weight.ndim >= 2 and len(weight) > 1 and not weight.is_sparse
    ]
    identical, constant = {}, {}
    for name, weight in matrices:
        low, high = weight.aminmax(dim=0)  # over rows: all else is of one row's size
        size = torch.maximum(low.abs(), high.abs()).max()
        apart = torch.maximum(high - weight[0], weight[0] - low).max()
        identical[name] = (apart <= TOLERANCE * size).float()
        constant[name] = size * ((high.max() - low.min()) <= TOLERANCE * size).float()
    return {IDENTICAL_ROWS: identical, CONSTANT_WEIGHT: constant}
