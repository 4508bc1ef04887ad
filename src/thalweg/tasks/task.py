"""A task: what success means. One `TaskType` a file; a `Task` is one fitted to given targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from thalweg.recipes.recipe import TaskRecipe

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets that a task makes of the labels: a row of `values` for each sample."""

    task: str
    values: np.ndarray  # int64 [n], the class; or float32 [n], the value in the label's unit
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class TargetFacts(Protocol):
    """Facts about the training targets that the loss and the decoding need."""

    @property
    def num_classes(self) -> int: ...  # 1 where the targets are no classes
    @property
    def target_mean(self) -> float: ...
    @property
    def target_std(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer for one sample."""

    label: str  # the class's name, or the value as text
    probability: float  # of the label; 1.0 where the task has no probabilities
    probabilities: Mapping[str, float]  # class → probability; empty for other tasks
    value: float  # in the target's unit; NaN where the answer is no single number


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
    headline: str  # the metric that picks the best model; higher is better
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
    answers: Literal["classes", "values", "other"]
    targets: Callable[[Labels | np.ndarray, str], Targets | None]  # None: not this task's labels
    losses: Mapping[str, Callable[..., Tensor]]
    standard_loss: str  # what the recipe's `auto` means
    build: Callable[[TargetFacts, TaskRecipe], Task]
