"""One class a sample."""

from collections.abc import Callable, Sequence
from functools import partial
from math import log, nan

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.recipes.recipe import TaskRecipe
from thalweg.tasks.class_targets import class_targets
from thalweg.tasks.losses import LOSSES, takes_soft_targets
from thalweg.tasks.task import LossFn, Prediction, Readout, TargetFacts, Task, TaskType

NAME = "classification"


def classification(
    num_classes: int,
    *,
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
    **settings: float,
) -> Task:
    """Cross-entropy in nat, or another loss of `tasks.losses` by name.

    An undecided model scores ln K in cross-entropy, with smoothing or without. `settings` are the
    loss's own, such as a margin.

    Source of smoothing: Szegedy et al. 2016, arXiv:1512.00567 §7.
    Raises: UsageError for fewer than two classes, an unknown loss, or impossible smoothing.
    """
    if num_classes < 2:
        raise UsageError(
            "a classifier needs at least two classes",
            seen=f"num_classes={num_classes}",
            fix="add samples of another class, or train a regression",
        )
    _require_smoothable(loss, label_smoothing)
    metrics: dict[str, Callable[[Tensor, Tensor], float]] = {"accuracy": accuracy}
    if num_classes > 5:
        metrics["top5_accuracy"] = top5_accuracy
    loss_fn = _loss_fn(loss, label_smoothing, settings)
    undecided = torch.zeros(1, num_classes), torch.zeros(1, dtype=torch.long)
    return Task(
        name=NAME,
        loss_fn=loss_fn,
        outputs=num_classes,
        num_classes=num_classes,
        chance_loss=log(num_classes) if loss == "cross_entropy" else loss_fn(*undecided).item(),
        metrics=metrics,
        headline="accuracy",
        decode=probabilities,
        predict=likeliest_class,
        read=readout,
    )


def _loss_fn(name: str, label_smoothing: float, settings: dict[str, float]) -> LossFn:
    if name == "cross_entropy":
        return partial(F.cross_entropy, label_smoothing=label_smoothing)
    smoothing = {"label_smoothing": label_smoothing} if label_smoothing else {}
    return partial(LOSSES[name], **smoothing | settings)


def _require_smoothable(loss: str, label_smoothing: float) -> None:
    """Raise UsageError for an unknown loss, a share outside [0, 1), or one without effect."""
    LOSSES[loss]
    if not 0 <= label_smoothing < 1:
        raise UsageError(
            "label smoothing is the share of the target spread over all classes",
            seen=f"label_smoothing={label_smoothing}",
            fix="a number from 0 up to, but not including, 1",
        )
    if label_smoothing and not takes_soft_targets(loss):
        raise UsageError(
            f"labels cannot be smoothed for {loss}: it takes one class a sample",
            seen=f"label_smoothing={label_smoothing}",
            fix="label_smoothing=0, or loss=cross_entropy",
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
    """Counts of samples of each class (row) that were predicted as each class (column)."""
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


def likeliest_class(
    probabilities: Float[Tensor, " class"], class_names: Sequence[str]
) -> Prediction:
    """The class of the largest probability, with those of all."""
    named = dict(zip(class_names, probabilities.tolist(), strict=True))
    label = max(named, key=lambda name: named[name])
    return Prediction(label, named[label], named, nan)


def readout(
    logits: Float[Tensor, "sample class"],
    targets: Int[Tensor, " sample"],
    class_names: Sequence[str],
) -> Readout:
    """Class names beside each other; the surest mistakes first among the worst."""
    probability, guess = probabilities(logits).max(dim=1)
    wrong = guess != targets
    worst = (probability * wrong).argsort(descending=True)[: int(wrong.sum())]
    names = [[class_names[index] for index in classes.tolist()] for classes in (targets, guess)]
    return Readout(names[0], names[1], probability.tolist(), worst.tolist())


def build(facts: TargetFacts, recipe: TaskRecipe) -> Task:
    """The task with the loss that the recipe names."""
    return classification(
        facts.num_classes,
        loss="cross_entropy" if recipe.loss == "auto" else recipe.loss,
        label_smoothing=recipe.label_smoothing,
        **{key: float(value) for key, value in recipe.changes.items()},
    )


CLASSIFICATION = TaskType(
    name=NAME,
    answers="classes",
    targets=partial(class_targets, NAME),
    losses=LOSSES,
    standard_loss="cross_entropy",
    build=build,
)
