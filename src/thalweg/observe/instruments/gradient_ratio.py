import torch

from thalweg.observe.instrument import Moment, Reading, instrument
from thalweg.observe.instruments.update_ratio import SMALLEST_NORM
from thalweg.record.quantities import GRADIENT_RATIO


@instrument(GRADIENT_RATIO)
def gradient_ratio(moment: Moment) -> Reading:
    """Each weight matrix's gradient norm relative to its own norm: comparable across the depth.

    Cost: nothing beyond `gradient_norm` and `update_ratio`, which read the same norms.
    """
    norms, sizes = moment.gradient_norms, moment.matrix_norms
    names = [name for name in sizes if name in norms]
    if not names:
        return {}
    weights = torch._foreach_clamp_min([sizes[name] for name in names], SMALLEST_NORM)
    ratios = torch._foreach_div([norms[name] for name in names], weights)
    return dict(zip(names, ratios, strict=True))
