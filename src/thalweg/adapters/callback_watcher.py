"""Watch a training through its library's callback, in place of two lines in a loop of one's own."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.api import watch
from thalweg.diagnosis import Diagnosis
from thalweg.errors import UsageError
from thalweg.observe import Watcher
from thalweg.observe.loss_graph import with_value
from thalweg.record import QUANTITIES
from thalweg.record.metric_names import Split, meaning_of
from thalweg.record.quantities import INSTRUMENT_FAILED, WATCHED_BY

Sink = Callable[[str], object]
P = ParamSpec("P")


def guarded(method: Callable[P, None]) -> Callable[P, None]:
    """Let a method of a callback with its `watcher_`, or of a watcher, not raise.

    Its exceptions are recorded and logged; the user's run goes on.
    """

    @wraps(method)
    def guarded_method(*arguments: P.args, **named: P.kwargs) -> None:
        try:
            method(*arguments, **named)
        except Exception as error:
            owner: Any = arguments[0]
            getattr(owner, "watcher_", owner).report_failure(f"{type(error).__name__}: {error}")

    return guarded_method


class CallbackWatcher:
    """Watches the trainings of one callback, one after the other. Nothing here raises.

    `sink` receives the page at the end (None: nothing is printed). `options` go to `thalweg.watch`.
    """

    def __init__(self, *, sink: Sink | None, options: Mapping[str, Any]) -> None:
        self.diagnosis: Diagnosis | None = None
        self._sink, self._options = sink, {k: v for k, v in options.items() if v is not None}
        self._watcher: Watcher | None = None
        self._values: list[Tensor] = []  # the losses of the backward passes since the update
        self._rescaled = False
        self._last: Tensor | None = None
        self._batch: tuple[Any, Any] | None = None
        self._logits: Tensor | None = None

    @property
    def watching(self) -> bool:
        """True between `begin` and `end`."""
        return self._watcher is not None

    @guarded
    def begin(
        self,
        model: nn.Module,
        optimizers: Iterable[Optimizer],
        *,
        train: Iterable[Any] | None = None,
        val: Iterable[Any] | None = None,
    ) -> None:
        """Start to watch; a training that is still being watched is abandoned."""
        self.abandon()
        data = {"train": train, "val": val}
        self._watcher = watch(model, list(optimizers), **(data | self._options))
        self._watcher.history.add(WATCHED_BY, 0, {"callback": 1.0})

    def record_loss(
        self,
        loss: Tensor,
        *,
        value: Tensor | None = None,
        batch: tuple[Any, Any] | None = None,
        logits: Tensor | None = None,
    ) -> None:
        """Record the loss of one backward pass; there may be several before the update.

        `value` is the loss itself, where the one that was differentiated had been rescaled.
        """
        self._values.append(loss.detach() if value is None else value)
        self._rescaled = value is not None
        self._last, self._batch, self._logits = loss, batch, logits

    @guarded
    def record_update(self, *, summed: bool = False) -> None:
        """Record an update of the weights; `summed`: its losses were shares of one mean."""
        if self._watcher is not None and self._last is not None:
            loss = self._update_loss(self._last, summed=summed)
            self._watcher.step(loss, self._batch, self._logits)
        self._forget()

    @guarded
    def log(self, named: Mapping[str, Any], *, split: Split = "train") -> None:
        """Record logged scores under our names; those without a split were measured on `split`."""
        for name, value in named.items():
            if self._watcher is None or not isinstance(value, int | float | Tensor):
                continue
            meaning, number = meaning_of(name, split=split), float(value)
            if meaning is not None and meaning.quantity.name.startswith("val"):
                self._watcher.log(**{meaning.quantity.name: meaning.to_quantity(number)})
            elif meaning is None and name not in QUANTITIES:
                self._watcher.log(**{name: number})

    @guarded
    def end(self, *, prints: bool = True, note: str = "") -> None:
        """Diagnose, stop watching, and send the page to the sink, with the note below it."""
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        try:
            self.diagnosis = watcher.diagnose()
        finally:
            watcher.close()
            self._forget()
        if self._sink is not None and prints:
            self._sink("\n\n".join(filter(None, (str(self.diagnosis), note))))

    def abandon(self) -> None:
        """Stop watching without a diagnosis."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
        self._forget()

    def report_failure(self, reason: str) -> None:
        """Record and log an exception in the adapter itself."""
        logging.getLogger(__name__).warning("watching this training failed: %s", reason)
        if self._watcher is not None:
            self._watcher.history.add(INSTRUMENT_FAILED, 0, {f"adapter: {reason}": 1.0})

    def __getstate__(self) -> dict[str, Any]:
        """Leave the watcher out of copies and files: hooks belong to one process."""
        empty: dict[str, Any] = {
            "_watcher": None,
            "_last": None,
            "_batch": None,
            "_logits": None,
            "_values": [],
        }
        return self.__dict__ | empty

    def _forget(self) -> None:
        self._values, self._rescaled = [], False
        self._last = self._batch = self._logits = None

    def _update_loss(self, last: Tensor, *, summed: bool) -> Tensor:
        """The loss of the update, with the graph of its last backward pass."""
        if len(self._values) == 1 and not self._rescaled:
            return last
        values = torch.stack(self._values)
        return with_value(last, values.sum() if summed else values.mean())


def library_missing(extra: str, error: ModuleNotFoundError) -> UsageError:
    """The error for an adapter whose library, or a library that that needs, is not installed."""
    absent = (error.name or extra).partition(".")[0]
    itself = absent in (extra, "pytorch_lightning")
    return UsageError(
        f"thalweg.adapters.{extra} needs a library that is not installed",
        seen=str(error),
        fix=f"pip install 'thalweg[{extra}]'" if itself else f"install {absent}",
    )
