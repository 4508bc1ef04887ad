"""What an instrument is: a function from one moment of training to one quantity."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor
from torch.optim import Optimizer

from thalweg.errors import ThalwegError
from thalweg.record import Quantity

Reading = dict[str, Tensor]  # place -> scalar, still on its device


@dataclass(slots=True, kw_only=True)
class Moment:
    """Training around one update: what an instrument may look at, and must not change."""

    step: int
    optimizers: tuple[Optimizer, ...]
    names: list[str] = field(default_factory=list)  # of the weights that were just updated
    weights: list[Tensor] = field(default_factory=list)  # detached, after the update
    gradients: list[Tensor | None] = field(default_factory=list)
    kept: list[Tensor] | None = None
    logits: Tensor | None = None  # what the model gave for the last batch, detached
    targets: Tensor | None = None

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
    """A quantity and how it is measured. Never `.item()`: the watcher waits for the device."""

    quantity: Quantity
    measure: Callable[[Moment], Reading]
    after_loss: bool  # measured once the loss is known, not in the optimizer's hooks
    keeps_weights: bool  # costs one copy of the model while a reading is due

    def __call__(self, moment: Moment) -> Reading:
        return self.measure(moment)


def instrument(
    quantity: Quantity, *, after_loss: bool = False, keeps_weights: bool = False
) -> Callable[[Callable[[Moment], Reading]], Instrument]:
    """Turn a measuring function into an instrument; an empty reading means "not applicable"."""
    return lambda measure: Instrument(quantity, measure, after_loss, keeps_weights)
