"""One class a sample."""

from collections.abc import Callable
from functools import partial
from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.tasks.task import Task


def classification(num_classes: int, *, label_smoothing: float = 0.0) -> Task:
    """Cross-entropy in nat. An undecided model scores ln K, with smoothing or without.

    Source of smoothing: Szegedy et al. 2016, arXiv:1512.00567 §7.
    Raises: UsageError for fewer than two classes, or smoothing outside [0, 1).
    """
    if num_classes < 2:
        raise UsageError(
            "a classifier needs at least two classes",
            seen=f"num_classes={num_classes}",
            fix="add samples of another class, or train a regression",
        )
    if not 0 <= label_smoothing < 1:
        raise UsageError(
            "label smoothing is the share of the target spread over all classes",
            seen=f"label_smoothing={label_smoothing}",
            fix="a number from 0 up to, but not including, 1",
        )
    metrics: dict[str, Callable[[Tensor, Tensor], float]] = {"accuracy": accuracy}
    if num_classes > 5:
        metrics["top5_accuracy"] = top5_accuracy
    return Task(
        name="classification",
        loss_fn=partial(F.cross_entropy, label_smoothing=label_smoothing),
        outputs=num_classes,
        chance_loss=log(num_classes),
        metrics=metrics,
        headline="accuracy",
        decode=probabilities,
    )


def accuracy(logits: Float[Tensor, "sample class"], targets: Int[Tensor, " sample"]) -> float:
    """Share of samples whose largest logit is their class's. NaN for no sample."""
    return (logits.argmax(dim=1) == targets).double().mean().item()


def top5_accuracy(logits: Float[Tensor, "sample class"], targets: Int[Tensor, " sample"]) -> float:
    """Share of samples whose class is among the five largest logits. NaN for no sample."""
    return (logits.topk(5, dim=1).indices == targets[:, None]).any(dim=1).double().mean().item()


def confusion(
    logits: Float[Tensor, "sample class"], targets: Int[Tensor, " sample"]
) -> Int[Tensor, "target predicted"]:
    """How many samples of each class (row) were predicted as each class (column)."""
    num_classes = logits.shape[1]
    cells = targets.long() * num_classes + logits.argmax(dim=1)
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_recall(
    logits: Float[Tensor, "sample class"], targets: Int[Tensor, " sample"]
) -> Float[Tensor, " class"]:
    """Share of each class's samples that were predicted as that class; NaN for an absent class."""
    counts = confusion(logits, targets).double()
    return counts.diagonal() / counts.sum(dim=1)


def probabilities(logits: Float[Tensor, "sample class"]) -> Float[Tensor, "sample class"]:
    """Softmax, computed in float32 whatever the logits are in."""
    return logits.float().softmax(dim=1)
