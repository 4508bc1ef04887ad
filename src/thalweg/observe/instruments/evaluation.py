"""Evaluate a copy of the model on training and validation samples, in eval and in train mode."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.borrow import preserve_random_state
from thalweg.observe.data_sample import DataSample
from thalweg.observe.forward_pass import main_output
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.activations import takes_alone
from thalweg.record import History, Quantity
from thalweg.record.quantities import (
    CLASS_RECALL,
    EVAL_MODE_LOSS,
    LOSS_KIND,
    MEASURED_VAL_ACCURACY,
    RELABELLED_VAL_ACCURACY,
    TRAIN_ACCURACY,
    TRAIN_MODE_LOSS,
)

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
    when="end",
)
def evaluation(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Loss in train and eval mode on the same samples, accuracy, recall by class."""
    train, loss_fn = moment.train, moment.loss_fn or loss_of_kind(moment.history)
    if train is None or train.targets is None or loss_fn is None:
        return {}
    if moment.forward is not None and not takes_alone(moment, train.inputs):
        return {}
    measured: dict[Quantity, Measurements] = {}
    most, size = moment.affordable(MOST), max(2, train.batch_sizes[0])
    logits = moment.shared.train_outputs
    if logits is None or len(logits) != len(train.inputs[:most]):
        logits = outputs_of_copy(moment, train.inputs[:most], size=256, training=False)
    measured[EVAL_MODE_LOSS] = {"": _loss(loss_fn, logits, train)}
    train_logits = outputs_of_copy(moment, train.inputs[:most], size=size, training=True)
    measured[TRAIN_MODE_LOSS] = {"": _loss(loss_fn, train_logits, train)}
    measured |= _accuracy(TRAIN_ACCURACY, logits, train)
    if moment.val is not None and moment.val.targets is not None:
        logits = outputs_of_copy(moment, moment.val.inputs[:most], size=256, training=False)
        measured |= _accuracy(MEASURED_VAL_ACCURACY, logits, moment.val)
        measured[CLASS_RECALL] = _recalls(logits, moment.val)
        measured[RELABELLED_VAL_ACCURACY] = _relabelled_accuracy(logits, moment.val)
    elif TRAIN_ACCURACY in measured:
        measured[CLASS_RECALL] = _recalls(logits, train)
    return measured


def loss_of_kind(history: History) -> LossFn | None:
    """The loss function that the graph showed, where there is no doubt which it is."""
    kinds: dict[str, LossFn] = {
        "cross_entropy": F.cross_entropy,
        "mse": F.mse_loss,
        "bce_with_logits": F.binary_cross_entropy_with_logits,
    }
    for kind in history.by_place(LOSS_KIND):
        if kind in kinds:
            return kinds[kind]
    return None


def outputs_of_copy(moment: Moment, inputs: Tensor, *, size: int, training: bool) -> Tensor:
    """A copy's outputs for these inputs, in batches of that size, on the CPU.

    Computed in the precision that the model is trained in: in another its speed would be another.
    """
    model = deepcopy(moment.model).train(training)
    device = next((w.device for w in model.parameters()), torch.device("cpu"))
    if training and len(inputs) % size == 1 and len(inputs) > 1:
        inputs = inputs[:-1]  # a batch norm cannot train on one sample
    with preserve_random_state(), torch.no_grad(), moment.autocast():
        parts = [model(part.to(device)) for part in inputs.split(size)]
    outputs = [output for part in parts if (output := main_output(part)) is not None]
    return torch.cat([output.float().cpu() for output in outputs])


def _loss(loss_fn: LossFn, logits: Tensor, sample: DataSample) -> float:
    assert sample.targets is not None
    targets = sample.targets[: len(logits)]
    if targets.is_floating_point() and logits.numel() == targets.numel():
        logits = logits.reshape(targets.shape)  # as a loop does that squeezes N×1 itself
    with torch.no_grad():
        return float(loss_fn(logits, targets).mean())


def _accuracy(
    quantity: Quantity, logits: Tensor, sample: DataSample
) -> dict[Quantity, Measurements]:
    classes = sample.classes
    if classes is None or logits.ndim != 2 or logits.shape[1] < 2:
        return {}
    right = logits.argmax(1) == classes[: len(logits)]
    return {quantity: {"": right.double().mean()}}


def _recalls(logits: Tensor, sample: DataSample) -> dict[str, float]:
    classes = sample.classes
    if classes is None or logits.ndim != 2 or logits.shape[1] < 2:
        return {}
    classes, guess = classes[: len(logits)], logits.argmax(1)
    return {
        str(k): float((guess[classes == k] == k).double().mean())
        for k in classes.unique().tolist()
        if int((classes == k).sum()) >= LEAST_OF_CLASS
    }


def _relabelled_accuracy(logits: Tensor, sample: DataSample) -> dict[str, float]:
    """Accuracy under the one-to-one renaming of classes found greedily in the confusion matrix."""
    classes = sample.classes
    if classes is None or logits.ndim != 2 or not 2 <= logits.shape[1] <= 1000:
        return {}
    classes, width = classes[: len(logits)], max(logits.shape[1], int(classes.max()) + 1)
    table = torch.bincount(classes * width + logits.argmax(1), minlength=width**2)
    table, right = table.view(width, width).clone(), 0
    for _ in range(width):
        best = int(table.argmax())
        right += int(table.view(-1)[best])
        table[best // width, :], table[:, best % width] = 0, 0
    return {"": right / max(1, len(classes))}
