"""The readings of one training: at a few steps, hooks are on and the instruments measure.

Between two readings no hook is attached, and nothing is done.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.guard import Guard
from thalweg.observe.hooks import NamedWeights, StepHooks, ValidationHook
from thalweg.observe.instrument import Moment
from thalweg.observe.instrument_runner import InstrumentRunner
from thalweg.observe.reading_schedule import first_reading, next_probe, next_reading
from thalweg.observe.split_samples import SplitSamples
from thalweg.record.quantities import DATA_WAIT, SATURATED, STEP_TIME

EVERY = 20  # steps from one reading to the next while the run is young
THOROUGH = 6  # first readings at which everything is measured
RARE = 6  # after them, what seldom changes is measured at every so many readings

Batch = Sequence[Any]  # (inputs, targets); either may be None where the user has not got it


class Readings:
    """Decides which steps are read, makes the moment of each, and hands it to the instruments."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Optimizer, ...],
        *,
        runner: InstrumentRunner,
        samples: SplitSamples,
        loss_fn: Callable[..., Any] | None,
        guard: Guard,
        first_step: int,
    ) -> None:
        self.validation = ValidationHook(model, guard.report_failure)
        self.due = first_reading(first_step, EVERY)  # the step of the next reading
        self._model, self._optimizers, self._loss_fn = model, optimizers, loss_fn
        self._runner, self._samples, self._guard = runner, samples, guard
        self._first_step = first_step
        self._count = 0
        self._hooks: StepHooks | None = None
        self._forward: ForwardPass | None = None  # the last training pass
        self._last_thorough: Moment | None = None
        self._next_probe, self._last_probe = first_step, -1
        self._completed_at, self._samples_read = -1, False

    def attach(self, step: int) -> None:
        """Put the hooks on: the coming step is to be read."""
        first = partial(self._probe_untrained, step) if step == self._first_step else None
        self._hooks = StepHooks(
            self._model,
            self._optimizers,
            keeps_weights=self._runner.keeps_weights,
            on_update=partial(self._measure_update, step=step),
            report_failure=self._guard.report_failure,
            on_first_forward=first,
            thorough=self._is_thorough,
        )

    def finish(
        self, step: int, loss: Tensor | float, *, batch: Batch | None, logits: Tensor | None
    ) -> None:
        """Measure all that needs the loss; the update was measured when it was made."""
        hooks = self._hooks
        if hooks is None:
            return
        self._forward = hooks.forward or self._forward
        self._record_times(step, hooks)
        output = None if hooks.forward is None else hooks.forward.output
        moment = self._moment(
            step,
            loss=loss if isinstance(loss, Tensor) else None,
            leftover_norms=hooks.leftover_norms,
            called=frozenset(hooks.called),
            logits=output if logits is None else logits.detach(),
            batch_targets=_targets(batch),
            recovers_targets=self._is_thorough,
        )
        self._learn_of_data(moment, batch)
        self._runner.measure(moment, "loss", thorough=self._is_thorough)
        if self._is_thorough:
            self._last_thorough = moment
        self._probe(moment)

    def detach(self, step: int) -> None:
        """Remove the hooks until the next reading."""
        self._remove_hooks()
        self._count += 1
        self.due = next_reading(step, EVERY)

    def set_loaders(self, train: Iterable[Any] | None, val: Iterable[Any] | None) -> None:
        """Loaders to be read at the end."""
        self._samples.set_loaders(train, val)
        self._samples_read, self._completed_at = False, -1

    def stop(self) -> None:
        """Remove every hook for good."""
        self._remove_hooks()
        self.validation.stop()
        self.due = -1

    def complete(self, next_step: int) -> None:
        """Measure what is costly, and what is needed only once: nobody trains now."""
        if next_step == self._completed_at:
            return
        self._completed_at = next_step
        step = max(self._first_step, next_step - 1)
        if not self._samples_read:
            self._samples_read = True
            self._samples.read_loaders()
            self._runner.measure(self._moment(step), "samples")
        moment, last = self._moment(step), self._last_thorough
        if last is not None:
            targets, train, val = last.targets, moment.train, moment.val
            again = replace(last, step=step, batch_targets=targets, train=train, val=val)
            self._runner.repeat_at_end(again)
        self._runner.measure(moment, "probe")
        self._runner.measure(moment, "end")

    @property
    def _is_thorough(self) -> bool:
        """True if this reading is one of those that measure everything."""
        return self._count < THOROUGH or self._count % RARE == 0

    def _remove_hooks(self) -> None:
        if self._hooks is not None:
            self._hooks.remove()
            self._hooks = None

    def _probe_untrained(self, step: int, forward: ForwardPass) -> None:
        """Probe the model as it was initialised, once its first inputs are known."""
        self._forward = forward
        self._last_probe = step
        self._runner.measure(self._moment(step), "probe")

    def _probe(self, moment: Moment) -> None:
        """Probe the model now and then; more often where something may saturate."""
        step = moment.step
        if step < self._next_probe:
            return
        if self._last_probe != step:
            self._runner.measure(moment, "probe")
        often = self._runner.needs_samples or self._runner.has_measured(SATURATED)
        self._next_probe = next_probe(step, EVERY, often=often)

    def _measure_update(
        self, optimizer: Optimizer, weights: NamedWeights, copies: list[Tensor] | None, *, step: int
    ) -> None:
        moment = self._moment(
            step,
            names=[name for name, _ in weights],
            weights=[weight.detach() for _, weight in weights],
            gradients=[weight.grad for _, weight in weights],
            copies=copies,
            skip_flag=_skip_flag(optimizer),
        )
        self._runner.measure(moment, "update", thorough=self._is_thorough)

    def _moment(self, step: int, **fields: Any) -> Moment:
        return Moment(
            step=step,
            model=self._model,
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
        self._samples.infer_num_classes(moment.logits, moment.targets, step=moment.step)
        inputs = batch[0] if batch else None
        if not isinstance(inputs, Tensor):
            inputs = None if moment.forward is None else moment.forward.first_input
        self._samples.keep_batch(inputs, moment.targets)

    def _record_times(self, step: int, hooks: StepHooks) -> None:
        whole = perf_counter() - hooks.began
        wait = hooks.forward_at - hooks.began
        if step > self._first_step and 0 <= wait <= whole:
            self._guard.history.add(STEP_TIME, step, {"": whole})
            self._guard.history.add(DATA_WAIT, step, {"": wait / whole})


def _skip_flag(optimizer: Optimizer) -> Tensor | None:
    """A copy of the flag by which torch.amp.GradScaler has a fused optimizer skip an update.

    It stays on the device; other optimizers are not called for such a step.
    """
    flag = getattr(optimizer, "found_inf", None)
    return flag.detach().clone() if isinstance(flag, Tensor) else None


def _targets(batch: Batch | None) -> Tensor | None:
    targets = batch[1] if batch is not None and len(batch) > 1 else None
    return targets.detach() if isinstance(targets, Tensor) else None
