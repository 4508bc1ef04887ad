import torch

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.spaced_entries import norms
from thalweg.record.quantities import UPDATE_RATIO

SMALLEST_NORM = 1e-12  # keeps a zeroed tensor from dividing by zero


@instrument(UPDATE_RATIO, keeps_weights=True)
def update_ratio(moment: Moment) -> Measurements:
    """Size of the update of each weight matrix, relative to the matrix's own norm.

    Aim for 1e-3. Biases and norms are left out: they start at 0 or 1, where a ratio says nothing.
    Source: Stanford CS231n notes, "Ratio of weights:updates".
    Of large models evenly spaced entries of each matrix, before and after.
    Cost: two reads and one copy of at most 8 MiB.
    """
    matrices = [i for i, weight in enumerate(moment.weights) if weight.ndim >= 2]
    if not matrices:
        return {}
    before, after = moment.weights_before, moment.weights_after
    names = [moment.names[i] for i in matrices]
    updates = norms(torch._foreach_sub([after[i] for i in matrices], [before[i] for i in matrices]))
    sizes = torch._foreach_clamp_min([moment.matrix_norms[name] for name in names], SMALLEST_NORM)
    return dict(zip(names, torch._foreach_div(updates, sizes), strict=True))
