from math import isfinite

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.activations import probe_arguments
from thalweg.observe.nan_origin import nan_origin
from thalweg.record.quantities import LOSS, NAN_ORIGIN


@instrument(NAN_ORIGIN, when="end")
def first_nan(moment: Moment) -> Measurements:
    """The operation in the model that makes the first NaN, where the loss became one.

    Cost: nothing for a finite run; else a pass of a copy of at most 512 samples, and its weights.
    """
    losses = moment.history.series(LOSS)
    if not losses:
        return {}
    if all(map(isfinite, losses.values())):
        return {"": 0.0}
    arguments = probe_arguments(moment)
    if arguments is None:
        return {}
    inputs, keywords, _ = arguments
    with moment.autocast():
        origin = nan_origin(moment.model, inputs, keywords)
    return {"": 0.0} if origin is None else dict([origin])
