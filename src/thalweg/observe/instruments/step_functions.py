"""Weights that only zeros can reach, since a step function stands between them and the loss."""

from collections.abc import Mapping

from thalweg.observe.bare_copy import named_weights
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.zero_slopes import leaves_behind_steps
from thalweg.record import Quantity
from thalweg.record.quantities import BEHIND_STEP, STEP_FUNCTION

READINGS = 3  # the graph seldom changes later


@instrument(BEHIND_STEP, STEP_FUNCTION, when="loss", rare=True)
def step_functions(moment: Moment) -> Mapping[Quantity, Measurements]:
    """1 for each weight of the graph behind round, sign or floor alone, 0 for "none".

    Exact, from the graph. Cost: some microseconds a node, at three readings.
    """
    if len(moment.history.series(BEHIND_STEP, "none")) >= READINGS:
        return {}
    behind = leaves_behind_steps(moment.loss)
    if behind is None:
        return {}
    steps = {id(leaf): step for leaf, step in behind}
    names = {name: steps[id(w)] for name, w in named_weights(moment.model) if id(w) in steps}
    return {
        BEHIND_STEP: {"none": float(not names)} | dict.fromkeys(names, 1.0),
        STEP_FUNCTION: dict.fromkeys(names.values(), 1.0),
    }
