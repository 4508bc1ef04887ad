"""The two lines: `watch` a model and its optimizer, then `step(loss)` after each update.

`Watcher` counts the steps and keeps their losses and learning rates (losses.py). At a few of them
`Readings` (reading.py) puts hooks on the model and its optimizers (attached.py, capture.py), makes
a `Moment` of what they saw and hands it to the `Panel` (panel.py), which asks the instruments and
writes into the history. Loaders are read when training is over (splits.py).
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.errors import UsageError
from thalweg.observe.attached import ValidationWatch
from thalweg.observe.guard import Guard
from thalweg.observe.instrument import Instrument
from thalweg.observe.instruments import INSTRUMENTS
from thalweg.observe.losses import LearningRates, Losses
from thalweg.observe.panel import Panel
from thalweg.observe.reading import Batch, Readings
from thalweg.observe.splits import Splits
from thalweg.record import History, quantity_called
from thalweg.record.quantities import OPTIMIZERS

FLUSH = 64  # losses are fetched from the device in groups of so many
LR_EVERY = 16  # steps from one look at the learning rate to the next
VALIDATION_WITHIN = 512  # first steps in which passes without gradient are looked out for


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
    of (inputs, targets) that can be iterated again; some batches of each are read when the watcher
    diagnoses or is closed, since reading them takes as long as many steps. `chance_loss` is what a
    model that knows nothing scores, where the loss is no cross-entropy. `sharpness` also measures
    the largest curvature at some dozen readings, and looks for a saddle at the end: it needs train
    and loss_fn, and costs some dozens of gradients a reading.
    """
    guard = Guard(History() if history is None else history, first_step)
    splits = Splits(train, val)
    optimizers = (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer)
    chosen = INSTRUMENTS if instruments is None else tuple(instruments)
    panel = Panel((*chosen, *_curvature()) if sharpness else chosen, guard)
    guard.history.add(OPTIMIZERS, first_step, {"": float(len(optimizers))})
    if num_classes is not None and task != "regression":
        splits.note_classes(num_classes, guard, chance=chance_loss)
    if panel.wants_samples:
        splits.read(guard)
    readings = Readings(model, optimizers, panel=panel, splits=splits, loss_fn=loss_fn, guard=guard)
    return Watcher(
        model, LearningRates(optimizers), readings, panel=panel, guard=guard, diagnose=diagnose
    )


def unwrapped_optimizer(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside a wrapper such as accelerate's, which has no hooks of its own."""
    inside = getattr(optimizer, "optimizer", None)
    return inside if isinstance(inside, Optimizer) else optimizer


def _curvature() -> tuple[Instrument, ...]:
    from thalweg.observe.instruments.sharpness import CURVATURE  # not loaded unless asked for

    return CURVATURE


class Watcher:
    """What watches one training loop. Also a context manager that closes itself."""

    def __init__(
        self,
        model: nn.Module,
        rates: LearningRates,
        readings: Readings,
        *,
        panel: Panel,
        guard: Guard,
        diagnose: Callable[[History], Any] | None,
    ) -> None:
        self.model = model
        self._panel, self._readings, self._guard = panel, readings, guard
        self._diagnose = diagnose
        self._step = self._first = guard.step
        self._losses, self._rates = Losses(guard.step), rates
        self._open = True
        self._wake = 0  # the step before which to flush, or to attach the hooks of a reading
        with guard("watch"):
            readings.validation = ValidationWatch(model, guard.failed)
            self._get_ready()

    @property
    def history(self) -> History:
        """Every measurement so far; those of the loaders once diagnosed or closed."""
        self.flush()
        return self._guard.history

    def look_at(self, train: Iterable[Any] | None, val: Iterable[Any] | None) -> None:
        """Loaders that become known after the beginning; read when diagnosing, as the others."""
        self._readings.look_at(train, val)

    def step(
        self, loss: Tensor | float, batch: Batch | None = None, logits: Tensor | None = None
    ) -> None:
        """Note the loss of the update just made; everything else was measured by then.

        `batch` is (inputs, targets); with `logits`, the training accuracy follows from it.
        """
        try:
            self._losses.note(loss)
            if self._step == self._readings.due:
                with self._guard("reading"):
                    self._readings.finish(loss, batch, logits)
                self._readings.rest()
                self._wake = min(self._readings.due, self._step + FLUSH)
            if not self._step % LR_EVERY:
                self._rates.note(self._guard.history, self._step)
        except Exception as error:  # the user's run goes on, whatever happens here
            self._guard.failed("loss", error)
        self._step = self._guard.step = self._step + 1
        if self._step == self._wake:
            with self._guard("watch"):
                self._get_ready()

    def log(self, **named: float | Tensor) -> None:
        """Note any named number, such as val_loss= or val_accuracy=, as of the last update."""
        at = max(self._first, self._step - 1)
        with self._guard("log"):
            for name, value in named.items():
                number = float(value.detach() if isinstance(value, Tensor) else value)
                self._guard.history.add(quantity_called(name), at, {"": number})
        validated = any(name.startswith("val") for name in named)
        if self._readings.validation is not None and validated and self._open:
            self._readings.validation.start()  # the next validation is worth seeing too

    def diagnose(self) -> Any:
        """The diagnosis of the run so far. Raises UsageError if made without `diagnose=`."""
        if self._diagnose is None:
            raise UsageError(
                "this watcher was made without a way to diagnose",
                fix="make it with thalweg.watch, or call thalweg.diagnose(watcher.history)",
            )
        self._complete()
        return self._diagnose(self._guard.history)

    def flush(self) -> None:
        """Fetch what the device still holds into the history."""
        with self._guard("loss"):
            self._losses.fetch(self._guard.history)
        with self._guard("watch"):
            self._panel.fetch()

    def close(self) -> None:
        """Remove every hook and read what was left for the end; what was measured stays."""
        self._let_go()
        self._complete()

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self.close()  # the diagnosis of a run that failed is wanted most
        else:
            self._let_go()  # interrupted: whoever did that does not want to wait
            self.flush()

    def _get_ready(self) -> None:
        """Attach the hooks if the coming step is to be read; say when to come back."""
        if len(self._losses) >= FLUSH:
            self.flush()
        if self._step == self._readings.due:
            self._readings.attach()
        if self._step > self._first + VALIDATION_WITHIN and self._readings.validation is not None:
            self._readings.validation.stop()
        coming = self._step + FLUSH
        due = self._readings.due
        self._wake = min(due, coming) if due > self._step else coming

    def _complete(self) -> None:
        self.flush()
        with self._guard("watch"):
            self._readings.complete()
        self.flush()

    def _let_go(self) -> None:
        """No hook stays, and no further step is read."""
        self._readings.stop()
        self._open, self._wake = False, -1
