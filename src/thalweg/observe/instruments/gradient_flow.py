"""Gradients reach the weights, and updates follow: exact, from identities and flags."""

from collections.abc import Mapping

from torch import Tensor, nn

from thalweg.observe.bare_copy import named_weights
from thalweg.observe.graph_walk import walk_graph
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.local_shard import local_part
from thalweg.record import Quantity
from thalweg.record.quantities import (
    CLEARED_PASSES,
    GRADIENT_AT_UPDATE,
    GRADIENT_PRESENT,
    HELD,
    LEFTOVER_GRADIENT,
    MODULE_CALLED,
)


@instrument(LEFTOVER_GRADIENT, when="loss", rare=True)
def leftover_gradient(moment: Moment) -> Measurements:
    """The norm of a weight's gradient when the first new gradient arrived: 0 after a zero_grad.

    The least over all backward passes since the last update, so that intended accumulation, and
    nets that send gradient through each other, count as clean as long as someone clears it.
    """
    return moment.leftover_norms if moment.step > 0 else {}


@instrument(CLEARED_PASSES, when="loss", rare=True)
def cleared_passes(moment: Moment) -> Measurements:
    """Share of an update's later backward passes that met no gradient of the earlier ones.

    Nothing for a loss that goes through another network as well, or whose graph is not at hand: a
    pass of a discriminator's loss may leave gradient in a generator, which is cleared on purpose.
    """
    cleared = moment.passes.cleared if moment.counts_passes else None
    walk = None if cleared is None else walk_graph(moment.loss)
    if cleared is None or walk is None or not walk.complete:
        return {}
    own = {id(weight) for weight in moment.model.parameters()} | held_weights(moment)
    others = [
        leaf for leaf in walk.leaves if isinstance(leaf, nn.Parameter) and id(leaf) not in own
    ]
    return {} if others else {"": cleared}


@instrument(GRADIENT_AT_UPDATE)
def gradient_at_update(moment: Moment) -> Measurements:
    """1 for each weight that had a gradient other than zero when the optimizer made its update.

    Nothing where the update was seen from outside: by then the gradient may have been cleared.
    """
    if not moment.in_update:
        return {}
    measured: dict[str, Tensor | float] = {
        name: float(gradient is not None)
        for name, gradient in zip(moment.names, moment.gradients, strict=True)
    }
    return measured | {name: (norm != 0).float() for name, norm in moment.gradient_norms.items()}


@instrument(HELD, GRADIENT_PRESENT, MODULE_CALLED, when="loss", rare=True)
def gradient_flow(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Trainable weights that an optimizer holds, those with a gradient, modules that ran.

    Of weights that ask for gradient by turns, as those of two players, a step shows nothing.
    """
    held, before = held_weights(moment), moment.trainable
    named = [(n, w) for n, w in named_weights(moment.model) if _is_trainable(w)]
    trainable = [(n, w) for n, w in named if before is None or n in before]
    owners = {n.rpartition(".")[0] for n, _ in trainable}
    return {
        HELD: {name: float(id(weight) in held) for name, weight in trainable},
        GRADIENT_PRESENT: {}
        if moment.arrived is None
        else {n: float(n in moment.arrived) for n, w in trainable if local_part(w).numel()},
        MODULE_CALLED: {n: float(n in moment.called) for n in owners} if moment.called else {},
    }


def _is_trainable(weight: Tensor) -> bool:
    """False for the empty shells of an ensemble, and where other ranks hold all of a weight."""
    return weight.requires_grad and not weight.is_meta and local_part(weight).numel() > 0


def held_weights(moment: Moment) -> set[int]:
    """The ids of all tensors in the optimizers' groups."""
    return {id(w) for o in moment.optimizers for group in o.param_groups for w in group["params"]}
