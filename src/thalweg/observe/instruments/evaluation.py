"""Evaluate a copy of the model on training and validation samples, in eval and in train mode."""

from collections.abc import Callable, Mapping
from math import nan
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.observe.bare_copy import bare_copy
from thalweg.observe.class_renaming import best_renaming
from thalweg.observe.compared_targets import valid_classes
from thalweg.observe.forward_pass import eval_keywords, main_output, own_tensors
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.activations import takes_alone
from thalweg.observe.isolation import isolated
from thalweg.observe.mode_log import drops_by_hand
from thalweg.record import History, Quantity
from thalweg.record.quantities import (
    CLASS_RECALL,
    EVAL_MODE_LOSS,
    LOSS_KIND,
    MEASURED_VAL_ACCURACY,
    NOT_MEASURED,
    RELABELLED_VAL_ACCURACY,
    RENAMING_CHANCE,
    TARGETS_COMPARED,
    TRAIN_ACCURACY,
    TRAIN_MODE_LOSS,
)
from thalweg.wording import count

MOST = 1024  # samples of each split that pass through the model
LEAST_OF_CLASS = 5  # samples below which a recall says nothing
LossFn = Callable[[Any, Any], Any]


@instrument(
    TRAIN_MODE_LOSS,
    EVAL_MODE_LOSS,
    TRAIN_ACCURACY,
    MEASURED_VAL_ACCURACY,
    CLASS_RECALL,
    RELABELLED_VAL_ACCURACY,
    RENAMING_CHANCE,
    when="end",
)
def evaluation(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Loss in train and eval mode on the same samples, accuracy, recall by class."""
    train, loss_fn = moment.train, moment.loss_fn or _loss_of_labels(moment.history)
    if train is None or train.targets is None or loss_fn is None:
        return _losses_of_last_batch(moment)
    if _loader_agrees(moment.history) == 0:
        return _losses_of_last_batch(moment)
    if moment.forward is not None and not takes_alone(moment, train.inputs):
        return _losses_of_last_batch(moment)
    measured: dict[Quantity, Measurements] = {}
    most, size = moment.affordable(MOST), max(2, train.batch_sizes[0])
    train = train.part(most)
    logits = moment.shared.train_outputs
    if logits is None or len(logits) != len(train):
        logits = outputs_of_copy(moment, train.inputs, size=256, training=False)
    measured[EVAL_MODE_LOSS] = {"": _loss(loss_fn, logits, train.targets)}
    train_logits = outputs_of_copy(moment, train.inputs, size=size, training=True)
    measured[TRAIN_MODE_LOSS] = {"": _loss(loss_fn, train_logits, train.targets)}
    measured |= _accuracy(TRAIN_ACCURACY, logits, moment.class_labels(train))
    val = moment.val
    if val is not None and val.targets is not None and not val.is_head_of_classes:
        val = val.part(most)
        logits = outputs_of_copy(moment, val.inputs, size=256, training=False)
        classes = moment.class_labels(val)
        measured |= _accuracy(MEASURED_VAL_ACCURACY, logits, classes)
        measured[CLASS_RECALL] = _recalls(logits, classes)
        measured |= _relabelled_accuracy(logits, classes)
    elif TRAIN_ACCURACY in measured:
        measured[CLASS_RECALL] = _recalls(logits, moment.class_labels(train))
    return measured


def _loader_agrees(history: History) -> float:
    """1 where the loader's labels are what the loss compares, 0 where not; NaN if not known."""
    series = history.series(TARGETS_COMPARED, "loader")
    return series[max(series)] if series else nan


def _loss_of_labels(history: History) -> LossFn | None:
    return loss_of_kind(history) if _loader_agrees(history) == 1 else None


def loss_of_kind(history: History) -> LossFn | None:
    """The loss function that the graph showed, where there is no doubt which it is."""
    kinds: dict[str, LossFn] = {
        "cross_entropy": _cross_entropy,
        "mse": F.mse_loss,
        "bce_with_logits": F.binary_cross_entropy_with_logits,
    }
    for kind in history.by_place(LOSS_KIND):
        if kind in kinds:
            return kinds[kind]
    return None


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Classes are dimension 1, or the last one of sequences; targets of 255 or −1 are ignored."""
    if targets.is_floating_point():
        return F.cross_entropy(logits, targets)
    rows = logits if logits.shape[:-1] == targets.shape else logits.movedim(1, -1)
    numbers = valid_classes(targets, rows.shape[-1])
    return F.cross_entropy(rows.flatten(0, -2), numbers.flatten())


def outputs_of_copy(moment: Moment, inputs: Tensor, *, size: int, training: bool) -> Tensor:
    """A copy's outputs for these inputs, in batches of that size, on the CPU.

    Computed in the precision that the model is trained in: in another its speed would be another.
    """
    model = bare_copy(moment.model).train(training)
    device = next((w.device for w in model.parameters()), torch.device("cpu"))
    if training and len(inputs) % size == 1 and len(inputs) > 1:
        inputs = inputs[:-1]  # a batch norm cannot train on one sample
    with isolated(model), moment.autocast():
        parts = [model(part.to(device)) for part in inputs.split(size)]
    outputs = [output for part in parts if (output := main_output(part)) is not None]
    return torch.cat([output.float().cpu() for output in outputs])


def _losses_of_last_batch(moment: Moment) -> dict[Quantity, Measurements]:
    """Loss of the last batch's samples in train and in eval mode, called with all its arguments.

    For models that take several: a graph, a mask. The targets are those of the loss; those that it
    ignores, as of the nodes beside a mask, are ignored here. Only where a module drops numbers.
    """
    last, loss_fn = moment.last_batch, loss_of_kind(moment.history)
    forward, graph = (None, None) if last is None else (last.forward, last.graph)
    if last is None or forward is None or graph is None or loss_fn is None or graph.composed:
        return {}
    targets, modules = last.comparison.targets, moment.model.modules()
    if targets is None or not (forward.inputs or forward.keywords) or not forward.is_whole:
        return {}
    if not forward.modes and not any(map(drops_by_hand, modules)):
        return {}
    losses = []
    for training in (True, False):
        model = bare_copy(moment.model).train(training)
        inputs, keywords = own_tensors((forward.inputs, dict(forward.keywords)))
        with isolated(model), moment.autocast():
            output = main_output(
                model(*inputs, **(keywords if training else eval_keywords(keywords)))
            )
        if output is None or output.shape[1:] != forward.output_shape[1:]:
            return {}
        losses.append(_loss(loss_fn, output.float().cpu(), targets.cpu()))
    return {TRAIN_MODE_LOSS: {"": losses[0]}, EVAL_MODE_LOSS: {"": losses[1]}}


def _loss(loss_fn: LossFn, logits: Tensor, targets: Tensor | None) -> float:
    """The mean loss; outputs N×1 meet N targets as in a loop that squeezes them itself."""
    assert targets is not None
    targets = targets[: len(logits)]
    alike = targets.is_floating_point() and logits.numel() == targets.numel()
    with torch.no_grad():
        try:
            return float(
                loss_fn(logits.reshape(targets.shape) if alike else logits, targets).mean()
            )
        except (IndexError, RuntimeError, TypeError):  # the loss itself squeezes N×1
            if not alike or logits.shape == targets.shape:
                raise
            return float(loss_fn(logits, targets).mean())


def _accuracy(
    quantity: Quantity, logits: Tensor, classes: Tensor | None
) -> dict[Quantity, Measurements]:
    if classes is None or logits.ndim != 2 or logits.shape[1] < 2:
        return {}
    right = logits.argmax(1) == classes[: len(logits)]
    return {quantity: {"": right.double().mean()}}


def _recalls(logits: Tensor, classes: Tensor | None) -> dict[str, float]:
    if classes is None or logits.ndim != 2 or logits.shape[1] < 2:
        return {}
    classes, guess = classes[: len(logits)], logits.argmax(1)
    return {
        str(k): float((guess[classes == k] == k).double().mean())
        for k in classes.unique().tolist()
        if int((classes == k).sum()) >= LEAST_OF_CLASS
    }


def _relabelled_accuracy(logits: Tensor, classes: Tensor | None) -> dict[Quantity, Measurements]:
    """Accuracy after the best renaming of classes, and the chance of so good a fit."""
    if classes is None or not len(logits) or logits.ndim != 2 or not 2 <= logits.shape[1] <= 1000:
        return {}
    renaming = best_renaming(classes[: len(logits)], logits.argmax(1), num_classes=logits.shape[1])
    if not renaming.can_be_told:
        samples = count(len(logits), "validation sample")
        reason = f"{RELABELLED_VAL_ACCURACY.name}: {samples} may fit a renaming by chance"
        return {NOT_MEASURED: {reason: 1.0}}
    return {
        RELABELLED_VAL_ACCURACY: {"": renaming.accuracy},
        RENAMING_CHANCE: {"": renaming.chance},
    }
