"""Measure a training loop from outside, through the hooks that torch itself offers."""

from collections.abc import Callable, Iterable, Sequence
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from thalweg.errors import UsageError
from thalweg.observe.accuracy import accuracy
from thalweg.observe.gradient_norm import gradient_norm
from thalweg.observe.hook import Hook
from thalweg.observe.instrument import Instrument, Moment
from thalweg.observe.schedule import first_reading, next_reading
from thalweg.observe.update_ratio import update_ratio
from thalweg.record import History, Quantity, quantity_called
from thalweg.record.quantities import (
    CHANCE_LOSS,
    INSTRUMENT_FAILED,
    LEARNING_RATE,
    LOSS,
    NUM_CLASSES,
    OPTIMIZERS,
)

INSTRUMENTS: tuple[Instrument, ...] = (gradient_norm, update_ratio, accuracy)
EVERY = 20  # steps from one reading to the next while the run is young
FLUSH = 64  # losses are fetched from the device in groups of so many
LR_EVERY = 16  # steps from one look at the learning rate to the next
LR_RESOLUTION = 1.05  # a learning rate is recorded again when it has changed by this factor

Batch = Sequence[Any]  # (inputs, targets); either may be None where the user has not got it


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer],
    *,
    loss_fn: Callable[..., Tensor] | None = None,
    task: str | None = None,
    num_classes: int | None = None,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] | None = None,
    scheduler: Any = None,
    instruments: Iterable[Instrument] | None = None,
    history: History | None = None,
    diagnose: Callable[[History], Any] | None = None,
    first_step: int = 0,
) -> "Watcher":
    """Start measuring; then call `step(loss)` on what this returns, once an update.

    Nothing here changes the training: the weights come out bit for bit as without it, and what
    goes wrong inside is recorded and reported as not checked.
    """
    watcher = Watcher(
        model,
        (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer),
        instruments=INSTRUMENTS if instruments is None else tuple(instruments),
        history=History() if history is None else history,
        diagnose=diagnose,
        first_step=first_step,
    )
    watcher.told(task=task, num_classes=num_classes)
    return watcher


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
        self._instruments = {instrument.quantity.name: instrument for instrument in instruments}
        self._step, self._due = first_step, first_reading(first_step, EVERY)
        self._wake = 0  # the step before which to flush, or to attach the hooks of a reading
        self._losses: list[Tensor | float] = []
        self._readings: list[tuple[Quantity, int, list[str], Tensor]] = []
        self._rates: list[float] = []
        self._kept: dict[int, list[Tensor]] = {}
        self._output: Tensor | None = None
        self._hooks: list[RemovableHandle] = []
        self._guarded("watch", self._get_ready)

    @property
    def history(self) -> History:
        """Every measurement so far."""
        self.flush()
        return self._history

    def told(self, *, task: str | None, num_classes: int | None) -> None:
        """Record what only the user can tell."""
        self._history.add(OPTIMIZERS, self._step, {"": float(len(self._optimizers))})
        if num_classes is not None and num_classes > 1 and task != "regression":
            self._history.add(NUM_CLASSES, self._step, {"": float(num_classes)})
            self._history.add(CHANCE_LOSS, self._step, {"": log(num_classes)})

    def step(
        self, loss: Tensor | float, batch: Batch | None = None, logits: Tensor | None = None
    ) -> None:
        """Note the loss of the update just made; everything else was measured by then.

        `batch` is (inputs, targets); with `logits`, the training accuracy follows from it.
        """
        try:
            self._losses.append(loss.detach() if isinstance(loss, Tensor) else float(loss))
            if self._step == self._due:
                self._guarded("reading", lambda: self._finish_reading(batch, logits))
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
        return self._diagnose(self.history)

    def flush(self) -> None:
        """Fetch what the device still holds into the history."""
        self._guarded("loss", self._flush_losses)
        self._guarded("watch", self._flush_readings)

    def close(self) -> None:
        """Remove every hook; what was measured stays."""
        self.flush()
        self._detach()
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
        coming = self._step + FLUSH
        self._wake = min(self._due, coming) if self._due > self._step else coming

    def _attach(self) -> None:
        self._detach()
        self._hooks = [self._model.register_forward_hook(Hook(self._after_forward))]
        for optimizer in self._optimizers:
            self._hooks += [
                optimizer.register_step_pre_hook(Hook(self._before_update)),
                optimizer.register_step_post_hook(Hook(self._after_update)),
            ]

    def _detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _after_forward(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and torch.is_grad_enabled():
            self._output = output.detach()

    def _before_update(self, optimizer: Optimizer, *_: object) -> None:
        if any(instrument.keeps_weights for instrument in self._instruments.values()):
            kept = [weight.detach().clone() for _, weight in self._held(optimizer)]
            self._kept[id(optimizer)] = kept

    def _after_update(self, optimizer: Optimizer, *_: object) -> None:
        held = self._held(optimizer)
        moment = Moment(
            step=self._step,
            optimizers=self._optimizers,
            names=[name for name, _ in held],
            weights=[weight.detach() for _, weight in held],
            gradients=[weight.grad for _, weight in held],
            kept=self._kept.pop(id(optimizer), None),
        )
        self._measure(moment, after_loss=False)

    def _held(self, optimizer: Optimizer) -> list[tuple[str, nn.Parameter]]:
        ids = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        return [(n, w) for n, w in self._model.named_parameters() if id(w) in ids]

    def _finish_reading(self, batch: Batch | None, logits: Tensor | None) -> None:
        seen = self._output if logits is None else logits.detach()
        targets = batch[1] if batch is not None and len(batch) > 1 else None
        moment = Moment(
            step=self._step,
            optimizers=self._optimizers,
            logits=seen,
            targets=targets if isinstance(targets, Tensor) else None,
        )
        self._measure(moment, after_loss=True)

    def _rest(self) -> None:
        """Take the hooks off until the next reading."""
        self._due = next_reading(self._step, EVERY)
        self._wake = min(self._due, self._step + FLUSH)
        self._output = None
        self._detach()

    def _measure(self, moment: Moment, *, after_loss: bool) -> None:
        for name, one in list(self._instruments.items()):
            if one.after_loss != after_loss:
                continue
            try:
                with torch.no_grad():
                    reading = one(moment)
                    if reading:
                        fetched = torch.stack([value.float() for value in reading.values()])
                        entry = (one.quantity, moment.step, list(reading), fetched)
                        self._readings.append(entry)
            except Exception as error:  # one broken instrument must not silence the others
                del self._instruments[name]
                self._failed(name, error)

    def _note_learning_rate(self) -> None:
        rates = [float(g["lr"]) for o in self._optimizers for g in o.param_groups]
        if self._step == self._due or _changed(self._rates, rates):
            self._rates = rates
            places = {str(i): rate for i, rate in enumerate(rates)}
            self._history.add(LEARNING_RATE, self._step, places)

    def _log(self, named: dict[str, float | Tensor]) -> None:
        at = max(0, self._step - 1)
        for name, value in named.items():
            self._history.add(quantity_called(name), at, {"": float(value)})

    def _flush_losses(self) -> None:
        losses, self._losses = self._losses, []
        first = self._step - len(losses)
        for offset, value in enumerate(_fetched(losses)):
            self._history.add(LOSS, first + offset, {"": value})

    def _flush_readings(self) -> None:
        readings, self._readings = self._readings, []
        for quantity, step, places, values in readings:
            self._history.add(quantity, step, dict(zip(places, values.tolist(), strict=True)))

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # the user's run goes on, whatever happens here
            self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> None:
        reason = f"{what}: {type(error).__name__}: {error}"
        self._history.add(INSTRUMENT_FAILED, self._step, {reason: 1.0})


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
