"""A task: what success means. One `TaskType` a file; a `Task` is one fitted to given targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from thalweg.notebook import paragraph, share_bar, table, title
from thalweg.recipes.recipe import TaskRecipe
from thalweg.wording import markup

MOST_SHOWN = 5  # classes of a prediction in a notebook
MOST_ROWS = 50  # predictions in a notebook
LossFn = Callable[[Tensor, Tensor], Tensor]
Metric = Callable[[Tensor, Tensor], float]


@runtime_checkable
class Labels(Protocol):
    """Labels as text, each distinct one stored once."""

    @property
    def codes(self) -> np.ndarray: ...  # int64 [n], index into texts
    @property
    def texts(self) -> tuple[str, ...]: ...
    @property
    def may_be_numbers(self) -> bool: ...
    @property
    def members(self) -> tuple[tuple[str, ...], ...]: ...  # labels that each text lists, or ()


@runtime_checkable
class WrittenLabels(Protocol):
    """Texts to write, each distinct one stored once."""

    @property
    def codes(self) -> np.ndarray: ...  # int64 [n], index into target_texts
    @property
    def target_texts(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets that a task makes of the labels: a row of `values` for each sample."""

    task: str
    # int64 [n], the class; float32 [n, label], 1 where it holds; float32 [n], value in its own unit
    values: np.ndarray
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def class_counts(self, rows: np.ndarray) -> np.ndarray:
        """The number of these samples that bear each class or label, int64 [class]."""
        if self.values.ndim == 2:
            return self.values[rows].sum(0).astype(np.int64)
        return np.bincount(self.values[rows], minlength=len(self.class_names))

    @property
    def strata(self) -> np.ndarray:
        """The class that a split divides each sample by, int64 [n]; 0 where there are no classes.

        With several labels, the rarest that the sample bears: the others come along.
        """
        if not self.class_names:
            return np.zeros(len(self.values), dtype=np.int64)
        if self.values.ndim == 1:
            return self.values
        counts = self.values.sum(0)
        rarity = np.where(self.values > 0, counts, np.inf)
        none = len(self.class_names)
        return np.where(self.values.any(1), rarity.argmin(1), none).astype(np.int64)

    def label_rates(self, rows: np.ndarray) -> tuple[float, ...]:
        """The share of these samples that bear each label; () where each has one class or value."""
        if self.values.ndim == 1 or not self.class_names:
            return ()
        return tuple(self.values[rows].mean(0, dtype=np.float64).tolist())


@runtime_checkable
class TargetFacts(Protocol):
    """Facts about the training targets that the loss and the decoding need."""

    @property
    def num_classes(self) -> int: ...  # 1 where the targets are no classes
    @property
    def target_mean(self) -> float: ...
    @property
    def target_std(self) -> float: ...
    @property
    def label_rates(self) -> tuple[float, ...]: ...  # () where a sample has one class or value
    @property
    def token_bytes(self) -> tuple[bytes, ...]: ...  # () where the targets are no tokens
    @property
    def horizon(self) -> int: ...  # steps of a forecast; 0 for other targets


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer for one sample."""

    label: str  # the class's name, the labels in a list, or the value as text
    probability: float  # of the label; 1.0 where the task has no probabilities
    probabilities: Mapping[str, float]  # class → probability; empty for other tasks
    value: float  # in the target's unit; NaN where the answer is no single number
    labels: tuple[str, ...] | None = None  # those that hold, if there may be any number of them

    def _repr_html_(self) -> str:
        """The answer for a cell of a notebook, with the most probable classes."""
        ranked = sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:MOST_SHOWN]
        rows = [(markup(name), f"{share:.3f}", share_bar(share)) for name, share in ranked]
        return f"<div>{title(self.label)}{table((), rows) if rows else ''}</div>"


class Predictions(list[Prediction]):
    """The model's answers for several samples, in their order."""

    def _repr_html_(self) -> str:
        """A table for a cell of a notebook; of many, the first ones."""
        rows = [
            (str(place), markup(one.label), *_probability(one))
            for place, one in enumerate(self[:MOST_ROWS])
        ]
        left = len(self) - len(rows)
        more = paragraph(f"and {left:,} more") if left else ""
        return f"<div>{table(('', 'prediction', 'probability', ''), rows)}{more}</div>"


def _probability(prediction: Prediction) -> tuple[str, str]:
    if not prediction.probabilities:
        return "", ""
    return f"{prediction.probability:.3f}", share_bar(prediction.probability)


class Readout(NamedTuple):
    """Outputs beside their targets, as text, an entry for each sample."""

    targets: Sequence[str]
    predicted: Sequence[str]
    probabilities: Sequence[float]  # of the prediction; NaN where there are none
    worst: Sequence[int]  # the samples with the worst errors, worst first


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A goal for training. Its functions take the logits and the targets of any number of samples.

    `metrics` are computed once over a whole split, so they are exact where batches are ragged.
    """

    name: str
    loss_fn: LossFn  # mean over the samples
    outputs: int  # size of the model's head
    num_classes: int = 0  # 0 where the targets are no classes
    chance_loss: float  # of a model that knows nothing; NaN where that depends on the data
    metrics: Mapping[str, Metric]
    headline: str  # the metric that picks the best model, or "loss"
    lower_is_better: bool = False  # of the headline
    # Outputs and targets of a batch → what an evaluation holds of them, a row a sample, for
    # `metrics`, `condensed_loss`, `predicted` and `read`.
    condense: LossFn = lambda outputs, targets: outputs
    condensed_loss: LossFn | None = None  # None: `loss_fn`
    # The predicted class or value of each sample; None: by `decode`.
    predicted: Callable[[Tensor], Tensor] | None = None
    decode: Callable[[Tensor], Tensor]  # logits → probabilities, or values in the target's unit
    predict: Callable[[Tensor, Sequence[str]], Prediction]  # of a decoded row and the class names
    read: Callable[[Tensor, Tensor, Sequence[str]], Readout]  # logits, targets, class names


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskType:
    """A line of the table of tasks.

    `answers` tells those who have methods for classes or for values alone, such as the ladder, and
    the report, whether this task is for them.
    """

    name: str
    answers: Literal["classes", "labels", "values", "tokens", "sequences", "steps", "other"]
    # Of `Samples.labels` and their place in words: Labels or an array, or WrittenLabels where the
    # answers are sequences. None: not this task's labels.
    targets: Callable[[Any, str], Targets | None]
    losses: Mapping[str, Callable[..., Tensor]]
    standard_loss: str  # what the recipe's `auto` means
    build: Callable[[TargetFacts, TaskRecipe], Task]
    # As `targets`, where the user names this task: also for labels that suit another one better.
    named_targets: Callable[[Any, str], Targets | None] = lambda labels, place: None
    # The validation loss of simple models by name, of training and validation targets.
    baselines: Callable[[TargetFacts, np.ndarray, np.ndarray], Mapping[str, float]] = (
        lambda facts, train, val: {}
    )
