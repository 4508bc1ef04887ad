"""The learning-rate range test: which rates train, seen in a hundred steps on a copy.

The rate rises by a constant factor a step, from far too small to far too large. Where the smoothed
loss is least, training is about to break; a tenth of that rate is the suggestion, as fastai's
"minimum / 10". Source: Smith 2017, https://arxiv.org/abs/1506.01186, §3.3.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite, nan

import torch
from torch import Tensor, nn

from thalweg.data.batch import Batch
from thalweg.training.loop import NonFiniteLossError, Step, train

SMOOTHING = 0.9  # share of the running average that a step keeps
BROKEN = 4.0  # times the least smoothed loss: beyond it the test is over, as in fastai
SAFETY = 10.0  # below the rate of the least loss


@dataclass(frozen=True, slots=True, kw_only=True)
class LrRange:
    """The curve, and what follows from it."""

    lrs: tuple[float, ...]  # of each step
    losses: tuple[float, ...]  # of each step's batch, before its update
    smoothed: tuple[float, ...]
    suggestion: float  # NaN where the loss never fell

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
    """Losses at rates from `low` to `high`, and a rate to train with.

    `optimizer` makes one for a model, with a learning rate. The model itself is left as it is, and
    so is torch's random state; `batches` is read from.
    """
    assert 0 < low < high
    assert steps > 1
    with torch.random.fork_rng():
        trial = deepcopy(model)
        losses = _climb(
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
    smoothed = smooth(losses)
    return LrRange(lrs=lrs, losses=losses, smoothed=smoothed, suggestion=suggested(lrs, smoothed))


def _climb(steps: Iterator[Step]) -> tuple[float, ...]:
    """The losses until they break."""
    losses: tuple[float, ...] = ()
    try:
        for step in steps:
            losses += (step.loss.item(),)
            smoothed = smooth(losses)
            if smoothed[-1] > BROKEN * min(smoothed) > 0:
                break
    except NonFiniteLossError:
        pass  # the far end of what can be trained with: not a failure here
    return losses


def smooth(losses: tuple[float, ...]) -> tuple[float, ...]:
    """Exponential averages, corrected for their start at zero."""
    average, found = 0.0, []
    for index, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        found.append(average / (1 - SMOOTHING**index))
    return tuple(found)


def suggested(lrs: tuple[float, ...], smoothed: tuple[float, ...]) -> float:
    """A tenth of the rate at which the smoothed loss is least; NaN if it is least at the start."""
    if not smoothed:
        return nan
    best = min(range(len(smoothed)), key=smoothed.__getitem__)
    return lrs[best] / SAFETY if best > 0 else nan
