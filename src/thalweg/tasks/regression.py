"""One number a sample, standardised for the loss and reported in its own unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import nan

import numpy as np
from jaxtyping import Float
from torch import Tensor

from thalweg.errors import DataError, UsageError
from thalweg.recipes.recipe import TaskRecipe
from thalweg.tasks.labels import are_classes, numeric_labels
from thalweg.tasks.task import (
    Labels,
    LossFn,
    Prediction,
    Readout,
    TargetFacts,
    Targets,
    Task,
    TaskType,
)
from thalweg.tasks.value_losses import VALUE_LOSSES, mse

NAME = "regression"


def regression(
    *, target_mean: float, target_std: float, loss: str = "mse", **settings: float
) -> Task:
    """Mean squared error of the standardised target, or another loss of `tasks.value_losses`.

    Predicting the mean scores a squared error of 1. `settings` are the loss's own.

    Standardising puts every target's gradients on one scale, so that one learning rate suits all.
    Raises: UsageError for a standard deviation that is not positive, or an unknown loss.
    """
    if not target_std > 0:
        raise UsageError(
            "the target takes only one value: there is nothing to learn",
            seen=f"target_std={target_std}",
            fix="check the target column",
        )
    scale = Scale(mean=target_mean, std=target_std, loss_fn=partial(VALUE_LOSSES[loss], **settings))
    return Task(
        name=NAME,
        loss_fn=scale.loss,
        outputs=1,
        chance_loss=1.0 if loss == "mse" else nan,  # of others it depends on the distribution
        metrics={"r2": scale.r2, "mae": scale.mae},
        headline="r2",
        decode=scale.decode,
        predict=value_prediction,
        read=scale.readout,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Converts standardised outputs to the target's unit, by the training mean and deviation."""

    mean: float
    std: float
    loss_fn: LossFn = mse

    def decode(self, logits: Float[Tensor, "sample 1"]) -> Float[Tensor, " sample"]:
        """Predictions in the target's unit."""
        return logits.squeeze(1).float() * self.std + self.mean

    def loss(
        self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]
    ) -> Float[Tensor, ""]:
        """The loss of standardised values: `mse` is in units of the target's variance."""
        return self.loss_fn(logits.squeeze(1).float(), (targets - self.mean) / self.std)

    def mae(self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]) -> float:
        """Mean absolute error in the target's unit."""
        return (self.decode(logits).double() - targets.double()).abs().mean().item()

    def r2(self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]) -> float:
        """1 − Σ(target − prediction)² / Σ(target − mean)²; NaN where the targets are all equal."""
        targets = targets.double()
        residual = (self.decode(logits).double() - targets).square().sum()
        total = (targets - targets.mean()).square().sum()
        return (1 - residual / total).item() if total > 0 else float("nan")

    def readout(
        self,
        logits: Float[Tensor, "sample 1"],
        targets: Float[Tensor, " sample"],
        class_names: Sequence[str],
    ) -> Readout:
        """Numbers of six digits beside each other."""
        true, predicted = (
            [f"{number:.6g}" for number in values.tolist()]
            for values in (targets, self.decode(logits))
        )
        return Readout(true, predicted, [nan] * len(true), ())


def value_prediction(value: Float[Tensor, ""], class_names: Sequence[str]) -> Prediction:
    """The number, and as text of six digits."""
    return Prediction(f"{value.item():.6g}", 1.0, {}, value.item())


def value_targets(labels: Labels | np.ndarray, place: str) -> Targets | None:
    """The numbers as they are; None for words and for numbers that stand for classes.

    Raises: DataError where they are all the same.
    """
    numbers = numeric_labels(labels)
    return None if numbers is None or are_classes(numbers, place) else _values(numbers, place)


def all_value_targets(labels: Labels | np.ndarray, place: str) -> Targets | None:
    """The numbers as they are, also few whole ones such as ratings; None for words."""
    numbers = numeric_labels(labels)
    return None if numbers is None else _values(numbers, place)


def _values(numbers: np.ndarray, place: str) -> Targets:
    """Raises DataError for numbers that are all the same, or beyond float32."""
    if numbers.size and numbers.min() == numbers.max():
        raise DataError(
            "every target has the same value: there is nothing to learn",
            seen=f"{place}: {numbers[0]:g} in all {numbers.size:,} samples",
            fix="give data whose target varies",
        )
    distinct = len(np.unique(numbers))
    note = f"task: {NAME}, as {place} holds {distinct:,} distinct numbers"
    with np.errstate(over="ignore"):
        values = numbers.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(
            f"{place} holds numbers beyond float32",
            seen=f"{numbers[~np.isfinite(values)][0]:.6g}; the largest is 3.4e38",
            fix="empty the cells that are no measurements; else divide the targets by a power of "
            "ten, or take their logarithm",
        )
    return Targets(task=NAME, values=values, notes=(note,))


def build(facts: TargetFacts, recipe: TaskRecipe) -> Task:
    """The task with the loss that the recipe names, at the scale of the training targets."""
    return regression(
        target_mean=facts.target_mean,
        target_std=facts.target_std,
        loss="mse" if recipe.loss == "auto" else recipe.loss,
        **{key: float(value) for key, value in recipe.changes.items()},
    )


REGRESSION = TaskType(
    name=NAME,
    answers="values",
    targets=value_targets,
    named_targets=all_value_targets,
    losses=VALUE_LOSSES,
    standard_loss="mse",
    build=build,
)
