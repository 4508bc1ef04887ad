"""What an instrument is: a function from one moment of training to some quantities."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.errors import ThalwegError
from thalweg.observe.capture import Pass
from thalweg.observe.loss_graph import LossGraph, read_graph
from thalweg.observe.samples import Samples
from thalweg.record import History, Quantity

Reading = Mapping[str, Tensor | float]  # place -> scalar, still on its device
Measure = Callable[["Moment"], Reading]
Survey = Callable[["Moment"], Mapping[Quantity, Reading]]
Answer = TypeVar("Answer")
When = Literal[
    "update",  # in the optimizer's hooks, at a reading
    "loss",  # at a reading, once the loss is known
    "probe",  # before the first update, a few times more, and at the end
    "samples",  # once, when training is over: of the data alone
    "end",  # when training is over
]


FEWEST = 128  # samples that a look at the model takes, however short the run
SHARE = 40  # one in so many of the samples that were trained on, at most


@dataclass(slots=True, kw_only=True)
class Moment:
    """Training around one update: what an instrument may look at, and must not change."""

    step: int
    model: nn.Module
    optimizers: tuple[Optimizer, ...]
    names: list[str] = field(default_factory=list)  # of the weights that were just updated
    weights: list[Tensor] = field(default_factory=list)  # detached, after the update
    gradients: list[Tensor | None] = field(default_factory=list)
    kept: list[Tensor] | None = None
    held_back: Tensor | None = None  # not 0 where the optimizer made no update after all
    logits: Tensor | None = None  # what the model gave for the last batch, detached
    targets: Tensor | None = None
    loss: Tensor | None = None  # with its graph
    last: Pass | None = None  # the last training pass that the hooks saw
    validation: Pass | None = None  # the last pass without gradient
    leftovers: Mapping[str, Tensor | float] = field(default_factory=dict)
    called: frozenset[str] = frozenset()  # modules that ran in the last training pass
    train: Samples | None = None  # while training only where an instrument asked for samples
    val: Samples | None = None
    loss_fn: Callable[..., Any] | None = None
    num_classes: int = 0  # 0 where it is not known
    history: History = field(default_factory=History)
    kept_answers: dict[str, Any] = field(default_factory=dict)  # what several instruments ask for

    @property
    def graph(self) -> LossGraph | None:
        """What lies between the model's output and the loss."""
        ended_in = None if self.last is None else self.last.ended_in
        return self._once("graph", lambda: read_graph(self.loss, ended_in))

    @property
    def gradient_norms(self) -> dict[str, Tensor]:
        """The L2 norm of each dense gradient, by the name of its weight."""
        return self._once(
            "gradient norms", lambda: _norms(zip(self.names, self.gradients, strict=True))
        )

    @property
    def matrix_norms(self) -> dict[str, Tensor]:
        """The L2 norm of each weight of two dimensions or more: before the update, where kept."""
        weights = zip(self.names, self.weights if self.kept is None else self.kept, strict=True)
        return self._once(
            "matrix norms", lambda: _norms((name, one) for name, one in weights if one.ndim >= 2)
        )

    def _once(self, name: str, ask: Callable[[], Answer]) -> Answer:
        if name not in self.kept_answers:
            self.kept_answers[name] = ask()
        return self.kept_answers[name]

    def in_its_precision(self) -> AbstractContextManager[object]:
        """The autocast that the user's loop puts around the model, if any."""
        return nullcontext() if self.last is None else self.last.in_its_precision()

    def affordable(self, most: int) -> int:
        """How many samples to pass through the model: at most a fortieth of those trained on.

        At least 128, on which a share is known to a few points. Counted, not timed, so that a
        resumed run measures what an undisturbed one does.
        """
        batch = self.train.batches[0] if self.train is not None and self.train.batches else 1
        return min(most, max(FEWEST, self.step * batch // SHARE))

    @property
    def before(self) -> list[Tensor]:
        """The weights as they were before the update, in the order of `names`."""
        if self.kept is None:
            raise ThalwegError(
                "an instrument read the weights as they were before the update, but none were kept",
                fix="declare it: @instrument(..., keeps_weights=True)",
            )
        return self.kept


def _norms(named: Iterable[tuple[str, Tensor | None]]) -> dict[str, Tensor]:
    dense = {name: one for name, one in named if one is not None and one.layout == torch.strided}
    return dict(zip(dense, torch._foreach_norm(list(dense.values())), strict=True)) if dense else {}


@dataclass(frozen=True, slots=True)
class Instrument:
    """Quantities and how they are measured. Never `.item()` in a loop: one wait a reading."""

    name: str
    quantities: tuple[Quantity, ...]
    survey: Survey
    when: When
    keeps_weights: bool = False  # costs one copy of the model while a reading is due
    rare: bool = False  # what it measures seldom changes: the first readings, then every sixth
    again: bool = False  # of a "loss" instrument: once more at the end, when samples are there
    wants_samples: bool = False  # the loaders are read before the first step, at their cost

    def __call__(self, moment: Moment) -> Mapping[Quantity, Reading]:
        return self.survey(moment)


def instrument(
    quantity: Quantity,
    *,
    when: When = "update",
    keeps_weights: bool = False,
    rare: bool = False,
    again: bool = False,
) -> Callable[[Measure], Instrument]:
    """Turn a measuring function into an instrument; an empty reading means "not applicable"."""

    def made(measure: Measure) -> Instrument:
        return Instrument(
            quantity.name,
            (quantity,),
            lambda moment: {quantity: measure(moment)},
            when,
            keeps_weights=keeps_weights,
            rare=rare,
            again=again,
        )

    return made


def survey(
    *quantities: Quantity,
    when: When,
    rare: bool = False,
    again: bool = False,
    wants_samples: bool = False,
) -> Callable[[Survey], Instrument]:
    """Turn a function that measures several quantities in one go into an instrument."""
    return lambda measure: Instrument(
        measure.__name__,
        quantities,
        measure,
        when,
        rare=rare,
        again=again,
        wants_samples=wants_samples,
    )
