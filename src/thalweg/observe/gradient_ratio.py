import torch

from thalweg.observe.instrument import Moment, Reading, instrument
from thalweg.observe.update_ratio import SMALLEST_NORM
from thalweg.record.quantities import GRADIENT_RATIO


@instrument(GRADIENT_RATIO)
def gradient_ratio(moment: Moment) -> Reading:
    """Each weight matrix's gradient norm relative to its own norm: comparable across the depth.

    Cost: one read of every weight and gradient.
    """
    held = [
        (name, weight, gradient)
        for name, weight, gradient in zip(
            moment.names, moment.weights, moment.gradients, strict=True
        )
        if weight.ndim >= 2 and gradient is not None and gradient.layout == torch.strided
    ]
    if not held:
        return {}
    names, weights, gradients = zip(*held, strict=True)
    norms = torch._foreach_norm(list(weights))
    torch._foreach_clamp_min_(norms, SMALLEST_NORM)
    ratios = torch._foreach_div(torch._foreach_norm(list(gradients)), norms)
    return dict(zip(names, ratios, strict=True))
