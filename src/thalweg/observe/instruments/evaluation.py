"""The model on samples it was and was not trained on, in both modes: a copy is asked."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.borrow import preserve_random_state
from thalweg.observe.capture import main_output
from thalweg.observe.instrument import Moment, Reading, survey
from thalweg.observe.instruments.activations import SEEN_OUTPUTS, takes_one
from thalweg.observe.samples import Samples
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

MOST = 1024  # samples of each split that are looked at
LEAST_OF_CLASS = 5  # samples below which a recall says nothing


@survey(
    TRAIN_MODE_LOSS,
    EVAL_MODE_LOSS,
    TRAIN_ACCURACY,
    MEASURED_VAL_ACCURACY,
    CLASS_RECALL,
    RELABELLED_VAL_ACCURACY,
    when="end",
)
def evaluation(moment: Moment) -> Mapping[Quantity, Reading]:
    """Loss in train and eval mode on the same samples, accuracy, recall by class."""
    train, loss_fn = moment.train, moment.loss_fn or known_loss(moment.history)
    if train is None or train.targets is None or loss_fn is None:
        return {}
    if moment.last is not None and not takes_one(moment, train.inputs):
        return {}
    seen: dict[Quantity, Reading] = {}
    most, size = moment.affordable(MOST), max(2, train.batches[0])
    logits = moment.kept_answers.get(SEEN_OUTPUTS)
    if logits is None or len(logits) != len(train.inputs[:most]):
        logits = ask(moment, train.inputs[:most], size=256, training=False)
    seen[EVAL_MODE_LOSS] = {"": _loss(loss_fn, logits, train)}
    moved = ask(moment, train.inputs[:most], size=size, training=True)
    seen[TRAIN_MODE_LOSS] = {"": _loss(loss_fn, moved, train)}
    _score(seen, TRAIN_ACCURACY, logits, samples=train)
    if moment.val is not None and moment.val.targets is not None:
        logits = ask(moment, moment.val.inputs[:most], size=256, training=False)
        _score(seen, MEASURED_VAL_ACCURACY, logits, samples=moment.val)
        seen[CLASS_RECALL] = _recalls(logits, moment.val)
        seen[RELABELLED_VAL_ACCURACY] = _renamed(logits, moment.val)
    elif TRAIN_ACCURACY in seen:
        seen[CLASS_RECALL] = _recalls(logits, train)
    return seen


def known_loss(history: History) -> Callable[[Any, Any], Any] | None:
    """The loss function that the graph showed, where there is no doubt which it is."""
    kinds: dict[str, Callable[[Any, Any], Any]] = {
        "cross_entropy": F.cross_entropy,
        "mse": F.mse_loss,
        "bce_with_logits": F.binary_cross_entropy_with_logits,
    }
    for kind in history.by_place(LOSS_KIND):
        if kind in kinds:
            return kinds[kind]
    return None


def ask(moment: Moment, inputs: Tensor, *, size: int, training: bool) -> Tensor:
    """A copy's outputs for these inputs, in batches of that size, on the CPU.

    Computed in the precision that the model is trained in: in another its speed would be another.
    """
    twin = deepcopy(moment.model).train(training)
    device = next((w.device for w in twin.parameters()), torch.device("cpu"))
    if training and len(inputs) % size == 1 and len(inputs) > 1:
        inputs = inputs[:-1]  # a batch norm cannot train on one sample
    with preserve_random_state(), torch.no_grad(), moment.in_its_precision():
        parts = [twin(part.to(device)) for part in inputs.split(size)]
    outputs = [output for part in parts if (output := main_output(part)) is not None]
    return torch.cat([output.float().cpu() for output in outputs])


def _loss(loss_fn: Callable[[Any, Any], Any], logits: Tensor, samples: Samples) -> float:
    assert samples.targets is not None
    targets = samples.targets[: len(logits)]
    if targets.is_floating_point() and logits.numel() == targets.numel():
        logits = logits.reshape(targets.shape)  # as a loop does that squeezes N×1 itself
    with torch.no_grad():
        return float(loss_fn(logits, targets).mean())


def _score(
    seen: dict[Quantity, Reading], quantity: Quantity, logits: Tensor, *, samples: Samples
) -> None:
    classes = samples.classes
    if classes is not None and logits.ndim == 2 and logits.shape[1] > 1:
        right = logits.argmax(1) == classes[: len(logits)]
        seen[quantity] = {"": right.double().mean()}


def _recalls(logits: Tensor, samples: Samples) -> dict[str, float]:
    classes = samples.classes
    if classes is None or logits.ndim != 2 or logits.shape[1] < 2:
        return {}
    classes, guess = classes[: len(logits)], logits.argmax(1)
    return {
        str(k): float((guess[classes == k] == k).double().mean())
        for k in classes.unique().tolist()
        if int((classes == k).sum()) >= LEAST_OF_CLASS
    }


def _renamed(logits: Tensor, samples: Samples) -> dict[str, float]:
    """Accuracy under the one-to-one renaming of classes found greedily in the confusion matrix."""
    classes = samples.classes
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
