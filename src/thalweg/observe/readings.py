"""The readings of one training: at a few steps, hooks are on and the instruments measure.

Between two readings no hook is attached, and nothing is done.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.observe.bare_copy import bare_module, named_weights
from thalweg.observe.data_sample import inputs_and_targets
from thalweg.observe.ddp_outputs import module_in_ddp
from thalweg.observe.forward_hooks import CallHooks
from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.guard import Guard, NotMeasurableError
from thalweg.observe.hooks import StepHooks, ValidationHook
from thalweg.observe.instrument import REGRESSIVE, Moment, PassCounts
from thalweg.observe.instrument_runner import InstrumentRunner
from thalweg.observe.local_shard import local_gradient, local_part, whole_norm_factor, whole_value
from thalweg.observe.loop_state import stepping_scaler
from thalweg.observe.model_copies import ModelCopies
from thalweg.observe.rank_digests import RankDigests
from thalweg.observe.reading_schedule import first_reading, next_probe, next_reading
from thalweg.observe.restored_weights import RestoredWeights
from thalweg.observe.spaced_entries import (
    MOST_OF_OUTPUT,
    entries_per_tensor,
    output_strides,
    strided,
    target_strides,
)
from thalweg.observe.split_samples import SplitSamples
from thalweg.observe.update_hooks import Update, UpdateHooks
from thalweg.record.quantities import DATA_WAIT, SATURATED, STEP_TIME

EVERY = 20  # steps from one reading to the next while the run is young
THOROUGH = 6  # first readings at which everything is measured
RARE = 6  # after them, what seldom changes is measured at every so many readings

AnyBatch = Tensor | Sequence[Any] | Mapping[str, Any]  # as a loader gives it
Batch = Sequence[Any]  # (inputs, targets); either may be None where the user has not got it


class Readings:
    """Decides which steps are read, makes the moment of each, and hands it to the instruments."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Any, ...],
        *,
        runner: InstrumentRunner,
        samples: SplitSamples,
        loss_fn: Callable[..., Any] | None,
        guard: Guard,
        first_step: int,
    ) -> None:
        self._calls = CallHooks(module_in_ddp(model), guard.report_failure)
        self.validation = ValidationHook(self._calls)
        self.scaler: Any = None  # the gradient scaler that made an update, if one was seen
        self.due = first_reading(first_step, EVERY)  # the step of the next reading
        self._model, self._bare = model, bare_module(model)
        self._optimizers, self._loss_fn = optimizers, loss_fn
        self._runner, self._samples, self._guard = runner, samples, guard
        self._first_step = first_step
        self._count = 0
        self._hooks: StepHooks | None = None
        self._updates: UpdateHooks | None = None
        self._sees_updates = True  # an update in each reading, so far
        self._called: frozenset[str] = frozenset()  # modules that ran when the model was probed
        self._forward: ForwardPass | None = None  # the last training pass
        self._last_thorough: Moment | None = None
        self._next_probe, self._last_probe = first_step, -1
        self._completed_at, self._samples_read = -1, False
        self._ranks = RankDigests(self._bare, guard.history)
        self._copies = ModelCopies(self._bare, guard)
        self._weights: set[str] = set()  # names of the model's, at the last reading
        self._restored = RestoredWeights(self._bare, guard)

    def attach(self, step: int) -> None:
        """Put the hooks on: the coming step is to be read."""
        first = partial(self._probe_untrained, step) if step == self._first_step else None
        if first is not None:
            self._ranks.begin()  # and again before the update: a wrapper may share weights out
        if self._updates is not None:
            self._updates.remove()
        self._updates = UpdateHooks(
            self._model,
            self._optimizers,
            keeps_weights=self._runner.keeps_weights,
            on_update=self._measure_update,
            report_failure=self._guard.report_failure,
            compares=not self._sees_updates,
        )
        self._hooks = StepHooks(
            self._model,
            self._updates,
            calls=self._calls,
            report_failure=self._guard.report_failure,
            on_first_update=first,
            thorough=self._is_thorough,
        )
        if first is None:  # else the model may be compiled yet, before it is first called
            self._copies.begin()

    def finish(
        self, step: int, loss: Tensor | float, *, batch: AnyBatch | None, logits: Tensor | None
    ) -> None:
        """Measure all that needs the loss; the update was measured when it was made."""
        hooks = self._hooks
        if hooks is None:
            return
        self._copies.end()  # before the instruments call copies of their own
        hooks.finish()
        pair = batch_pair(batch)
        self._sees_updates &= hooks.updates.ran
        self._forward = hooks.forward or self._forward
        self._record_times(step, hooks)
        shape, output = _shape_and_part(hooks.forward, logits)
        moment = self._moment(
            step,
            loss=loss if isinstance(loss, Tensor) else None,
            leftover_norms=hooks.leftover_norms if self._sees_updates else {},
            arrived=hooks.arrived(),
            trainable=hooks.trainable,
            called=frozenset(hooks.called) or self._called,
            logits=output,
            passes=_passes(hooks),
            batch_size=shape[0] if shape else self._forward.batch_size if self._forward else 0,
            batch_inputs=_inputs(pair),
            batch_targets=_targets(pair, shape),
            recovers_targets=self._is_thorough,
        )
        with self._guard("data"):
            self._learn_of_data(moment, pair)
        self._runner.measure(moment, "loss", thorough=self._is_thorough)
        with self._guard("ranks"):
            self._ranks.record(step, None if hooks.forward is None else hooks.forward.first_input)
        with self._guard("copies"):
            self._copies.record(moment)
        moment = moment.without_graph()
        self._forward = moment.forward
        if self._is_thorough:
            self._last_thorough = moment
        self._probe(moment)

    def detach(self, step: int) -> None:
        """Remove the hooks until the next reading."""
        self._remove_hooks()
        self._weights = {name for name, _ in named_weights(self._bare)}
        self._count += 1
        self.due = next_reading(step, EVERY)

    def set_loaders(self, train: Iterable[Any] | None, val: Iterable[Any] | None) -> None:
        """Loaders to be read at the end."""
        self._samples.set_loaders(train, val)
        self._samples_read, self._completed_at = False, -1

    def stop(self) -> None:
        """Remove every hook for good."""
        self._remove_hooks()
        if self._updates is not None:
            self._updates.remove()
        self.validation.stop()
        self._restored.remove()
        self._calls.remove()
        self.due = -1

    def complete(self, next_step: int) -> None:
        """Measure what is costly, and what is needed only once: nobody trains now."""
        if next_step == self._completed_at:
            return
        self._completed_at = next_step
        step = max(self._first_step, next_step - 1)
        fresh, self._samples_read = not self._samples_read, True
        if fresh:
            self._samples.read_loaders()
        last = self._last_thorough
        moment = self._moment(step, last_batch=last)
        if last is not None:
            again = replace(last, step=step, train=moment.train, val=moment.val)
            self._runner.repeat_at_end(again)
        if fresh:  # what the loss compares is known by now
            self._runner.measure(moment, "samples")
        with self._guard("the model at the end"):
            self._check_weights()
            self._runner.measure(moment, "probe")
            self._runner.measure(moment, "end")
        with self._guard("ranks"):
            self._ranks.compare()
        with self._guard("copies"):
            self._copies.complete(step)

    def _check_weights(self) -> None:
        """Raise NotMeasurableError if the model has other weights than at the last reading."""
        weights = {name for name, _ in named_weights(self._bare)}
        if self._weights and weights != self._weights:
            fresh = min(weights ^ self._weights)
            raise NotMeasurableError("it has other weights than while it trained", seen=fresh)

    @property
    def _is_thorough(self) -> bool:
        """True if this reading is one of those that measure everything."""
        return self._count < THOROUGH or self._count % RARE == 0

    def _remove_hooks(self) -> None:
        self._copies.end()
        if self._hooks is not None:
            self._hooks.remove()
            self._hooks = None
        if self._updates is not None and self._updates.ran:
            self._updates.remove()  # else they wait for the update of a later step

    def _probe_untrained(self, step: int, forward: ForwardPass) -> None:
        """Probe the model as it was initialised, once its first inputs are known."""
        self._forward = forward.without_graph()
        self._last_probe = step
        with self._guard("ranks"):
            self._ranks.begin()
        moment = self._moment(step)
        self._runner.measure(moment, "probe")
        self._called = moment.shared.called

    def _probe(self, moment: Moment) -> None:
        """Probe the model now and then; more often where something may saturate."""
        step = moment.step
        if step < self._next_probe:
            return
        if self._last_probe != step:
            self._runner.measure(moment, "probe")
        often = self._runner.needs_samples or self._runner.has_measured(SATURATED)
        self._next_probe = next_probe(step, EVERY, often=often)

    def _measure_update(self, update: Update) -> None:
        self.scaler = self.scaler or stepping_scaler()
        weights = update.weights
        parts = [local_part(weight).detach() for _, weight in weights]
        moment = self._moment(
            self._guard.step,  # later than the reading where batches are gathered for an update
            names=[name for name, _ in weights],
            weights=parts,
            gradients=[local_gradient(weight) for _, weight in weights],
            copies=update.copies,
            entries=entries_per_tensor(parts),
            norm_factors=[whole_norm_factor(weight) for _, weight in weights],
            skip_flag=_skip_flag(update.optimizer),
            in_update=update.in_hook,
        )
        self._runner.measure(moment, "update", thorough=self._is_thorough)

    def _moment(self, step: int, **fields: Any) -> Moment:
        return Moment(
            step=step,
            model=self._bare,
            optimizers=self._optimizers,
            forward=self._forward,
            validation=self.validation.forward,
            train=self._samples.train,
            val=self._samples.val,
            loss_fn=self._loss_fn,
            num_classes=self._samples.num_classes,
            history=self._guard.history,
            **fields,
        )

    def _learn_of_data(self, moment: Moment, batch: Batch | None) -> None:
        """Infer the number of classes from this batch, and keep it as a sample."""
        graph = moment.graph
        is_regression = graph is not None and graph.kind in REGRESSIVE
        recovers = moment.recovers_targets and not is_regression  # integers may choose an output
        compared = moment.comparison.targets if recovers else None
        self._samples.infer_num_classes(moment.logits, compared, step=moment.step)
        inputs = batch[0] if batch else None
        if not isinstance(inputs, Tensor):
            inputs = None if moment.forward is None else moment.forward.first_input
        whole = moment.forward is None or moment.forward.is_whole
        targets = batch[1] if batch is not None and len(batch) > 1 else None
        if not isinstance(targets, Tensor):
            targets = moment.targets if whole else None
        self._samples.keep_batch(inputs, targets)

    def _record_times(self, step: int, hooks: StepHooks) -> None:
        whole = perf_counter() - hooks.began
        wait = hooks.forward_at - hooks.began
        if step > self._first_step and 0 <= wait <= whole:
            self._guard.history.add(STEP_TIME, step, {"": whole})
            self._guard.history.add(DATA_WAIT, step, {"": wait / whole})


def batch_pair(batch: Any) -> Batch | None:
    """The batch as (inputs, targets); None for neither.

    People pass what their loader gives: a pair, a mapping with the usual names, or inputs alone.
    What of three things or more the targets are is not known.
    """
    if batch is None or (isinstance(batch, tuple | list) and len(batch) == 2):
        return batch
    if isinstance(batch, tuple | list):
        return (batch[0], None) if batch else None
    return inputs_and_targets(batch)


def _passes(hooks: StepHooks) -> PassCounts:
    """The least count over the weights: recomputation in checkpoints adds to some of them."""
    return PassCounts(
        forwards=hooks.forwards,
        backwards=min(hooks.backwards.values(), default=0),
        updates=int(hooks.updates.ran),
        with_gradient=frozenset(hooks.called_with_gradient),
        outputs=tuple(hooks.outputs),
        cleared=hooks.cleared.share(),
    )


def _skip_flag(optimizer: Any) -> Tensor | None:
    """A copy of the flag by which torch.amp.GradScaler has a fused optimizer skip an update.

    It stays on the device; other optimizers are not called for such a step.
    """
    flag = getattr(optimizer, "found_inf", None)
    return flag.detach().clone() if isinstance(flag, Tensor) else None


def _shape_and_part(
    forward: ForwardPass | None, logits: Tensor | None
) -> tuple[tuple[int, ...], Tensor | None]:
    """The shape of the batch's outputs, and evenly spaced ones of them."""
    if logits is None:
        return ((), None) if forward is None else (forward.output_shape, forward.output)
    value = whole_value(logits.detach())
    if value is None or value.is_nested:
        return (), None
    strides = output_strides(value.shape, MOST_OF_OUTPUT // value.itemsize)
    return tuple(value.shape), strided(value, strides)


def _inputs(batch: Batch | None) -> Tensor | None:
    inputs = None if batch is None else batch[0]
    if not isinstance(inputs, Tensor) or not inputs.ndim or inputs.is_nested:
        return None
    return inputs if inputs.layout == torch.strided else None


def _targets(batch: Batch | None, output: tuple[int, ...]) -> Tensor | None:
    """The targets that belong to the outputs that are kept."""
    targets = batch[1] if batch is not None and len(batch) > 1 else None
    value = whole_value(targets.detach()) if isinstance(targets, Tensor) else None
    if value is None or value.is_nested:
        return None
    strides = target_strides(value.shape, output, MOST_OF_OUTPUT // value.itemsize)
    return strided(value, strides)
