import torch

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import UPDATE_RATIO

SMALLEST_NORM = 1e-12  # keeps a zeroed tensor from dividing by zero


@instrument(UPDATE_RATIO, keeps_weights=True)
def update_ratio(moment: Moment) -> Measurements:
    """Size of the update of each weight matrix, relative to the matrix's own norm.

    Aim for 1e-3. Biases and norms are left out: they start at 0 or 1, where a ratio says nothing.
    Source: Stanford CS231n notes, "Ratio of weights:updates".
    Cost: two reads of every weight and one copy.
    """
    matrices = [i for i, weight in enumerate(moment.weights) if weight.ndim >= 2]
    if not matrices:
        return {}
    before = [moment.weights_before[i] for i in matrices]
    after = [moment.weights[i] for i in matrices]
    names = [moment.names[i] for i in matrices]
    updates = torch._foreach_norm(torch._foreach_sub(after, before))
    sizes = torch._foreach_clamp_min([moment.matrix_norms[name] for name in names], SMALLEST_NORM)
    return dict(zip(names, torch._foreach_div(updates, sizes), strict=True))
