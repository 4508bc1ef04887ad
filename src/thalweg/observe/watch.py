"""The two lines: `watch` a model and its optimizer, then `step(loss)` after each update.

`Watcher` counts the steps and keeps their losses and learning rates (loss_log.py). At a few steps,
`Readings` (readings.py) puts hooks on the model and its optimizers (hooks.py, forward_pass.py),
makes a `Moment` of what they saw (instrument.py) and hands it to the `InstrumentRunner`, which
writes what the instruments measure into the history. Loaders are read when training is over
(split_samples.py).
"""

import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import Tensor, nn

from thalweg.borrow import check_module
from thalweg.errors import ThalwegWarning, UsageError
from thalweg.files import replace_file
from thalweg.observe.bare_copy import bare_module, called_part
from thalweg.observe.guard import Guard, NotMeasurableError
from thalweg.observe.instrument import Instrument
from thalweg.observe.instrument_runner import InstrumentRunner
from thalweg.observe.instruments import INSTRUMENTS
from thalweg.observe.loop_log import LoopLog
from thalweg.observe.loss_log import LearningRateLog, LossLog
from thalweg.observe.readings import AnyBatch, Readings
from thalweg.observe.split_samples import SplitSamples
from thalweg.observe.update_hooks import optimizers_in
from thalweg.record import History, quantity_called
from thalweg.record.quantities import OPTIMIZERS, RETURN, WATCHED_BY
from thalweg.tasks import TASKS

# Answers whose outputs are logits of classes; of tokens, at each place.
CLASS_BY_CLASS = frozenset({"classes", "tokens", "sequences"})
FLUSH = 64  # losses are fetched from the device in groups of so many
LR_EVERY = 16  # steps from one recording of the learning rate to the next
WATCHERS: "WeakSet[Watcher]" = WeakSet()  # all of this process, to see who trains by turns
RETURN_WORDS = frozenset({"return", "returns", "reward", "rewards"})  # of an agent
VALIDATION_WITHIN = 512  # first steps in which the watcher waits for passes without gradient


def watch(
    model: nn.Module,
    optimizer: Any,
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
    render: Callable[..., str] | None = None,
    check: Callable[[Callable[[], History]], None] | None = None,
    first_step: int = 0,
    chance_loss: float | None = None,
    sharpness: bool = False,
) -> "Watcher":
    """Start measuring; then call `step(loss)` on the watcher, once an update.

    Nothing here changes the training: the weights come out bit for bit as without it, and what
    goes wrong inside is recorded and reported as not checked. `train` and `val` are any iterables
    of (inputs, targets) that can be iterated again; some batches of each are read when the watcher
    diagnoses or is closed, since reading them takes as long as many steps. `chance_loss` is the
    loss of a model that ignores its inputs, where the loss is no cross-entropy. `sharpness` also
    measures the largest curvature at some dozen readings, and looks for a saddle at the end: it
    needs train and loss_fn, and costs some dozens of gradients a reading. `check` is called after
    each reading with a function that fetches the history.
    """
    check_module(model)
    model = called_part(model)
    guard = Guard(History() if history is None else history, first_step)
    samples = SplitSamples(train, val, guard=guard)
    optimizers = optimizers_in(optimizer)
    chosen = INSTRUMENTS if instruments is None else tuple(instruments)
    if sharpness:
        from thalweg.observe.instruments.sharpness import curvature_instruments  # loads slowly

        chosen += curvature_instruments()
    runner = InstrumentRunner(chosen, guard)
    guard.history.add(OPTIMIZERS, first_step, {"": float(len(optimizers))})
    if num_classes is not None and (task is None or TASKS[task].answers in CLASS_BY_CLASS):
        samples.set_num_classes(num_classes, step=first_step, chance=chance_loss)
    if runner.needs_samples:
        samples.read_loaders()
    readings = Readings(
        model,
        optimizers,
        runner=runner,
        samples=samples,
        loss_fn=loss_fn,
        guard=guard,
        first_step=first_step,
    )
    own_loop = "trainer" in guard.history.by_place(WATCHED_BY)  # has neither schedulers nor scalers
    logs = (
        LearningRateLog(optimizers),
        LoopLog(bare_module(model), optimizers, guard, scheduler=scheduler, searches=not own_loop),
    )
    watcher = Watcher(model, logs, readings, runner=runner, guard=guard, diagnose=diagnose)
    watcher.check, watcher.render = check, render
    return watcher


class Watcher:
    """Watches one training loop. Also a context manager that closes itself."""

    def __init__(
        self,
        model: nn.Module,
        logs: tuple[LearningRateLog, LoopLog],
        readings: Readings,
        *,
        runner: InstrumentRunner,
        guard: Guard,
        diagnose: Callable[[History], Any] | None,
    ) -> None:
        self.model = model
        self.check: Callable[[Callable[[], History]], None] | None = None  # after each reading
        self.render: Callable[..., str] | None = None  # history, diagnosis, model= → a page
        self._runner, self._readings, self._guard = runner, readings, guard
        self._diagnose = diagnose
        self._step = self._first_step = guard.step
        self._losses = LossLog(guard.step)
        self._rates, self._loop = logs
        self._open, self._has_warned = True, False
        self._own_optimizers = guard.history.last(OPTIMIZERS)
        self._steps_of_others: WeakKeyDictionary[Watcher, int] = WeakKeyDictionary()
        WATCHERS.add(self)
        self._wake = 0  # the step before which to flush, or to attach the hooks of a reading
        with guard("watch"):
            readings.validation.start()
            self._prepare_step()

    @property
    def is_open(self) -> bool:
        """False once it has been closed."""
        return self._open

    @property
    def history(self) -> History:
        """Every measurement so far; those of the loaders once diagnosed or closed."""
        self.flush()
        return self._guard.history

    def set_loaders(self, train: Iterable[Any] | None, val: Iterable[Any] | None) -> None:
        """Set loaders that become known while training; read when diagnosing, as the others."""
        self._readings.set_loaders(train, val)

    def find_drivers(self) -> None:
        """Find the loop's schedulers and scaler, which may be gone when it is diagnosed.

        Cost: some ten milliseconds.
        """
        with self._guard("loop"):
            self._loop.find_drivers()

    def step(
        self, loss: Tensor | float, batch: AnyBatch | None = None, logits: Tensor | None = None
    ) -> None:
        """Record the loss of the update just made; everything else was measured by then.

        `batch` is (inputs, targets), or a mapping such as {"input_ids": …, "labels": …}; with
        `logits`, the training accuracy follows from it.
        """
        try:
            self._append(loss)
            self._loop.record()
            if self._step == self._readings.due:
                with self._guard("reading"):
                    self._readings.finish(self._step, loss, batch=batch, logits=logits)
                self._readings.detach(self._step)
                self._wake = min(self._readings.due, self._step + FLUSH)
                self._count_optimizers()
                self._check_history()
            if not self._step % LR_EVERY:
                self._rates.record(self._guard.history, self._step)
        except Exception as error:  # the user's run goes on, whatever happens here
            self._guard.report_failure("loss", error)
        self._step = self._guard.step = self._step + 1
        if self._step == self._wake:
            with self._guard("watch"):
                self._prepare_step()

    def log(self, **named: float | Tensor) -> None:
        """Record any named number, such as val_loss= or val_accuracy=, as of the last update."""
        step = max(self._first_step, self._step - 1)
        with self._guard("log"):
            for name, value in named.items():
                number = float(value.detach() if isinstance(value, Tensor) else value)
                self._guard.history.add(quantity_called(name), step, {"": number})
                if not RETURN_WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower())):
                    self._guard.history.add(RETURN, step, {name: number})
        validated = any(name.startswith("val") for name in named)
        if validated and self._open:
            self._readings.validation.start()  # the next validation is worth seeing too

    def diagnose(self) -> Any:
        """Diagnose the run so far. Raises UsageError if made without `diagnose=`."""
        if self._diagnose is None:
            raise UsageError(
                "this watcher cannot diagnose: it was made without diagnose=",
                fix="make it with thalweg.watch, or call thalweg.diagnose(watcher.history)",
            )
        self._complete()
        return self._diagnose(self._guard.history)

    def report(self, path: str | Path = "report.html") -> Path:
        """Diagnose the run so far, and write its report as one HTML file. Returns the path.

        Raises UsageError if made without `render=`, OSError where the file cannot be written.
        """
        if self.render is None:
            raise UsageError(
                "this watcher cannot report: it was made without render=",
                fix="make it with thalweg.watch",
            )
        model = type(bare_module(self.model)).__name__
        page = self.render(self.history, self.diagnose(), model=model)
        replace_file(Path(path), page)
        return Path(path)

    def flush(self) -> None:
        """Fetch measurements that are still on the device into the history."""
        with self._guard("loss"):
            self._losses.fetch(self._guard.history)
        with self._guard("loop"):
            self._loop.fetch(self._step)
        with self._guard("watch"):
            self._runner.fetch()

    def close(self) -> None:
        """Remove every hook, and make the measurements that were left for the end."""
        self._stop()
        self._complete()

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self.close()  # the diagnosis of a run that failed is wanted most
        else:
            self._stop()  # interrupted: whoever did that does not want to wait
            self.flush()

    def _append(self, loss: Tensor | float) -> None:
        """Keep the loss; of what is none, say so once, and go on with the other measurements."""
        try:
            self._losses.append(loss)
        except NotMeasurableError as error:
            self._guard.report_failure("loss", error)
            if not self._has_warned:
                self._has_warned = True
                words = f"{error.problem}; {error.seen}: the loss is not checked"
                with self._guard("warning"):  # a filter may raise it
                    warnings.warn(words, ThalwegWarning, stacklevel=3)

    def _prepare_step(self) -> None:
        """Attach the hooks if the coming step is to be read; set when to be called again."""
        if len(self._losses) >= FLUSH:
            self.flush()
        if self._step == self._readings.due:
            self._readings.attach(self._step)
        if self._step > self._first_step + VALIDATION_WITHIN:
            self._readings.validation.stop()
        coming = self._step + FLUSH
        due = self._readings.due
        self._wake = min(due, coming) if due > self._step else coming

    def _count_optimizers(self) -> None:
        """Count the optimizers of other watchers that stepped since the last reading: two players.

        Their losses rise by turns, as those of a generator and its critic.
        """
        before = self._steps_of_others
        steps = {one: one._step for one in WATCHERS if one is not self}
        self._steps_of_others = WeakKeyDictionary(steps)
        beside = [one for one, step in steps.items() if step > before.get(one, step)]
        both = self._own_optimizers + sum(one._own_optimizers for one in beside)
        if both > self._guard.history.last(OPTIMIZERS):
            self._guard.history.add(OPTIMIZERS, self._step, {"": both})

    def _check_history(self) -> None:
        if self.check is not None:
            with self._guard("check"):
                self.check(lambda: self.history)

    def _complete(self) -> None:
        self.flush()
        with self._guard("watch"):
            self._readings.complete(self._step)
        with self._guard("loop"):
            last = max(self._first_step, self._step - 1)
            self._loop.complete(last, scaler=self._readings.scaler)
        self.flush()

    def _stop(self) -> None:
        """Remove all hooks; no further step is read."""
        self._readings.stop()
        self._open, self._wake = False, -1
