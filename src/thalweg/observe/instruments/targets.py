"""The targets of the last batch, or of many samples: their range, and the loss of a constant."""

from collections.abc import Mapping

from torch import Tensor

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.loss_graph import operation_name
from thalweg.record import Quantity
from thalweg.record.quantities import (
    CHANCE_LOSS,
    OUT_OF_REACH,
    TARGET_DISTINCT,
    TARGET_HIGH,
    TARGET_INTEGER,
    TARGET_IS_INDEX,
    TARGET_LOW,
    TARGET_MEAN,
    TARGET_ROW_SUM,
    TARGET_STD,
)

RANGES = {  # of the last operation's output
    "softmax": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, float("inf")),
    "hardtanh": (-1.0, 1.0),
    "softplus": (0.0, float("inf")),
    "logsoftmax": (-float("inf"), 0.0),
}


@instrument(
    TARGET_LOW,
    TARGET_HIGH,
    TARGET_MEAN,
    TARGET_STD,
    TARGET_DISTINCT,
    TARGET_INTEGER,
    TARGET_ROW_SUM,
    TARGET_IS_INDEX,
    OUT_OF_REACH,
    when="loss",
    rare=True,
    repeats_at_end=True,
)
def targets(moment: Moment) -> Mapping[Quantity, Measurements]:
    """The range and kind of the targets, and the share that the outputs cannot reach."""
    compared = _compared_targets(moment)
    if compared is None or compared.numel() == 0 or compared.is_complex():
        return {}
    values = compared.detach().double()
    measured: dict[Quantity, Measurements] = {
        TARGET_LOW: {"": values.min()},
        TARGET_HIGH: {"": values.max()},
        TARGET_MEAN: {"": values.mean()},
        TARGET_STD: {"": values.std() if values.numel() > 1 else 0.0},
        TARGET_DISTINCT: {"": float(len(values.unique()))},
        TARGET_INTEGER: {"": (values == values.round()).double().mean()},
        TARGET_IS_INDEX: {"": float(not compared.is_floating_point())},
    }
    if values.ndim == 2 and values.shape[1] > 1:
        measured[TARGET_ROW_SUM] = {"": values.sum(1).mean()}
    if not compared.is_floating_point():
        measured[OUT_OF_REACH] = {"": 0.0}
    elif moment.forward is not None and moment.forward.output_node is not None:
        operation = operation_name(moment.forward.output_node)
        low, high = RANGES.get(operation, (-float("inf"), float("inf")))
        slack = 1e-6 * max(1.0, float(values.abs().max()))
        outside = (values < low - slack) | (values > high + slack)
        measured[OUT_OF_REACH] = {"": outside.double().mean()}
    return measured


@instrument(CHANCE_LOSS, when="loss", rare=True, repeats_at_end=True)
def chance_loss(moment: Moment) -> Measurements:
    """The loss of the mean target: its variance, or its entropy. Of classes it is known: ln K."""
    compared = _compared_targets(moment)
    graph = moment.graph
    if moment.num_classes or compared is None or not compared.is_floating_point():
        return {}
    if graph is None or graph.composed:  # the other terms' share of the loss is not known
        return {}
    values = compared.detach().double().reshape(len(compared), -1)
    if graph.kind == "mse" and len(values) > 1:
        return {"": values.var(0).mean()}
    if graph.kind in ("bce", "bce_with_logits"):
        share = values.mean(0).clamp(1e-6, 1 - 1e-6)
        return {"": -(share * share.log() + (1 - share) * (1 - share).log()).mean()}
    return {}


def _compared_targets(moment: Moment) -> Tensor | None:
    """The targets of many samples where a loader was passed in, else of the last batch.

    Where the loss function standardises them itself, as it compares them: in the outputs' unit.
    """
    chosen = moment.targets if moment.targets is not None and moment.targets.ndim > 0 else None
    if moment.train is not None and moment.train.targets is not None:
        loaded = moment.train.targets
        if chosen is None or _width(chosen) == _width(loaded):  # else one-hot, or a part of them
            chosen = loaded
    if chosen is None or not chosen.is_floating_point():
        return chosen
    slope, offset = _rescaling(moment)
    return chosen if (slope, offset) == (1.0, 0.0) else slope * chosen.double() + offset


def _width(targets: Tensor) -> int:
    return targets.numel() // max(1, len(targets))


def _rescaling(moment: Moment) -> tuple[float, float]:
    """Slope and offset that the loss function applies to the targets; 1 and 0 without any.

    The last batch's targets as they were passed in, against those read off the gradient.
    """
    passed = moment.targets
    if passed is None or passed.numel() < 2 or not passed.is_floating_point():
        return 1.0, 0.0
    compared = moment.recovered_targets
    if compared is None or compared.numel() != passed.numel():
        return 1.0, 0.0
    before, after = passed.detach().double().flatten(), compared.double().flatten()
    centred = before - before.mean()
    slope = float((centred @ after) / (centred @ centred))  # least squares; NaN for one value
    offset = float(after.mean() - slope * before.mean())
    exact = bool((slope * before + offset - after).abs().max() < 0.01 * after.std())
    moved = bool((before - after).abs().max() > 0.05 * before.std())
    return (slope, offset) if exact and moved else (1.0, 0.0)
