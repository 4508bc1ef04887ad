"""Measure a training loop from outside, through the hooks that torch itself offers."""

from collections.abc import Callable, Iterable, Sequence
from math import log
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.errors import UsageError
from thalweg.observe.attached import Attached, ValidationWatch
from thalweg.observe.capture import Pass
from thalweg.observe.instrument import Instrument, Moment, Reading, When
from thalweg.observe.instruments import INSTRUMENTS
from thalweg.observe.loss_graph import read_graph
from thalweg.observe.recovered import recovered_targets
from thalweg.observe.samples import Samples, gather, joined, undisturbed
from thalweg.observe.schedule import first_reading, next_reading
from thalweg.record import History, Quantity, quantity_called
from thalweg.record.quantities import (
    CHANCE_LOSS,
    DATA_WAIT,
    INSTRUMENT_FAILED,
    LEARNING_RATE,
    LOSS,
    NUM_CLASSES,
    OPTIMIZERS,
    STEP_TIME,
    WEIGHT_DECAY,
)

EVERY = 20  # steps from one reading to the next while the run is young
FLUSH = 64  # losses are fetched from the device in groups of so many
LR_EVERY = 16  # steps from one look at the learning rate to the next
LR_RESOLUTION = 1.05  # a learning rate is recorded again when it has changed by this factor
VALIDATION_WITHIN = 512  # first steps in which passes without gradient are looked out for
THOROUGH = 6  # first readings at which everything is measured
RARE = 6  # after them, what seldom changes is measured at every so many readings
KEPT_BATCHES = 16  # training batches kept as the sample, where no loader was passed in

Batch = Sequence[Any]  # (inputs, targets); either may be None where the user has not got it


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer],
    *,
    loss_fn: Callable[..., Any] | None = None,
    task: str | None = None,
    num_classes: int | None = None,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] | None = None,
    scheduler: Any = None,
    instruments: Iterable[Instrument] | None = None,
    history: History | None = None,
    diagnose: Callable[[History], Any] | None = None,
    first_step: int = 0,
    chance_loss: float | None = None,
    sharpness: bool = False,
) -> "Watcher":
    """Start measuring; then call `step(loss)` on what this returns, once an update.

    Nothing here changes the training: the weights come out bit for bit as without it, and what
    goes wrong inside is recorded and reported as not checked. `train` and `val` are any iterables
    of (inputs, targets) that can be iterated again; a few batches of each are read at once.
    `chance_loss` is what a model that knows nothing scores, where the loss is no cross-entropy.
    `sharpness` also measures the largest curvature at some dozen readings, and looks for a saddle
    at the end: it needs train and loss_fn, and costs some dozens of gradients a reading.
    """
    chosen = INSTRUMENTS if instruments is None else tuple(instruments)
    watcher = Watcher(
        model,
        (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer),
        instruments=(*chosen, *_curvature()) if sharpness else chosen,
        history=History() if history is None else history,
        diagnose=diagnose,
        first_step=first_step,
    )
    watcher.told(task=task, num_classes=num_classes, loss_fn=loss_fn, chance=chance_loss)
    watcher.look_at(train, val)
    return watcher


def _curvature() -> tuple[Instrument, ...]:
    from thalweg.observe.sharpness import CURVATURE  # not loaded unless asked for

    return CURVATURE


class Watcher:
    """What watches one training loop. Also a context manager that closes itself."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Optimizer, ...],
        *,
        instruments: Sequence[Instrument],
        history: History,
        diagnose: Callable[[History], Any] | None,
        first_step: int = 0,
    ) -> None:
        self._history = history
        self._model, self._optimizers = model, optimizers
        self._diagnose = diagnose
        self._instruments = {instrument.name: instrument for instrument in instruments}
        self._step = self._first = first_step
        self._due = first_reading(first_step, EVERY)
        self._wake = 0  # the step before which to flush, or to attach the hooks of a reading
        self._losses: list[Tensor | float] = []
        self._readings: list[tuple[int, list[tuple[Quantity, str]], Tensor]] = []
        self._count = 0  # of readings so far
        self._rates: list[float] = []
        self._attached: Attached | None = None
        self._validation: ValidationWatch | None = None
        self._last: Pass | None = None
        self._next_probe, self._probed = first_step, -1
        self._loss_fn: Callable[..., Any] | None = None
        self._num_classes = 0
        self._train: Samples | None = None
        self._val: Samples | None = None
        self._batches: list[tuple[Tensor, Tensor | None]] = []
        self._guarded("watch", self._get_ready)
        self._guarded("watch", self._watch_validation)

    @property
    def history(self) -> History:
        """Every measurement so far."""
        self.flush()
        return self._history

    def told(
        self,
        *,
        task: str | None,
        num_classes: int | None,
        loss_fn: Callable[..., Any] | None = None,
        chance: float | None = None,
    ) -> None:
        """Record what only the user can tell."""
        self._loss_fn = loss_fn
        self._history.add(OPTIMIZERS, self._step, {"": float(len(self._optimizers))})
        if num_classes is not None and num_classes > 1 and task != "regression":
            self._note_classes(num_classes, chance)

    def look_at(self, train: Iterable[Any] | None, val: Iterable[Any] | None) -> None:
        """Read a sample of each split and measure what the samples show by themselves."""
        self._guarded("train", lambda: setattr(self, "_train", gather(train)))
        self._guarded("val", lambda: setattr(self, "_val", gather(val)))
        if self._train is not None:
            self._guarded("watch", lambda: self._measure(self._moment(), "start"))

    def step(
        self, loss: Tensor | float, batch: Batch | None = None, logits: Tensor | None = None
    ) -> None:
        """Note the loss of the update just made; everything else was measured by then.

        `batch` is (inputs, targets); with `logits`, the training accuracy follows from it.
        """
        try:
            self._losses.append(loss.detach() if isinstance(loss, Tensor) else float(loss))
            if self._step == self._due:
                self._guarded("reading", lambda: self._finish_reading(loss, batch, logits))
                self._rest()
            if not self._step % LR_EVERY:
                self._note_learning_rate()
        except Exception as error:  # the user's run goes on, whatever happens here
            self._failed("loss", error)
        self._step += 1
        if self._step == self._wake:
            self._guarded("watch", self._get_ready)

    def log(self, **named: float | Tensor) -> None:
        """Note any named number, such as val_loss= or val_accuracy=, as of the last update."""
        self._guarded("log", lambda: self._log(named))

    def diagnose(self) -> Any:
        """The diagnosis of the run so far. Raises UsageError if made without `diagnose=`."""
        if self._diagnose is None:
            raise UsageError(
                "this watcher was made without a way to diagnose",
                fix="make it with thalweg.watch, or call thalweg.diagnose(watcher.history)",
            )
        self.flush()
        self._guarded("watch", self._look_once_more)
        return self._diagnose(self.history)

    def flush(self) -> None:
        """Fetch what the device still holds into the history."""
        self._guarded("loss", self._flush_losses)
        self._guarded("watch", self._flush_readings)

    def close(self) -> None:
        """Remove every hook; what was measured stays."""
        self.flush()
        if self._attached is not None:
            self._attached.detach()
        if self._validation is not None:
            self._validation.stop()
        self._due = self._wake = -1

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get_ready(self) -> None:
        """Attach the hooks if the coming step is to be read; say when to come back."""
        if len(self._losses) >= FLUSH:
            self.flush()
        if self._step == self._due:
            self._attach()
        if self._step > self._first + VALIDATION_WITHIN and self._validation is not None:
            self._validation.stop()
        coming = self._step + FLUSH
        self._wake = min(self._due, coming) if self._due > self._step else coming

    def _attach(self) -> None:
        self._attached = Attached(
            self._model,
            self._optimizers,
            keeps_weights=any(one.keeps_weights for one in self._instruments.values()),
            updated=self._after_update,
            failed=self._failed,
            first=self._look_at_first_pass if self._step == self._first else None,
            thorough=self._thorough,
        )

    @property
    def _thorough(self) -> bool:
        """Whether this reading is one of those that look at everything."""
        return self._count < THOROUGH or self._count % RARE == 0

    def _look_at_first_pass(self, first: Pass) -> None:
        """The probe of the model as it was initialised, once its first inputs are known."""
        self._last = first
        self._probed = self._step
        self._measure(self._moment(), "probe")

    def _watch_validation(self) -> None:
        self._validation = ValidationWatch(self._model, self._failed)

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
        self._measure(moment, "update")

    def _finish_reading(
        self, loss: Tensor | float, batch: Batch | None, logits: Tensor | None
    ) -> None:
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
        self._keep(moment, batch)
        self._measure(moment, "loss")
        if self._step >= self._next_probe and self._probed != self._step:
            self._measure(moment, "probe")
        if self._step >= self._next_probe:
            self._next_probe = 3 * self._step + EVERY

    def _moment(self) -> Moment:
        return Moment(
            step=self._step,
            model=self._model,
            optimizers=self._optimizers,
            last=self._last,
            validation=None if self._validation is None else self._validation.seen,
            train=self._train,
            val=self._val,
            loss_fn=self._loss_fn,
            num_classes=self._num_classes,
            history=self._history,
        )

    def _keep(self, moment: Moment, batch: Batch | None) -> None:
        """Keep a few batches as the sample of the training split, where no loader was passed."""
        if moment.num_classes == 0 and moment.targets is not None and moment.logits is not None:
            self._infer_classes(moment.logits, moment.targets)
        given = batch[0] if batch else None
        inputs = given if isinstance(given, Tensor) else None
        if inputs is None and moment.last is not None:
            inputs = moment.last.first_input
        if self._train is None and inputs is not None and len(self._batches) < KEPT_BATCHES:
            targets = None if moment.targets is None else moment.targets.detach().cpu().clone()
            self._batches.append((inputs.detach().cpu().clone(), targets))

    def _infer_classes(self, logits: Tensor, targets: Tensor) -> None:
        if not targets.is_floating_point() and logits.ndim == 2 and targets.ndim == 1:
            self._note_classes(logits.shape[1])

    def _note_classes(self, num_classes: int, chance: float | None = None) -> None:
        if num_classes < 2:
            return
        self._num_classes = num_classes
        self._history.add(NUM_CLASSES, self._step, {"": float(num_classes)})
        self._history.add(
            CHANCE_LOSS, self._step, {"": log(num_classes) if chance is None else chance}
        )

    def _note_time(self, attached: Attached) -> None:
        whole = perf_counter() - attached.began
        wait = attached.forward_at - attached.began
        if self._step > self._first and 0 <= wait <= whole:
            self._history.add(STEP_TIME, self._step, {"": whole})
            self._history.add(DATA_WAIT, self._step, {"": wait / whole})

    def _rest(self) -> None:
        """Take the hooks off until the next reading."""
        if self._attached is not None:
            self._attached.detach()
            self._attached = None
        self._count += 1
        self._due = next_reading(self._step, EVERY)
        self._wake = min(self._due, self._step + FLUSH)

    def _look_once_more(self) -> None:
        """The last probe, and what is worth measuring only once."""
        if self._train is None:
            self._train = joined(self._batches, whole=False)
            if self._train is not None:
                self._measure(self._moment(), "start")
        moment = self._moment()
        moment.step = max(self._first, self._step - 1)
        self._measure(moment, "probe")
        self._measure(moment, "end")
        self._flush_readings()

    def _measure(self, moment: Moment, when: When) -> None:
        tensors: list[tuple[Quantity, str, Tensor]] = []
        for name, one in list(self._instruments.items()):
            if one.when != when or (one.rare and not self._thorough):
                continue
            if one.keeps_weights and moment.kept is None:  # the watch began within this update
                continue
            try:
                with torch.no_grad():
                    for quantity, reading in one(moment).items():
                        tensors += self._take(quantity, reading, moment.step)
            except Exception as error:  # one broken instrument must not silence the others
                del self._instruments[name]
                for quantity in one.quantities:
                    self._failed(quantity.name, error)
        if tensors:
            device = tensors[0][2].device
            scalars = [value.detach().to(device).float().reshape(()) for *_, value in tensors]
            places = [(quantity, place) for quantity, place, _ in tensors]
            self._readings.append((moment.step, places, torch.stack(scalars)))

    def _take(
        self, quantity: Quantity, reading: Reading, step: int
    ) -> list[tuple[Quantity, str, Tensor]]:
        """Record the plain numbers at once; give back what is still on the device."""
        plain = {place: value for place, value in reading.items() if isinstance(value, float)}
        if plain:
            self._history.add(quantity, step, plain)
        return [(quantity, p, value) for p, value in reading.items() if isinstance(value, Tensor)]

    def _note_learning_rate(self) -> None:
        rates = [float(g["lr"]) for o in self._optimizers for g in o.param_groups]
        if _changed(self._rates, rates):
            self._rates = rates
            places = {str(i): rate for i, rate in enumerate(rates)}
            self._history.add(LEARNING_RATE, self._step, places)
            groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
            decays = [float(g.get("weight_decay", 0.0)) * float(g["lr"]) for g in groups]
            self._history.add(WEIGHT_DECAY, self._step, {str(i): d for i, d in enumerate(decays)})

    def _log(self, named: dict[str, float | Tensor]) -> None:
        at = max(self._first, self._step - 1)
        for name, value in named.items():
            number = float(value.detach() if isinstance(value, Tensor) else value)
            self._history.add(quantity_called(name), at, {"": number})
        validated = any(name.startswith("val") for name in named)
        if self._validation is not None and validated and self._due >= 0:
            self._validation.start()  # the next validation is worth seeing too

    def _flush_losses(self) -> None:
        losses, self._losses = self._losses, []
        first = self._step - len(losses)
        for offset, value in enumerate(_fetched(losses)):
            self._history.add(LOSS, first + offset, {"": value})

    def _flush_readings(self) -> None:
        readings, self._readings = self._readings, []
        for step, places, values in readings:
            grouped: dict[Quantity, dict[str, float]] = {}
            for (quantity, place), value in zip(places, values.tolist(), strict=True):
                grouped.setdefault(quantity, {})[place] = value
            for quantity, reading in grouped.items():
                self._history.add(quantity, step, reading)

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # the user's run goes on, whatever happens here
            self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> None:
        reason = f"{what}: {type(error).__name__}: {error}"
        self._history.add(INSTRUMENT_FAILED, self._step, {reason: 1.0})


def _targets(moment: Moment, batch: Batch | None, *, recover: bool) -> Tensor | None:
    """The last batch's targets: as passed in, or as the gradient at the output shows them."""
    given = batch[1] if batch is not None and len(batch) > 1 else None
    if isinstance(given, Tensor):
        return given.detach()
    if not recover:
        return None
    ended_in = None if moment.last is None else moment.last.ended_in
    with undisturbed():
        return recovered_targets(moment.last, read_graph(moment.loss, ended_in), moment.loss)


def _changed(old: list[float], new: list[float]) -> bool:
    if len(old) != len(new):
        return True
    return any(
        not a <= b * LR_RESOLUTION or not b <= a * LR_RESOLUTION
        for a, b in zip(old, new, strict=True)
    )


def _fetched(losses: list[Tensor | float]) -> list[float]:
    """The losses as numbers, with one wait for the device where they allow it."""
    if not losses:
        return []
    scalars = [loss for loss in losses if isinstance(loss, Tensor) and loss.ndim == 0]
    if len(scalars) == len(losses) and len({(s.device, s.dtype) for s in scalars}) == 1:
        return [float(value) for value in torch.stack(scalars).tolist()]
    return [float(loss.mean()) if isinstance(loss, Tensor) else loss for loss in losses]
