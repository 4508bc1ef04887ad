"""The readings of one run: which steps are read, what each measures, and what the end is left."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.observe.attached import Attached, ValidationWatch
from thalweg.observe.capture import Pass
from thalweg.observe.guard import Guard
from thalweg.observe.instrument import Moment
from thalweg.observe.panel import Panel
from thalweg.observe.recovered_targets import recovered_targets
from thalweg.observe.schedule import first_reading, next_probe, next_reading
from thalweg.observe.splits import Splits
from thalweg.record.quantities import DATA_WAIT, SATURATED, STEP_TIME

EVERY = 20  # steps from one reading to the next while the run is young
THOROUGH = 6  # first readings at which everything is measured
RARE = 6  # after them, what seldom changes is measured at every so many readings

Batch = Sequence[Any]  # (inputs, targets); either may be None where the user has not got it


class Readings:
    """Takes them. Between two of them no hook is attached, and nothing is done."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Optimizer, ...],
        *,
        panel: Panel,
        splits: Splits,
        loss_fn: Callable[..., Any] | None,
        guard: Guard,
    ) -> None:
        self._model, self._optimizers, self._loss_fn = model, optimizers, loss_fn
        self._panel, self._splits, self._guard = panel, splits, guard
        self._first = guard.step
        self.due = first_reading(guard.step, EVERY)  # the step of the next reading
        self._count = 0
        self._attached: Attached | None = None
        self.validation: ValidationWatch | None = None
        self._last: Pass | None = None
        self._judged: Moment | None = None  # the last one at which targets were looked at
        self._probe_from, self._probed = guard.step, -1
        self._completed, self._read = -1, False

    def attach(self) -> None:
        """Put the hooks on: the coming step is to be read."""
        self._attached = Attached(
            self._model,
            self._optimizers,
            keeps_weights=self._panel.keeps_weights,
            updated=self._after_update,
            failed=self._guard.failed,
            first=self._look_at_first_pass if self._guard.step == self._first else None,
            thorough=self._thorough,
        )

    def finish(self, loss: Tensor | float, batch: Batch | None, logits: Tensor | None) -> None:
        """Measure what is known once the loss is; the update was measured when it was made."""
        attached = self._attached
        if attached is None:
            return
        self._last = attached.last or self._last
        self._note_time(attached)
        moment = self._moment()
        moment.loss = loss if isinstance(loss, Tensor) else None
        moment.leftovers, moment.called = attached.leftovers, frozenset(attached.called)
        moment.logits = logits.detach() if logits is not None else None
        if moment.logits is None and attached.last is not None:
            moment.logits = attached.last.output
        moment.targets = _targets(moment, batch, recover=self._thorough)
        self._learn(moment, batch)
        self._panel.measure(moment, "loss", thorough=self._thorough)
        if self._thorough:
            self._judged = moment
        self._probe(moment)

    def rest(self) -> None:
        """Take the hooks off until the next reading."""
        if self._attached is not None:
            self._attached.detach()
            self._attached = None
        self._count += 1
        self.due = next_reading(self._guard.step, EVERY)

    def look_at(self, train: Iterable[Any] | None, val: Iterable[Any] | None) -> None:
        """Loaders to be read at the end."""
        self._splits.know(train, val)
        self._read, self._completed = False, -1

    def stop(self) -> None:
        """Take every hook off for good."""
        if self._attached is not None:
            self._attached.detach()
            self._attached = None
        if self.validation is not None:
            self.validation.stop()
        self.due = -1

    def complete(self) -> None:
        """Measure what is worth measuring only once, and what is costly: nobody trains now."""
        step = max(self._first, self._guard.step - 1)
        if self._guard.step == self._completed:
            return
        self._completed = self._guard.step
        if not self._read:
            self._read = True
            self._splits.read(self._guard)
            self._panel.measure(self._moment(step), "samples")
        moment = self._moment(step)
        if self._judged is not None:
            again = replace(self._judged, step=step, train=moment.train, val=moment.val)
            self._panel.measure_again(again)
        self._panel.measure(moment, "probe")
        self._panel.measure(moment, "end")

    @property
    def _thorough(self) -> bool:
        """Whether this reading is one of those that look at everything."""
        return self._count < THOROUGH or self._count % RARE == 0

    def _look_at_first_pass(self, first: Pass) -> None:
        """The probe of the model as it was initialised, once its first inputs are known."""
        self._last = first
        self._probed = self._guard.step
        self._panel.measure(self._moment(), "probe")

    def _probe(self, moment: Moment) -> None:
        """Look inside the model now and then; more often where something may saturate."""
        step = self._guard.step
        if step < self._probe_from:
            return
        if self._probed != step:
            self._panel.measure(moment, "probe")
        often = self._panel.wants_samples or self._panel.has_shown(SATURATED)
        self._probe_from = next_probe(step, EVERY, often=often)

    def _after_update(
        self,
        optimizer: Optimizer,
        held: list[tuple[str, nn.Parameter]],
        kept: list[Tensor] | None,
    ) -> None:
        moment = self._moment()
        moment.names = [name for name, _ in held]
        moment.weights = [weight.detach() for _, weight in held]
        moment.gradients = [weight.grad for _, weight in held]
        moment.kept = kept
        moment.held_back = _held_back(optimizer)
        self._panel.measure(moment, "update", thorough=self._thorough)

    def _moment(self, step: int | None = None) -> Moment:
        return Moment(
            step=self._guard.step if step is None else step,
            model=self._model,
            optimizers=self._optimizers,
            last=self._last,
            validation=None if self.validation is None else self.validation.seen,
            train=self._splits.train,
            val=self._splits.val,
            loss_fn=self._loss_fn,
            num_classes=self._splits.num_classes,
            history=self._guard.history,
        )

    def _learn(self, moment: Moment, batch: Batch | None) -> None:
        """What this batch tells of the data: the number of classes, a sample."""
        self._splits.infer_classes(moment.logits, moment.targets, self._guard)
        given = batch[0] if batch else None
        inputs = given if isinstance(given, Tensor) else None
        if inputs is None and moment.last is not None:
            inputs = moment.last.first_input
        self._splits.keep(inputs, moment.targets)

    def _note_time(self, attached: Attached) -> None:
        whole = perf_counter() - attached.began
        wait = attached.forward_at - attached.began
        if self._guard.step > self._first and 0 <= wait <= whole:
            self._guard.history.add(STEP_TIME, self._guard.step, {"": whole})
            self._guard.history.add(DATA_WAIT, self._guard.step, {"": wait / whole})


def _held_back(optimizer: Optimizer) -> Tensor | None:
    """A copy of what a fused optimizer is told by torch.amp.GradScaler: whether to make no update.

    Asked on the device, where it is known; other optimizers are not called for such a step.
    """
    found = getattr(optimizer, "found_inf", None)
    return found.detach().clone() if isinstance(found, Tensor) else None


def _targets(moment: Moment, batch: Batch | None, *, recover: bool) -> Tensor | None:
    """The last batch's targets: as passed in, or as the gradient at the output shows them."""
    given = batch[1] if batch is not None and len(batch) > 1 else None
    if isinstance(given, Tensor):
        return given.detach()
    if not recover:
        return None
    return recovered_targets(moment.last, moment.graph, moment.loss)
