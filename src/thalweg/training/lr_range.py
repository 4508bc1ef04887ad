"""The learning-rate range test, in a hundred steps on a copy of the model.

The rate rises by a constant factor a step, from far too small to far too large. At the smallest
smoothed loss training is about to diverge; a tenth of that rate is the suggestion, as fastai's
"minimum / 10". Source: Smith 2017, https://arxiv.org/abs/1506.01186, §3.3.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite, nan

import torch
from torch import Tensor, nn

from thalweg.borrow import preserve_random_state
from thalweg.data.batch import Batch
from thalweg.training.loop import NonFiniteLossError, Step, train

SMOOTHING = 0.9  # share of the running average that a step keeps
DIVERGED = 4.0  # times the smallest smoothed loss: the test ends there, as in fastai
SAFETY = 10.0  # divides the rate of the smallest loss


@dataclass(frozen=True, slots=True, kw_only=True)
class LrRange:
    """The curve of the range test and its suggestion."""

    lrs: tuple[float, ...]  # of each step
    losses: tuple[float, ...]  # of each step's batch, before its update
    smoothed: tuple[float, ...]
    suggestion: float  # learning rate; NaN if the loss never fell

    @property
    def fell(self) -> bool:
        return isfinite(self.suggestion)


def lr_range(
    model: nn.Module,
    batches: Iterator[Batch],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    *,
    optimizer: Callable[[nn.Module, float], torch.optim.Optimizer],
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
) -> LrRange:
    """Measure the loss at rates from `low` to `high`; suggest a rate to train with.

    `optimizer` is a function of a model and a learning rate. The model and torch's random state are
    left as they were; `batches` is read from.
    """
    assert 0 < low < high
    assert steps > 1
    with preserve_random_state():
        trial = deepcopy(model)
        losses = _losses_until_diverged(
            train(
                trial,
                batches,
                loss_fn,
                optimizer=optimizer(trial, high),
                schedule=lambda progress: (low / high) ** (1 - progress),
                steps=steps,
            )
        )
    lrs = tuple(high * (low / high) ** (1 - (i + 0.5) / steps) for i in range(len(losses)))
    smoothed = running_average(losses)
    return LrRange(
        lrs=lrs, losses=losses, smoothed=smoothed, suggestion=suggested_lr(lrs, smoothed)
    )


def _losses_until_diverged(steps: Iterator[Step]) -> tuple[float, ...]:
    """The losses up to the divergence of their average."""
    losses: tuple[float, ...] = ()
    try:
        for step in steps:
            losses += (step.loss.item(),)
            smoothed = running_average(losses)
            if smoothed[-1] > DIVERGED * min(smoothed) > 0:
                break
    except NonFiniteLossError:
        pass  # the largest rate that trains has been passed: not a failure here
    return losses


def running_average(losses: tuple[float, ...]) -> tuple[float, ...]:
    """Exponential moving averages of the losses, corrected for their start at zero."""
    average, averages = 0.0, []
    for index, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        averages.append(average / (1 - SMOOTHING**index))
    return tuple(averages)


def suggested_lr(lrs: tuple[float, ...], smoothed: tuple[float, ...]) -> float:
    """A tenth of the rate with the smallest smoothed loss; NaN if that is the first."""
    if not smoothed:
        return nan
    best = min(range(len(smoothed)), key=smoothed.__getitem__)
    return lrs[best] / SAFETY if best > 0 else nan
