from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import GRADIENT_NORM


@instrument(GRADIENT_NORM)
def gradient_norm(moment: Moment) -> Measurements:
    """L2 norm of each weight's gradient as the optimizer saw it, so after any clipping.

    Of a sharded weight the norm of this rank's shard, times √(whole / shard): no rank waits.
    Cost: one read of every gradient.
    """
    norms = moment.gradient_norms
    factors = zip(moment.names, moment.norm_factors, strict=True)
    return norms | {n: norms[n] * factor for n, factor in factors if factor != 1 and n in norms}
