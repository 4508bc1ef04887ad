import torch

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.update_ratio import SMALLEST_NORM
from thalweg.record.quantities import GRADIENT_RATIO


@instrument(GRADIENT_RATIO)
def gradient_ratio(moment: Moment) -> Measurements:
    """Each weight matrix's gradient norm relative to its own norm: comparable across the depth.

    Of large models both norms are of the same evenly spaced entries, as in `update_ratio`.
    Cost: nothing beyond `gradient_norm` and `update_ratio`, which read the same norms.
    """
    gradient_norms, matrix_norms = moment.sampled_gradient_norms, moment.matrix_norms
    names = [name for name in matrix_norms if name in gradient_norms]
    if not names:
        return {}
    sizes = torch._foreach_clamp_min([matrix_norms[name] for name in names], SMALLEST_NORM)
    ratios = torch._foreach_div([gradient_norms[name] for name in names], sizes)
    return dict(zip(names, ratios, strict=True))
