"""What the model gives, what is wanted of it, and which loss stands between the two."""

from collections.abc import Mapping

import torch
from torch import Tensor

from thalweg.observe.instrument import Moment, Reading, instrument, survey
from thalweg.observe.loss_graph import LossGraph, made_by
from thalweg.observe.recovered_targets import recovered_targets
from thalweg.record import Quantity
from thalweg.record.quantities import (
    BATCH_SIZE,
    BROADCAST_LOSS,
    CHANCE_LOSS,
    LOSS_INPUT,
    LOSS_KIND,
    OUT_OF_REACH,
    OUTPUT_ACTIVATION,
    OUTPUT_HIGH,
    OUTPUT_LOW,
    OUTPUT_ROW_SUM_ERROR,
    OUTPUT_WIDTH,
    SUMMED_LOSS,
    TARGET_DISTINCT,
    TARGET_HIGH,
    TARGET_INTEGER,
    TARGET_IS_INDEX,
    TARGET_LOW,
    TARGET_MEAN,
    TARGET_ROW_SUM,
    TARGET_STD,
)

REACH = {  # what the last operation can give
    "softmax": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, float("inf")),
    "hardtanh": (-1.0, 1.0),
    "softplus": (0.0, float("inf")),
    "logsoftmax": (-float("inf"), 0.0),
}


@survey(
    LOSS_KIND,
    LOSS_INPUT,
    OUTPUT_ACTIVATION,
    SUMMED_LOSS,
    BROADCAST_LOSS,
    BATCH_SIZE,
    when="loss",
    rare=True,
    again=True,
)
def loss_function(moment: Moment) -> Mapping[Quantity, Reading]:
    """Which loss, on what, reduced how: read off the graph."""
    ended_in = None if moment.last is None else moment.last.ended_in
    found = moment.graph
    seen: dict[Quantity, Reading] = {}
    if ended_in is not None:
        seen[OUTPUT_ACTIVATION] = {made_by(ended_in) or "none": 1.0}
    if found is not None:
        seen[LOSS_KIND] = {found.kind or "unknown": 1.0}
        seen[LOSS_INPUT] = {found.applied_to or "none": 1.0}
        seen[SUMMED_LOSS] = {"": float(found.summed)}
        seen[BROADCAST_LOSS] = {"": float(_broadcast(found, moment))}
    size = _batch_size(moment)
    if size:
        seen[BATCH_SIZE] = {"": float(size)}
    return seen


def _broadcast(found: LossGraph, moment: Moment) -> bool:
    """Also where the graph does not show it: shapes of N and N×1 in an elementwise loss."""
    if found.broadcast:
        return True
    output, targets = moment.logits, moment.targets
    if output is not None and targets is not None and output.shape == targets.shape:
        return False
    if output is not None and moment.train is not None and moment.train.targets is not None:
        targets = moment.train.targets[: len(output)]
    if found.kind not in ("mse", "l1", "smooth_l1") or output is None or targets is None:
        return False
    if found.reshaped:  # the loss function squeezed the N×1 itself, and an expansion would show
        return False
    return output.shape != targets.shape and output.numel() == targets.numel() > 1


def _batch_size(moment: Moment) -> int:
    first = moment.logits if moment.logits is not None else None
    if first is None and moment.last is not None:
        first = moment.last.first_input
    return len(first) if first is not None and first.ndim > 0 else 0


@survey(
    OUTPUT_WIDTH,
    OUTPUT_ROW_SUM_ERROR,
    OUTPUT_LOW,
    OUTPUT_HIGH,
    when="loss",
    rare=True,
)
def outputs(moment: Moment) -> Mapping[Quantity, Reading]:
    """The range of the last batch's outputs, whether rows are probabilities."""
    output = moment.logits
    if output is None or output.ndim == 0 or not output.is_floating_point():
        return {}
    rows = output.float().reshape(len(output), -1) if output.ndim < 3 else _rows(output)
    seen: dict[Quantity, Reading] = {
        OUTPUT_WIDTH: {"": float(rows.shape[1])},
        OUTPUT_LOW: {"": rows.min()},
        OUTPUT_HIGH: {"": rows.max()},
    }
    if rows.shape[1] > 1:
        negative = (rows < 0).any()
        error = (rows.sum(1) - 1).abs().max()
        seen[OUTPUT_ROW_SUM_ERROR] = {"": torch.where(negative, torch.inf, error)}
    return seen


def _rows(output: Tensor) -> Tensor:
    """One row a prediction: classes are dimension 1 of images, the last one of sequences."""
    if output.ndim >= 4:
        output = output.movedim(1, -1)
    return output.float().reshape(-1, output.shape[-1])


@survey(
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
    again=True,
)
def targets(moment: Moment) -> Mapping[Quantity, Reading]:
    """The range and kind of the targets, and whether the outputs can reach them."""
    wanted = _wanted(moment)
    if wanted is None or wanted.numel() == 0 or wanted.is_complex():
        return {}
    values = wanted.detach().double()
    seen: dict[Quantity, Reading] = {
        TARGET_LOW: {"": values.min()},
        TARGET_HIGH: {"": values.max()},
        TARGET_MEAN: {"": values.mean()},
        TARGET_STD: {"": values.std() if values.numel() > 1 else 0.0},
        TARGET_DISTINCT: {"": float(len(values.unique()))},
        TARGET_INTEGER: {"": (values == values.round()).double().mean()},
        TARGET_IS_INDEX: {"": float(not wanted.is_floating_point())},
    }
    if values.ndim == 2 and values.shape[1] > 1:
        seen[TARGET_ROW_SUM] = {"": values.sum(1).mean()}
    if not wanted.is_floating_point():
        seen[OUT_OF_REACH] = {"": 0.0}
    elif moment.last is not None and moment.last.ended_in is not None:
        low, high = REACH.get(made_by(moment.last.ended_in), (-float("inf"), float("inf")))
        slack = 1e-6 * max(1.0, float(values.abs().max()))
        outside = (values < low - slack) | (values > high + slack)
        seen[OUT_OF_REACH] = {"": outside.double().mean()}
    return seen


@instrument(CHANCE_LOSS, when="loss", rare=True, again=True)
def chance_loss(moment: Moment) -> Reading:
    """What knowing only the mean target scores: its variance, or its entropy. Of classes: told."""
    wanted = _wanted(moment)
    graph = moment.graph
    if moment.num_classes or wanted is None or not wanted.is_floating_point():
        return {}
    if graph is None or graph.composed:  # what the other terms score is not known
        return {}
    values = wanted.detach().double().reshape(len(wanted), -1)
    if graph.kind == "mse" and len(values) > 1:
        return {"": values.var(0).mean()}
    if graph.kind in ("bce", "bce_with_logits"):
        share = values.mean(0).clamp(1e-6, 1 - 1e-6)
        return {"": -(share * share.log() + (1 - share) * (1 - share).log()).mean()}
    return {}


def _wanted(moment: Moment) -> Tensor | None:
    """The targets of many samples where a loader was passed in, else of the last batch.

    Where the loss function standardises them itself, as it compares them: in the outputs' unit.
    """
    wanted = moment.targets if moment.targets is not None and moment.targets.ndim > 0 else None
    if moment.train is not None and moment.train.targets is not None:
        given = moment.train.targets
        if wanted is None or _width(wanted) == _width(given):  # else one-hot, or a part of them
            wanted = given
    if wanted is None or not wanted.is_floating_point():
        return wanted
    slope, offset = _rescaling(moment)
    return wanted if (slope, offset) == (1.0, 0.0) else slope * wanted.double() + offset


def _width(targets: Tensor) -> int:
    return targets.numel() // max(1, len(targets))


def _rescaling(moment: Moment) -> tuple[float, float]:
    """Slope and offset that the loss function puts on the targets; 1 and 0 where it leaves them.

    The last batch's targets as they were passed in, against those read off the gradient.
    """
    given = moment.targets
    if given is None or given.numel() < 2 or not given.is_floating_point():
        return 1.0, 0.0
    seen = recovered_targets(moment.last, moment.graph, moment.loss)
    if seen is None or seen.numel() != given.numel():
        return 1.0, 0.0
    before, after = given.detach().double().flatten(), seen.double().flatten()
    centred = before - before.mean()
    slope = float((centred @ after) / (centred @ centred))  # least squares; NaN for one value
    offset = float(after.mean() - slope * before.mean())
    exact = bool((slope * before + offset - after).abs().max() < 0.01 * after.std())
    moved = bool((before - after).abs().max() > 0.05 * before.std())
    return (slope, offset) if exact and moved else (1.0, 0.0)
