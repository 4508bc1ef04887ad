"""Gradients reach the weights, and updates follow: exact, from identities and flags."""

from collections.abc import Mapping

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record import Quantity
from thalweg.record.quantities import GRADIENT_PRESENT, HELD, LEFTOVER_GRADIENT, MODULE_CALLED


@instrument(LEFTOVER_GRADIENT, when="loss", rare=True)
def leftover_gradient(moment: Moment) -> Measurements:
    """The norm of a weight's gradient when the first new gradient arrived: 0 after a zero_grad.

    The least over all backward passes since the last update, so that intended accumulation, and
    nets that send gradient through each other, count as clean as long as someone clears it.
    """
    return moment.leftover_norms if moment.step > 0 else {}


@instrument(HELD, GRADIENT_PRESENT, MODULE_CALLED, when="loss", rare=True)
def gradient_flow(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Trainable weights that an optimizer holds, those with a gradient, modules that ran."""
    held = held_weights(moment)
    trainable = [(n, w) for n, w in moment.model.named_parameters() if w.requires_grad]
    owners = {n.rpartition(".")[0] for n, _ in trainable}
    return {
        HELD: {name: float(id(weight) in held) for name, weight in trainable},
        GRADIENT_PRESENT: {n: float(n in moment.leftover_norms) for n, _ in trainable}
        if moment.leftover_norms
        else {},
        MODULE_CALLED: {n: float(n in moment.called) for n in owners} if moment.called else {},
    }


def held_weights(moment: Moment) -> set[int]:
    """The ids of all tensors in the optimizers' groups."""
    return {id(w) for o in moment.optimizers for group in o.param_groups for w in group["params"]}
