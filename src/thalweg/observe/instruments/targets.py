"""The targets of the last batch, or of many samples: their range, and the loss of a constant."""

from collections.abc import Mapping
from math import inf

import torch
from torch import Tensor

from thalweg.observe.compared_targets import numbers_within
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.lowest_entries import IGNORED
from thalweg.observe.targets_from_gradient import ENTROPY_KINDS, lowest_classes
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
    TARGETS_COMPARED,
)

FEW_VALUES = 64  # of labels that are classes, bits or ratings
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
    TARGETS_COMPARED,
    when="loss",
    rare=True,
    repeats_at_end=True,
)
def targets(moment: Moment) -> Mapping[Quantity, Measurements]:
    """The range and kind of the targets, and the share that the outputs cannot reach."""
    verdicts = {"batch": moment.comparison.labels_agree, "loader": _loader_agrees(moment)}
    agreement = {who: float(agree) for who, agree in verdicts.items() if agree is not None}
    measured: dict[Quantity, Measurements] = {TARGETS_COMPARED: agreement} if agreement else {}
    compared = _compared_targets(moment)
    if compared is None or compared.numel() == 0 or compared.is_complex():
        return measured
    return measured | _statistics(moment, compared)


def _statistics(moment: Moment, compared: Tensor) -> dict[Quantity, Measurements]:
    values = compared.detach().double()
    counted = compared != IGNORED if not compared.is_floating_point() else values == values
    count, zero = counted.sum().clamp_min(1), values.new_zeros(())
    mean = torch.where(counted, values, zero).sum() / count
    spread = torch.where(counted, values - mean, zero).square().sum()
    distinct = len(compared.unique()) - (~counted).any().double()
    measured: dict[Quantity, Measurements] = {
        TARGET_LOW: {"": torch.where(counted, values, inf).min()},
        TARGET_HIGH: {"": torch.where(counted, values, -inf).max()},
        TARGET_MEAN: {"": mean},
        TARGET_STD: {"": (spread / (count - 1).clamp_min(1)).sqrt()},
        TARGET_DISTINCT: {"": distinct},
        TARGET_INTEGER: {"": ((values == values.round()) | ~counted).double().mean()},
        TARGET_IS_INDEX: {"": float(not compared.is_floating_point())},
    }
    if values.ndim == 2 and values.shape[1] > 1 and compared.is_floating_point():
        measured[TARGET_ROW_SUM] = {"": float(values.sum(1).mean())}
    if not compared.is_floating_point():
        measured[OUT_OF_REACH] = {"": 0.0}
    elif moment.forward is not None and moment.forward.output_operation is not None:
        operation = moment.forward.output_operation
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
    if compared is None or not compared.is_floating_point() or not compared.ndim:
        return {}
    if moment.num_classes:
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
    """The targets of many samples where a loader yields what the loss compares, else the batch's.

    Where the loss function standardises them itself, as it compares them: in the outputs' unit.
    None where it is not known what the loss compares.
    """
    compared = moment.comparison.targets
    loaded = None if moment.train is None else moment.train.targets
    if loaded is None or not _loader_agrees(moment):
        return compared
    if compared is None:
        return loaded
    if _width(compared) != _width(loaded):  # one-hot, or a part of them
        return compared
    entropy = moment.graph is not None and moment.graph.kind in ENTROPY_KINDS
    if entropy:  # bits that were counted as probabilities, or class numbers
        rows = loaded.to(compared.dtype)
        output = None if moment.forward is None else moment.forward.output
        return rows if output is None else numbers_within(rows, output)
    if not loaded.is_floating_point() or _are_alike(compared, loaded):
        return loaded
    slope, offset = _rescaling(moment)
    return compared if (slope, offset) == (1.0, 0.0) else slope * loaded.double() + offset


def _loader_agrees(moment: Moment) -> bool | None:
    """True if the loader's labels are what the loss compares; None where it is not known."""
    labels, loaded = moment.batch_targets, None if moment.train is None else moment.train.targets
    compared, agree = moment.comparison
    if loaded is None:
        return None
    if labels is not None:
        same_kind = labels.is_floating_point() == loaded.is_floating_point()
        return agree if same_kind and _width(labels) == _width(loaded) else None
    if compared is None:
        compared = lowest_classes(moment.forward, moment.graph)
    return None if compared is None else _are_alike(compared, loaded)


def _are_alike(compared: Tensor, loaded: Tensor) -> bool | None:
    """True if a batch's targets look drawn from the loader's; None if that cannot be told."""
    if compared.ndim == 2 and compared.shape[1] > 1 == _width(loaded):
        one_hot = bool((compared.sum(1) == 1).all()) and bool((compared.max(1).values == 1).all())
        if not one_hot:
            return False
        compared = compared.argmax(1)
    if _width(compared) != _width(loaded):
        return False
    batch, split = compared.detach().cpu().double().flatten(), loaded.double().flatten()
    batch, split = batch[batch != IGNORED], split[split != IGNORED]
    if not len(batch) or not len(split):
        return False
    values, counts = split.unique(return_counts=True)
    if len(values) > min(FEW_VALUES, len(split) / 4):
        slack = 0.1 * float(values[-1] - values[0])
        within = values[0] - slack <= batch.min() and batch.max() <= values[-1] + slack
        spread = float(batch.std() / split.std()) if len(batch) > 3 else 1.0
        return True if bool(within) and 0.2 < spread < 5 else None  # None: another unit, perhaps
    near = (batch[:, None] - values).abs().min(1).values < 1e-3 * (1 + batch.abs())
    expected = float((1 - (1 - counts / counts.sum()) ** len(batch)).sum())  # values in a batch
    if not bool(near.all()):
        return False
    return True if len(batch.unique()) > 0.5 * expected else None  # None: sorted, or others


def _width(targets: Tensor) -> int:
    return targets.numel() // max(1, len(targets))


def _rescaling(moment: Moment) -> tuple[float, float]:
    """Slope and offset that the loss function applies to the targets; 1 and 0 without any.

    The last batch's targets as they were passed in, against those read off the gradient.
    """
    passed, compared = moment.batch_targets, moment.comparison.targets
    if passed is None or passed.numel() < 2 or not passed.is_floating_point():
        return 1.0, 0.0
    if compared is None or compared.numel() != passed.numel():
        return 1.0, 0.0
    before, after = passed.detach().double().flatten(), compared.detach().double().flatten()
    centred = before - before.mean()
    slope = float((centred @ after) / (centred @ centred))  # least squares; NaN for one value
    offset = float(after.mean() - slope * before.mean())
    exact = bool((slope * before + offset - after).abs().max() < 0.01 * after.std())
    moved = bool((before - after).abs().max() > 0.05 * before.std())
    return (slope, offset) if exact and moved else (1.0, 0.0)
