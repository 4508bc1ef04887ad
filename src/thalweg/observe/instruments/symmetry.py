from collections.abc import Mapping

import torch
from torch import Tensor

from thalweg.observe.bare_copy import named_weights
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.local_shard import local_part
from thalweg.observe.readable_weight import is_readable
from thalweg.record import Quantity
from thalweg.record.quantities import CONSTANT_WEIGHT, IDENTICAL_ROWS

TOLERANCE = 1e-6  # relative; float32 has 1e-7
MOST_NUMBERS = 2**20  # of a matrix
LEAST_ROWS = 64


@instrument(IDENTICAL_ROWS, CONSTANT_WEIGHT, when="probe")
def symmetry(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Weight matrices with equal rows, or with equal entries, which cannot learn to differ.

    Of a sharded one this rank's rows, of a large one evenly spaced rows. Cost: one read of at most
    a million numbers of each matrix.
    """
    parameters = [(n, w) for n, w in named_weights(moment.model) if is_readable(w)]
    matrices = [
        (name, _spaced_rows(part))
        for name, weight in parameters
        if (part := local_part(weight).detach()).ndim >= 2
        and len(part) > 1
        and part.is_floating_point()  # complex numbers have no order
    ]
    identical, constant = {}, {}
    for name, weight in matrices:
        low, high = weight.aminmax(dim=0)  # over rows: all else is of one row's size
        size = torch.maximum(low.abs(), high.abs()).max()
        apart = torch.maximum(high - weight[0], weight[0] - low).max()
        identical[name] = (apart <= TOLERANCE * size).float()
        constant[name] = size * ((high.max() - low.min()) <= TOLERANCE * size).float()
    return {IDENTICAL_ROWS: identical, CONSTANT_WEIGHT: constant}


def _spaced_rows(weight: Tensor) -> Tensor:
    """Whole rows: equal ones are equal in every column. An odd stride, as parts repeat evenly."""
    excess = weight.numel() // MOST_NUMBERS
    return weight[:: min(excess, max(1, len(weight) // LEAST_ROWS)) | 1]
