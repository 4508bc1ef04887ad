import torch

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import INPUT_NOT_FINITE

AT_ONCE = 16  # samples: a copy of all of them would be memory that nothing has used yet


@instrument(INPUT_NOT_FINITE, when="samples")
def nonfinite_inputs(moment: Moment) -> Measurements:
    """The share of input numbers that are NaN or infinite."""
    if moment.train is None or not moment.train.inputs.is_floating_point():
        return {}
    inputs = moment.train.inputs
    finite = sum(part.isfinite().count_nonzero() for part in inputs.split(AT_ONCE))
    return {"": 1 - torch.as_tensor(finite).double() / inputs.numel()}
