import torch

from thalweg.observe.instrument import Moment, Reading, instrument
from thalweg.record.quantities import GRADIENT_NORM


@instrument(GRADIENT_NORM)
def gradient_norm(moment: Moment) -> Reading:
    """L2 norm of each weight's gradient as the optimizer saw it, so after any clipping.

    Cost: one read of every gradient.
    """
    held = [
        (name, gradient)
        for name, gradient in zip(moment.names, moment.gradients, strict=True)
        if gradient is not None and gradient.layout == torch.strided
    ]
    if not held:
        return {}
    names, gradients = zip(*held, strict=True)
    return dict(zip(names, torch._foreach_norm(list(gradients)), strict=True))
