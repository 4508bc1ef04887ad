"""What an instrument is: a function from one moment of training to some quantities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.errors import ThalwegError
from thalweg.observe.capture import Pass
from thalweg.observe.samples import Samples
from thalweg.record import History, Quantity

Reading = Mapping[str, Tensor | float]  # place -> scalar, still on its device
Measure = Callable[["Moment"], Reading]
Survey = Callable[["Moment"], Mapping[Quantity, Reading]]
When = Literal["start", "update", "loss", "probe", "end"]


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
    logits: Tensor | None = None  # what the model gave for the last batch, detached
    targets: Tensor | None = None
    loss: Tensor | None = None  # with its graph
    last: Pass | None = None  # the last training pass that the hooks saw
    validation: Pass | None = None  # the last pass without gradient
    leftovers: Mapping[str, Tensor | float] = field(default_factory=dict)
    called: frozenset[str] = frozenset()  # modules that ran in the last training pass
    train: Samples | None = None
    val: Samples | None = None
    loss_fn: Callable[..., Any] | None = None
    num_classes: int = 0  # 0 where it is not known
    history: History = field(default_factory=History)

    @property
    def before(self) -> list[Tensor]:
        """The weights as they were before the update, in the order of `names`."""
        if self.kept is None:
            raise ThalwegError(
                "an instrument read the weights as they were before the update, but none were kept",
                fix="declare it: @instrument(..., keeps_weights=True)",
            )
        return self.kept


@dataclass(frozen=True, slots=True)
class Instrument:
    """Quantities and how they are measured. Never `.item()` in a loop: one wait a reading."""

    name: str
    quantities: tuple[Quantity, ...]
    survey: Survey
    when: When  # "update": in the optimizer's hooks; "loss": once the loss is known
    keeps_weights: bool = False  # costs one copy of the model while a reading is due
    rare: bool = False  # what it measures seldom changes: the first readings, then every sixth

    def __call__(self, moment: Moment) -> Mapping[Quantity, Reading]:
        return self.survey(moment)


def instrument(
    quantity: Quantity, *, when: When = "update", keeps_weights: bool = False, rare: bool = False
) -> Callable[[Measure], Instrument]:
    """Turn a measuring function into an instrument; an empty reading means "not applicable"."""

    def made(measure: Measure) -> Instrument:
        return Instrument(
            quantity.name, (quantity,), lambda m: {quantity: measure(m)}, when, keeps_weights, rare
        )

    return made


def survey(*quantities: Quantity, when: When, rare: bool = False) -> Callable[[Survey], Instrument]:
    """Turn a function that measures several quantities in one go into an instrument."""
    return lambda measure: Instrument(measure.__name__, quantities, measure, when, rare=rare)
