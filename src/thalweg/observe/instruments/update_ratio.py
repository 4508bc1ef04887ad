import torch

from thalweg.observe.instrument import Moment, Reading, instrument
from thalweg.record.quantities import UPDATE_RATIO

SMALLEST_NORM = 1e-12  # keeps a zeroed tensor from dividing by zero


@instrument(UPDATE_RATIO, keeps_weights=True)
def update_ratio(moment: Moment) -> Reading:
    """How far the update moved each weight matrix, relative to the matrix's own norm.

    Aim for 1e-3. Biases and norms are left out: they start at 0 or 1, where a ratio says nothing.
    Source: Stanford CS231n notes, "Ratio of weights:updates".
    Cost: two reads of every weight and one copy.
    """
    chosen = [i for i, weight in enumerate(moment.weights) if weight.ndim >= 2]
    if not chosen:
        return {}
    before = [moment.before[i] for i in chosen]
    names = [moment.names[i] for i in chosen]
    moved = torch._foreach_norm(torch._foreach_sub([moment.weights[i] for i in chosen], before))
    norms = torch._foreach_clamp_min([moment.matrix_norms[name] for name in names], SMALLEST_NORM)
    return dict(zip(names, torch._foreach_div(moved, norms), strict=True))
