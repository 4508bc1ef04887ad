"""An instrument: a function from one moment of training to measurements of some quantities."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import nan, prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.observe.compared_targets import Comparison, compare
from thalweg.observe.data_sample import DataSample
from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.loss_graph import LossGraph, read_graph
from thalweg.observe.spaced_entries import compact, norms, spaced_entries
from thalweg.observe.targets_from_gradient import targets_from_gradient
from thalweg.record import History, Quantity
from thalweg.record.quantities import LOSS_KIND, TARGET_ROW_SUM, TARGETS_COMPARED

Measurements = Mapping[str, Tensor | float]  # place -> scalar, still on its device
When = Literal[
    "update",  # in the optimizer's hooks, at a reading
    "loss",  # at a reading, once the loss is known
    "probe",  # before the first update, a few times more, and at the end
    "samples",  # once, when training is over: of the data alone
    "end",  # when training is over
]


MOST_PASSED = 48 * 2**20  # bytes of their inputs, or of their outputs, in single precision
FEWEST = 128  # samples that a pass through the model takes, however short the run
REGRESSIVE = ("mse", "l1", "smooth_l1")
SHARE = 40  # one in so many of the samples that were trained on, at most


@dataclass(slots=True)
class Shared:
    """Results of one instrument that another one uses at the same moment."""

    train_outputs: Tensor | None = None  # of the first training samples, in eval mode
    called: frozenset[str] = frozenset()  # modules that ran when the model was probed


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCounts:
    """Passes from one call of step() to the next, as the hooks of a reading counted them."""

    forwards: int = 0  # of the model, with gradient
    backwards: int = 0  # that reached every weight which has a gradient
    updates: int = 0  # 1 where an optimizer made one or more
    with_gradient: frozenset[str] = frozenset()  # modules that ran while gradient was recorded
    outputs: tuple[Tensor, ...] = ()  # some entries of the outputs of the first passes
    cleared: Tensor | None = None  # share of the later backward passes that met no gradient


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Training around one update: what an instrument may read, and must not change."""

    step: int
    model: nn.Module
    optimizers: tuple[Any, ...]
    names: list[str] = field(default_factory=list)  # of the weights that were just updated
    weights: list[Tensor] = field(default_factory=list)  # detached, after the update
    gradients: list[Tensor | None] = field(default_factory=list)
    copies: list[Tensor] | None = None  # of entries of the weights, as before the update
    entries: list[int] = field(default_factory=list)  # so many of each weight were copied
    norm_factors: list[float] = field(default_factory=list)  # 1 for a weight that is not sharded
    skip_flag: Tensor | None = None  # not 0 where the optimizer made no update after all
    logits: Tensor | None = None  # output of the model for the last batch, detached
    batch_inputs: Tensor | None = None  # of the last batch, where they were passed in beside these
    batch_targets: Tensor | None = None  # of the last batch, where the user passed them in
    recovers_targets: bool = False  # read missing ones off the gradient, with a wait or two
    batch_size: int = 0  # samples in the last batch; `logits` may hold fewer
    loss: Tensor | None = None  # with its graph
    earlier_graph: LossGraph | None = None  # of an earlier moment, whose loss is gone
    earlier_targets: Tensor | None = None  # the same of `recovered_targets`
    earlier_comparison: Comparison | None = None  # the same of `comparison`
    forward: ForwardPass | None = None  # the last training pass that the hooks saw
    validation: ForwardPass | None = None  # the last pass without gradient
    leftover_norms: Mapping[str, Tensor | float] = field(default_factory=dict)
    arrived: frozenset[str] | None = None  # weights that a gradient reached, where that is known
    trainable: frozenset[str] | None = None  # weights that asked for gradient as the step began
    in_update: bool = False  # in an optimizer's hook: the gradients are those that it sees
    called: frozenset[str] = frozenset()  # modules that ran in the last training pass
    passes: PassCounts = PassCounts()
    last_batch: "Moment | None" = None  # at the end: the last reading that measured everything
    train: DataSample | None = None  # while training only if an instrument needs samples
    val: DataSample | None = None
    loss_fn: Callable[..., Any] | None = None
    num_classes: int = 0  # 0 where it is not known
    history: History = field(default_factory=History)
    shared: Shared = field(default_factory=Shared)

    @cached_property
    def graph(self) -> LossGraph | None:
        """The operations between the model's output and the loss."""
        if self.loss is None:
            return self.earlier_graph
        return read_graph(self.loss, None if self.forward is None else self.forward.output_node)

    @cached_property
    def recovered_targets(self) -> Tensor | None:
        """The last batch's targets as the gradient at the model's output shows them."""
        if self.loss is None:
            return self.earlier_targets
        return targets_from_gradient(self.forward, self.graph, self.loss)

    @cached_property
    def comparison(self) -> Comparison:
        """The targets that the loss compares, and if the batch's labels are these."""
        if self.earlier_comparison is not None:
            return self.earlier_comparison
        recovered = self.recovered_targets if self.recovers_targets else None
        labels = self.batch_targets
        return compare(labels, self.forward, self.graph, loss=self.loss, recovered=recovered)

    def without_graph(self) -> "Moment":
        """The same moment to be held until the end: what was read off the graph, not the graph."""
        return replace(
            self,
            loss=None,
            earlier_graph=self.graph,
            earlier_targets=vars(self).get("recovered_targets"),
            earlier_comparison=_compact(self.comparison) if self.recovers_targets else None,
            logits=None if self.logits is None else compact(self.logits),
            batch_inputs=None,
            batch_targets=None if self.batch_targets is None else compact(self.batch_targets),
            forward=None if self.forward is None else self.forward.without_graph(),
            shared=Shared(),
        )

    @property
    def targets(self) -> Tensor | None:
        """The last batch's targets: as passed in, unless the loss compares others."""
        if not self.recovers_targets:
            return None if self.labels_compared is False else self.batch_targets
        agree = self.comparison.labels_agree
        if self.batch_targets is not None and agree is not False:
            return self.batch_targets
        return self.comparison.targets

    @property
    def labels_compared(self) -> bool | None:
        """True where the labels passed in are the targets of the loss; None if not known."""
        series = self.history.series(TARGETS_COMPARED, "batch")
        return bool(series[max(series)] == 1) if series else None

    def class_labels(self, sample: DataSample | None) -> Tensor | None:
        """The samples' classes, where the loss compares classes; None where it does not.

        Labels that no loss was seen to compare are classes only if the user passed in their number.
        """
        classes = None if sample is None else sample.classes
        if sample is None or classes is None or bool((classes < 0).any()):
            return None
        series = self.history.series(TARGETS_COMPARED, "loader")
        agree = series[max(series)] if series else nan
        if agree == 0 or (not self.num_classes and (agree != 1 or not self._compares_classes)):
            return None
        first = classes[: sample.batch_sizes[0]]
        in_batch = len(first) > 1 and torch.equal(first, torch.arange(len(first)))
        return None if in_batch else classes  # positives of a contrastive loss are no classes

    @property
    def _compares_classes(self) -> bool:
        """True unless the loss is one of differences, of numbers that are no one-hot code."""
        one_hot = self.history.series(TARGET_ROW_SUM)
        differences = any(one in REGRESSIVE for one in self.history.by_place(LOSS_KIND))
        return not differences or (bool(one_hot) and one_hot[max(one_hot)] == 1)

    @cached_property
    def gradient_norms(self) -> dict[str, Tensor]:
        """The L2 norm of each dense gradient, by the name of its weight."""
        return _norms(zip(self.names, self.gradients, strict=True))

    @cached_property
    def sampled_gradient_norms(self) -> dict[str, Tensor]:
        """The L2 norm of the entries of each matrix's gradient that `matrix_norms` reads."""
        norms = {
            name: self.gradient_norms[name]
            for name in self.matrix_norms
            if name in self.gradient_norms
        }
        if self.copies is None:
            return norms
        parts = zip(self.names, self.gradients, self.entries, strict=True)
        sampled = (
            (name, spaced_entries(gradient, entries))
            for name, gradient, entries in parts
            if name in norms and gradient is not None and entries < gradient.numel()
        )
        return norms | _norms(sampled)

    @cached_property
    def matrix_norms(self) -> dict[str, Tensor]:
        """The L2 norm of each weight of two dimensions or more: before the update if copied.

        Of a large one's sampled entries, for want of a copy of all.
        """
        weights = self.weights if self.copies is None else self.copies
        pairs = zip(self.names, weights, strict=True)
        return _norms((name, weight) for name, weight in pairs if weight.ndim >= 2)

    @property
    def weights_before(self) -> list[Tensor]:
        """The weights as they were before the update, in the order of `names`.

        Of a large model evenly spaced entries of each weight: `weights_after` has the same ones.
        """
        if self.copies is None:
            raise ThalwegError(
                "an instrument read the weights of before the update, but no copy was made",
                fix="declare it: @instrument(..., keeps_weights=True)",
            )
        return self.copies

    @property
    def weights_after(self) -> list[Tensor]:
        """Views of the entries of `weights_before`, after the update."""
        pairs = zip(self.weights, self.entries, strict=True)
        return [spaced_entries(weight, entries) for weight, entries in pairs]

    @property
    def counts_passes(self) -> bool:
        """False where another library's optimizer gathers the gradients of several passes."""
        return not any(getattr(one, "accumulates", False) for one in self.optimizers)

    def autocast(self) -> AbstractContextManager[object]:
        """Turn on the autocast that the user's loop puts around the model, if any."""
        return nullcontext() if self.forward is None else self.forward.autocast()

    def affordable(self, most: int) -> int:
        """Samples to pass through the model: at most a fortieth of those trained on.

        At least 128, on which a share is known to a few points, unless their inputs or outputs
        (words × vocabulary) are large. Counted, not timed, so that a resumed run measures the same
        as an uninterrupted one.
        """
        sizes = () if self.train is None else self.train.batch_sizes
        batch_size = sizes[0] if sizes else 1
        numbers = 1 if self.forward is None else prod(self.forward.output_shape[1:])
        if self.train is not None:
            numbers = max(numbers, prod(self.train.inputs.shape[1:]))
        fitting = max(2, MOST_PASSED // (4 * max(1, numbers)))
        return min(most, fitting, max(FEWEST, self.step * batch_size // SHARE))


def _compact(comparison: Comparison) -> Comparison:
    targets = comparison.targets
    return comparison._replace(targets=None if targets is None else compact(targets))


def _norms(named: Iterable[tuple[str, Tensor | None]]) -> dict[str, Tensor]:
    dense = {name: one for name, one in named if one is not None and one.layout == torch.strided}
    return dict(zip(dense, norms(list(dense.values())), strict=True)) if dense else {}


@dataclass(frozen=True, slots=True)
class Instrument:
    """Quantities and how they are measured. Never `.item()` in a loop: one wait a reading."""

    quantities: tuple[Quantity, ...]
    measure: Callable[[Moment], Any]
    when: When
    keeps_weights: bool  # costs a copy of a bounded part of the weights while a reading is due
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
