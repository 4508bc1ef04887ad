"""An instrument: a function from one moment of training to measurements of some quantities."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.errors import ThalwegError
from thalweg.observe.data_sample import DataSample
from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.loss_graph import LossGraph, read_graph
from thalweg.observe.targets_from_gradient import targets_from_gradient
from thalweg.record import History, Quantity

Measurements = Mapping[str, Tensor | float]  # place -> scalar, still on its device
When = Literal[
    "update",  # in the optimizer's hooks, at a reading
    "loss",  # at a reading, once the loss is known
    "probe",  # before the first update, a few times more, and at the end
    "samples",  # once, when training is over: of the data alone
    "end",  # when training is over
]


FEWEST = 128  # samples that a pass through the model takes, however short the run
SHARE = 40  # one in so many of the samples that were trained on, at most


@dataclass(slots=True)
class Shared:
    """Results of one instrument that another one uses at the same moment."""

    train_outputs: Tensor | None = None  # of the first training samples, in eval mode


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Training around one update: what an instrument may read, and must not change."""

    step: int
    model: nn.Module
    optimizers: tuple[Optimizer, ...]
    names: list[str] = field(default_factory=list)  # of the weights that were just updated
    weights: list[Tensor] = field(default_factory=list)  # detached, after the update
    gradients: list[Tensor | None] = field(default_factory=list)
    copies: list[Tensor] | None = None  # of the weights before the update
    skip_flag: Tensor | None = None  # not 0 where the optimizer made no update after all
    logits: Tensor | None = None  # output of the model for the last batch, detached
    batch_targets: Tensor | None = None  # of the last batch, where the user passed them in
    recovers_targets: bool = False  # read missing ones off the gradient, with a wait or two
    loss: Tensor | None = None  # with its graph
    forward: ForwardPass | None = None  # the last training pass that the hooks saw
    validation: ForwardPass | None = None  # the last pass without gradient
    leftover_norms: Mapping[str, Tensor | float] = field(default_factory=dict)
    called: frozenset[str] = frozenset()  # modules that ran in the last training pass
    train: DataSample | None = None  # while training only if an instrument needs samples
    val: DataSample | None = None
    loss_fn: Callable[..., Any] | None = None
    num_classes: int = 0  # 0 where it is not known
    history: History = field(default_factory=History)
    shared: Shared = field(default_factory=Shared)

    @cached_property
    def graph(self) -> LossGraph | None:
        """The operations between the model's output and the loss."""
        return read_graph(self.loss, None if self.forward is None else self.forward.output_node)

    @cached_property
    def recovered_targets(self) -> Tensor | None:
        """The last batch's targets as the gradient at the model's output shows them."""
        return targets_from_gradient(self.forward, self.graph, self.loss)

    @property
    def targets(self) -> Tensor | None:
        """The last batch's targets: as passed in, else read off the gradient."""
        if self.batch_targets is not None:
            return self.batch_targets
        return self.recovered_targets if self.recovers_targets else None

    @cached_property
    def gradient_norms(self) -> dict[str, Tensor]:
        """The L2 norm of each dense gradient, by the name of its weight."""
        return _norms(zip(self.names, self.gradients, strict=True))

    @cached_property
    def matrix_norms(self) -> dict[str, Tensor]:
        """The L2 norm of each weight of two dimensions or more: before the update if copied."""
        weights = self.weights if self.copies is None else self.copies
        pairs = zip(self.names, weights, strict=True)
        return _norms((name, weight) for name, weight in pairs if weight.ndim >= 2)

    @property
    def weights_before(self) -> list[Tensor]:
        """The weights as they were before the update, in the order of `names`."""
        if self.copies is None:
            raise ThalwegError(
                "an instrument read the weights of before the update, but no copy was made",
                fix="declare it: @instrument(..., keeps_weights=True)",
            )
        return self.copies

    def autocast(self) -> AbstractContextManager[object]:
        """Turn on the autocast that the user's loop puts around the model, if any."""
        return nullcontext() if self.forward is None else self.forward.autocast()

    def affordable(self, most: int) -> int:
        """Samples to pass through the model: at most a fortieth of those trained on.

        At least 128, on which a share is known to a few points. Counted, not timed, so that a
        resumed run measures the same as an uninterrupted one.
        """
        sizes = () if self.train is None else self.train.batch_sizes
        batch_size = sizes[0] if sizes else 1
        return min(most, max(FEWEST, self.step * batch_size // SHARE))


def _norms(named: Iterable[tuple[str, Tensor | None]]) -> dict[str, Tensor]:
    dense = {name: one for name, one in named if one is not None and one.layout == torch.strided}
    return dict(zip(dense, torch._foreach_norm(list(dense.values())), strict=True)) if dense else {}


@dataclass(frozen=True, slots=True)
class Instrument:
    """Quantities and how they are measured. Never `.item()` in a loop: one wait a reading."""

    quantities: tuple[Quantity, ...]
    measure: Callable[[Moment], Any]
    when: When
    keeps_weights: bool  # costs one copy of the model while a reading is due
    needs_samples: bool  # the loaders are read before the first step, at their cost
    rare: bool  # what it measures seldom changes: at the first readings, then at every sixth
    repeats_at_end: bool  # of a "loss" instrument: once more at the end, when samples are there

    def __call__(self, moment: Moment) -> Mapping[Quantity, Measurements]:
        """Measure; an empty mapping means "not applicable"."""
        measured = self.measure(moment)
        return measured if len(self.quantities) > 1 else {self.quantities[0]: measured}


def instrument(
    *quantities: Quantity,
    when: When = "update",
    keeps_weights: bool = False,
    needs_samples: bool = False,
    rare: bool = False,
    repeats_at_end: bool = False,
) -> Callable[[Callable[[Moment], Any]], Instrument]:
    """Turn a measuring function into an instrument.

    Of one quantity it returns {place: scalar}, of several {quantity: {place: scalar}}.
    """
    flags = keeps_weights, needs_samples, rare, repeats_at_end
    return lambda measure: Instrument(quantities, measure, when, *flags)
