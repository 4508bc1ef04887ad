"""Log the loss of each step and the learning rates: measurements that need no hook."""

from typing import Any

import torch
from torch import Tensor

from thalweg.observe.guard import NotMeasurableError
from thalweg.record import History
from thalweg.record.quantities import LEARNING_RATE, LOSS, WEIGHT_DECAY

LR_RESOLUTION = 1.05  # a learning rate is recorded again when it has changed by this factor


class LossLog:
    """The losses since the last transfer, still on their device."""

    def __init__(self, first_step: int) -> None:
        self._losses: list[Tensor | float | None] = []
        self._next_step = first_step

    def __len__(self) -> int:
        return len(self._losses)

    def append(self, loss: Tensor | float) -> None:
        """Keep the loss of the next step.

        Raises: NotMeasurableError for what is no real number, and leaves that step without a loss:
        NaN would say that the run had diverged.
        """
        entry: Tensor | float | None = None
        try:
            entry = _real(loss)
        except (TypeError, ValueError, OverflowError) as error:
            raise NotMeasurableError(
                "step() takes the loss, a number or tensor", seen=f"seen: {type(loss).__name__}"
            ) from error
        finally:
            self._losses.append(entry)

    def fetch(self, history: History) -> None:
        """Move the losses into the history, with one wait for the device."""
        losses, self._losses = self._losses, []
        first, self._next_step = self._next_step, self._next_step + len(losses)
        present = [(first + i, loss) for i, loss in enumerate(losses) if loss is not None]
        for (step, _), value in zip(present, _numbers([loss for _, loss in present]), strict=True):
            history.add(LOSS, step, {"": value})


class LearningRateLog:
    """The learning rate of each group of weights, recorded when it has changed."""

    def __init__(self, optimizers: tuple[Any, ...]) -> None:
        self._optimizers = optimizers
        self._rates: list[float] = []

    def record(self, history: History, step: int) -> None:
        """Record the rates, and the decays that go with them, if they differ from the last."""
        every = (group for optimizer in self._optimizers for group in optimizer.param_groups)
        groups = [group for group in every if "lr" in group]
        rates = [float(group["lr"]) for group in groups]
        if not _differ(self._rates, rates):
            return
        self._rates = rates
        decays = [float(g.get("weight_decay", 0.0)) * float(g["lr"]) for g in groups]
        history.add(LEARNING_RATE, step, {str(i): rate for i, rate in enumerate(rates)})
        history.add(WEIGHT_DECAY, step, {str(i): decay for i, decay in enumerate(decays)})


def _real(loss: Tensor | float) -> Tensor | float:
    """The loss without its graph. Raises TypeError or ValueError for what is no real number."""
    if isinstance(loss, Tensor) and not loss.is_complex():
        return loss.detach()
    if isinstance(loss, str | bytes | Tensor):  # float() would read a text
        raise TypeError
    return float(loss)


def _differ(old: list[float], new: list[float]) -> bool:
    if len(old) != len(new):
        return True
    return any(
        not a <= b * LR_RESOLUTION or not b <= a * LR_RESOLUTION
        for a, b in zip(old, new, strict=True)
    )


def _numbers(losses: list[Tensor | float]) -> list[float]:
    """The losses as numbers, with one wait for the device where they allow it."""
    if not losses:
        return []
    scalars = [loss for loss in losses if isinstance(loss, Tensor) and loss.ndim == 0]
    if len(scalars) == len(losses) and len({(s.device, s.dtype) for s in scalars}) == 1:
        return [float(value) for value in torch.stack(scalars).tolist()]
    return [float(loss.mean()) if isinstance(loss, Tensor) else loss for loss in losses]
