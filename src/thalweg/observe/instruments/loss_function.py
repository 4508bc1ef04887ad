from collections.abc import Mapping

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.loss_graph import LossGraph, operation_name
from thalweg.record import Quantity
from thalweg.record.quantities import (
    BATCH_SIZE,
    BROADCAST_LOSS,
    LOSS_INPUT,
    LOSS_KIND,
    OUTPUT_ACTIVATION,
    SUMMED_LOSS,
)


@instrument(
    LOSS_KIND,
    LOSS_INPUT,
    OUTPUT_ACTIVATION,
    SUMMED_LOSS,
    BROADCAST_LOSS,
    BATCH_SIZE,
    when="loss",
    rare=True,
    repeats_at_end=True,
)
def loss_function(moment: Moment) -> Mapping[Quantity, Measurements]:
    """The loss function, its input and its reduction, read off the graph."""
    output_node = None if moment.forward is None else moment.forward.output_node
    graph = moment.graph
    measured: dict[Quantity, Measurements] = {}
    if output_node is not None:
        measured[OUTPUT_ACTIVATION] = {operation_name(output_node) or "none": 1.0}
    if graph is not None:
        measured[LOSS_KIND] = {graph.kind or "unknown": 1.0}
        measured[LOSS_INPUT] = {graph.applied_to or "none": 1.0}
        measured[SUMMED_LOSS] = {"": float(graph.summed)}
        measured[BROADCAST_LOSS] = {"": float(_is_broadcast(graph, moment))}
    batch_size = _batch_size(moment)
    if batch_size:
        measured[BATCH_SIZE] = {"": float(batch_size)}
    return measured


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


def _batch_size(moment: Moment) -> int:
    tensor = moment.logits
    if tensor is None and moment.forward is not None:
        tensor = moment.forward.first_input
    return len(tensor) if tensor is not None and tensor.ndim > 0 else 0
