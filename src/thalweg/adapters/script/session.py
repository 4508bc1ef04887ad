"""Watch everything that a program trains: a training for each model and its optimizers."""

import logging
import multiprocessing.process
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg import diagnosis, observe
from thalweg.adapters.script.joined_model import joined_model, weights_of
from thalweg.adapters.script.loaders import LoaderParts, batch_form
from thalweg.adapters.script.names import model_name
from thalweg.adapters.script.roots import RootFinder, modules_holding
from thalweg.adapters.script.torch_events import torch_events
from thalweg.adapters.script.training import Training, mark_scaled, reaching, read_loss
from thalweg.diagnosis import Diagnosis
from thalweg.diagnosis.live_verdict import LiveVerdict
from thalweg.observe.watch import WATCHERS
from thalweg.record import History
from thalweg.record.quantities import WATCHED_BY

HELP = (
    "Two lines help: watcher = thalweg.watch(model, optimizer) before the loop, "
    "watcher.step(loss) after each update"
)
MOST_TRAININGS = 8  # of one program: a search over many models is not watched to its end
NewHistory = Callable[[str], History]  # by the name of the training


@contextmanager
def watch_everything(new_history: NewHistory | None = None) -> Iterator["Session"]:
    """Watch every training in the block; afterwards `diagnoses` holds a diagnosis for each.

    Nothing in the block need know of it. What is already watched is left alone.
    `new_history` makes the history that a training of that name is recorded in.

    >>> with watch_everything() as session:  # doctest: +SKIP
    ...     train_somehow()
    >>> session.diagnoses["Net"].headline  # doctest: +SKIP
    """
    session = Session(new_history or (lambda _name: History()), say=None)
    with torch_events(session):
        try:
            yield session
        except BaseException:
            session.stop()
            session.finish()
            raise
        session.stop()
    session.finish()


class Session:
    """Receives the events of a program and keeps its trainings apart."""

    def __init__(self, new_history: NewHistory, *, say: Callable[[str], object] | None) -> None:
        self.diagnoses: dict[str, Diagnosis] = {}
        self.failures: list[str] = []  # of the session itself
        self.num_backwards = 0
        self.blind: list[str] = []  # trainings whose updates show no loss
        self.watched_itself: list[str] = []  # models that the program watches
        self.dropped: list[str] = []  # among them, those whose watch had begun here
        self.num_unwatched = 0  # trainings beyond the most
        self.trainings: list[Training] = []
        self.optimizers: WeakSet[Optimizer] = WeakSet()
        self._ignored: WeakSet[Optimizer] = WeakSet()
        self._new_history, self._say = new_history, say
        self._names: set[str] = set()
        self._roots = RootFinder(self._on_call, self.report_failure)
        self._called: dict[int, list[nn.Module]] = {}  # before the first step, by optimizer
        self._batch: tuple[LoaderParts, Any] | None = None  # read last
        self._read_data = True
        self._listening = True

    def on_weights_added(self, optimizer: Optimizer) -> None:
        """Wait for the model that holds a new optimizer's weights."""
        if not self._listening:
            return
        self.optimizers.add(optimizer)
        for training in self.trainings:
            training.idle_since_new = True
        self._roots.await_call(weights_of(optimizer))

    def on_module_registered(self, parent: nn.Module, child: nn.Module) -> None:
        """Follow a model that is waited for into its wrapper."""
        if self._listening:
            self._roots.follow(parent, child)

    def on_backward(self, loss: Tensor, *, accumulates: bool) -> None:
        """Note the loss for the trainings that it reaches."""
        if not self._listening or not accumulates:
            return
        self.num_backwards += 1
        loss_seen = None
        for training in reaching(loss, self.trainings):
            loss_seen = loss_seen or read_loss(loss)
            training.add_loss(loss_seen)
            if training.form is not None and self._batch is not None:
                pair = training.form.pair(self._batch[1])
                training.batch = None if pair[1] is None else pair

    def on_scaled_loss(self, scaled: Tensor, loss: Tensor) -> None:
        """Remember the loss that a gradient scaler has scaled."""
        mark_scaled(scaled, loss)

    def on_step_begin(self, optimizer: Optimizer) -> None:
        """Begin to watch, if the optimizer's model was not seen whole before; then count."""
        if not self._listening:
            return
        training = self._training_of(optimizer) or self._begin_late(optimizer)
        if training is not None:
            training.begin_step()

    def on_step_end(self, optimizer: Optimizer) -> None:
        """Count an optimizer's step."""
        training = self._training_of(optimizer)
        if self._listening and training is not None:
            training.end_step(optimizer)
            if training.updates == 1:
                training.watcher.find_drivers()
                self._finish_replaced(training)

    def on_batch(self, loader: LoaderParts, batch: Any) -> None:
        """Note a loader's batch: for the model that is called next, or to be scored."""
        if not self._listening:
            return
        self._batch = loader, batch
        if torch.is_grad_enabled() and any(one.model.training for one in self.trainings):
            return
        for training in self.trainings:
            training.note_batch(loader, batch)

    def report_failure(self, part: str, error: Exception) -> None:
        """Record an exception of ours; the program goes on."""
        reason = f"{part}: {type(error).__name__}: {error}"
        logging.getLogger(__name__).debug("watching the program failed: %s", reason, exc_info=error)
        if reason not in self.failures:
            self.failures.append(reason)

    def stop(self) -> None:
        """Watch nothing more."""
        self._listening = False
        self._roots.forget_all()

    def finish(self, *, reads_data: bool = True) -> None:
        """Diagnose every training that is still watched; its loaders are read only if asked to."""
        self._read_data = reads_data
        for training in self.trainings:
            self._finish_training(training)
        self.trainings = []

    def notes(self, program: str) -> list[str]:
        """Lines about what could not be watched, and what would help."""
        notes = [f"watching {program} failed in part: {reason}" for reason in self.failures]
        notes += [f"{program} watches {name} itself" for name in self.watched_itself]
        if self.num_unwatched:
            notes.append(f"only the first {MOST_TRAININGS} trainings of {program} were watched")
        blind = [name for name in self.blind if name not in self.watched_itself]
        notes += [
            f"{name}: its optimizer steps, but backward was not called. {HELP}" for name in blind
        ]
        if not (self.diagnoses or self.watched_itself or blind):
            notes.append(f"nothing to diagnose: {program} {self._reason()}")
        return notes

    def _reason(self) -> str:
        """The reason why no training was seen."""
        if self.num_backwards:
            calls = f"called backward {self.num_backwards} times, but no torch optimizer stepped"
            return f"{calls}: are the weights updated by hand? {HELP}"
        children = multiprocessing.process._process_counter  # type: ignore[attr-defined]
        if repr(children) != "count(1)":
            return (
                "trained nothing in this process, and the processes that it starts are not watched"
            )
        return "trained nothing in this process"

    def _on_call(self, module: nn.Module, inputs: Any, keywords: Any) -> None:
        """Begin to watch a module that is called; wait where its optimizer holds other weights."""
        ids = {id(weight) for weight in module.parameters()}
        optimizers = [one for one in self.optimizers if self._is_free(one, ids)]
        partly = [one for one in optimizers if any(id(w) not in ids for w in weights_of(one))]
        for optimizer in partly:
            called = self._called.setdefault(id(optimizer), [])
            if not any(one is module for one in called):  # else a search of memory at each call
                called.append(module)
                self._roots.await_call(w for w in weights_of(optimizer) if id(w) not in ids)
        if optimizers and not partly:
            self._feed(self._begin(module, optimizers), (inputs, keywords))

    def _feed(self, training: Training | None, arguments: Any) -> None:
        """Link a training with the loader whose batch its model is called with."""
        if training is None or self._batch is None:
            return
        loader, batch = self._batch
        form = batch_form(batch, arguments)
        if form is not None:
            training.feed_from(loader, form, report_failure=self.report_failure)

    def _is_free(self, optimizer: Optimizer, ids: set[int]) -> bool:
        holds = any(id(weight) in ids for weight in weights_of(optimizer))
        return holds and self._training_of(optimizer) is None and optimizer not in self._ignored

    def _begin_late(self, optimizer: Optimizer) -> Training | None:
        """Watch from the first step on: its modules were called in parts, or compiled."""
        self.optimizers.add(optimizer)
        if optimizer in self._ignored:
            return None
        called, weights = self._called.pop(id(optimizer), []), weights_of(optimizer)
        modules = called or modules_holding(weights)
        for module in modules:
            self._roots.forget(module.modules())
        if len(modules) == 1 and not called:
            return self._begin(modules[0], [optimizer])
        names: dict[str, nn.Module] = {}
        for module in modules:
            names[model_name(module, set(names))] = module
        return self._begin(joined_model(names, weights), [optimizer])

    def _begin(self, model: nn.Module, optimizers: list[Optimizer]) -> Training | None:
        if len(self._names) >= MOST_TRAININGS:
            self.num_unwatched += 1
            self._ignored.update(optimizers)
            return None
        if self._is_watched(model):
            self.watched_itself.append(type(model).__name__)
            self._ignored.update(optimizers)
            return None
        name = model_name(model, self._names)
        self._names.add(name)
        history = self._new_history(name)
        history.add(WATCHED_BY, 0, {"script": 1.0})
        watcher = observe.watch(
            model,
            optimizers,
            history=history,
            diagnose=diagnosis.diagnose,
            check=None if self._say is None else LiveVerdict(self._say, name=name).check,
        )
        training = Training(name, watcher, optimizers)
        self.trainings.append(training)
        return training

    def _is_watched(self, model: nn.Module) -> bool:
        """True if the program watches the model itself, in two lines or by a callback."""
        ids = {id(weight) for weight in model.parameters()}
        own = {id(training.watcher) for training in self.trainings}
        return any(
            id(weight) in ids
            for watcher in list(WATCHERS)
            if watcher.is_open and id(watcher) not in own
            for weight in watcher.model.parameters()
        )

    def _finish_replaced(self, newest: Training) -> None:
        """End trainings that have not stepped since a newer one's optimizer was made.

        Their models are let go: a program that trains one after another needs room for one.
        """
        if self._is_watched(newest.model):  # a callback began to watch after the session
            self.watched_itself.append(newest.name)
            self._drop(newest)
            return
        for training in [one for one in self.trainings if one is not newest]:
            if training.idle_since_new and training.updates:
                self._finish_training(training)
                self.trainings.remove(training)

    def _drop(self, training: Training) -> None:
        """Stop watching without a diagnosis."""
        self.trainings.remove(training)
        self._ignored.update(training.optimizers)
        self._names.discard(training.name)
        training.watcher.close()
        self.dropped.append(training.name)

    def _training_of(self, optimizer: Optimizer) -> Training | None:
        return next((one for one in self.trainings if one.owns(optimizer)), None)

    def _finish_training(self, training: Training) -> None:
        try:
            diagnosis = training.diagnose(reads_data=self._read_data)
            if training.updates:
                self.diagnoses[training.name] = diagnosis
            else:
                self.dropped.append(training.name)
                if training.updates_without_loss:
                    self.blind.append(training.name)
        except Exception as error:
            self.report_failure("diagnosis", error)
