from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import GRADIENT_NORM


@instrument(GRADIENT_NORM)
def gradient_norm(moment: Moment) -> Measurements:
    """L2 norm of each weight's gradient as the optimizer saw it, so after any clipping.

    Cost: one read of every gradient.
    """
    return moment.gradient_norms
