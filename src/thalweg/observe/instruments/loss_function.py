from collections.abc import Mapping

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.loss_arguments import loss_arguments
from thalweg.observe.loss_graph import LossGraph, label_smoothing
from thalweg.observe.reduced_batch import function_of_reduced_batch
from thalweg.record import Quantity
from thalweg.record.quantities import (
    BARE_LOSS,
    BATCH_SIZE,
    BROADCAST_LOSS,
    LABEL_SMOOTHING,
    LOSS_ARGUMENT,
    LOSS_INPUT,
    LOSS_KIND,
    OUTPUT_ACTIVATION,
    REDUCED_BATCH,
    SUMMED_LOSS,
)


@instrument(
    LOSS_KIND,
    LOSS_INPUT,
    LABEL_SMOOTHING,
    LOSS_ARGUMENT,
    OUTPUT_ACTIVATION,
    SUMMED_LOSS,
    BROADCAST_LOSS,
    REDUCED_BATCH,
    BARE_LOSS,
    BATCH_SIZE,
    when="loss",
    rare=True,
    repeats_at_end=True,
)
def loss_function(moment: Moment) -> Mapping[Quantity, Measurements]:
    """The loss function, its input and its reduction, read off the graph."""
    operation = None if moment.forward is None else moment.forward.output_operation
    graph = moment.graph
    measured: dict[Quantity, Measurements] = {}
    if operation is not None:
        measured[OUTPUT_ACTIVATION] = {operation or "none": 1.0}
    if graph is not None:
        measured[LOSS_KIND] = {graph.kind or "unknown": 1.0}
        measured[LOSS_INPUT] = {graph.applied_to or "none": 1.0}
        node = None if moment.forward is None else moment.forward.output_node
        arguments = loss_arguments(moment.loss, node)
        measured[LOSS_ARGUMENT] = dict.fromkeys(arguments, 1.0)
        if moment.loss is not None:
            function = function_of_reduced_batch(moment.loss, moment.batch_size)
            measured[REDUCED_BATCH] = {function or "none": 1.0}
            measured[LABEL_SMOOTHING] = {"": label_smoothing(moment.loss, node)}
        measured[BARE_LOSS] = {"": float(graph.bare)}
        measured[SUMMED_LOSS] = {"": float(_is_summed(graph, moment.batch_size))}
        measured[BROADCAST_LOSS] = {"": float(_is_broadcast(graph, moment))}
    if moment.batch_size:
        measured[BATCH_SIZE] = {"": float(moment.batch_size)}
    return measured


def _is_summed(graph: LossGraph, batch_size: int) -> bool:
    """False for a sum of a few tasks' mean losses: fewer numbers than samples."""
    return graph.summed and not 0 < graph.summed_entries < batch_size


def _is_broadcast(graph: LossGraph, moment: Moment) -> bool:
    """True also where the graph does not show it: shapes N and N×1 in an elementwise loss."""
    if graph.broadcast:
        return True
    output, targets = moment.logits, moment.targets
    if output is not None and targets is not None and output.shape == targets.shape:
        return False
    if output is not None and moment.train is not None and moment.train.targets is not None:
        targets = moment.train.targets[: len(output)]
    if graph.kind not in ("mse", "l1", "smooth_l1") or output is None or targets is None:
        return False
    if graph.reshaped:  # the loss function squeezed the N×1 itself, and an expansion would show
        return False
    return output.shape != targets.shape and output.numel() == targets.numel() > 1
