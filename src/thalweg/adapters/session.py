"""One training as a callback sees it: what a hand-written loop would tell the watcher itself."""

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
from thalweg.record.quantities import INSTRUMENT_FAILED

Sink = Callable[[str], object]
P = ParamSpec("P")


def guarded(method: Callable[P, None]) -> Callable[P, None]:
    """A method of a session, or of a callback with its `session_`, that does not raise.

    What goes wrong in it is recorded and logged; the user's run goes on.
    """

    @wraps(method)
    def guarded_method(*arguments: P.args, **named: P.kwargs) -> None:
        try:
            method(*arguments, **named)
        except Exception as error:
            owner: Any = arguments[0]
            getattr(owner, "session_", owner).broke(f"{type(error).__name__}: {error}")

    return guarded_method


class Session:
    """Watches the trainings of one callback, one after the other. Nothing here raises.

    `sink` is given the page at the end; None keeps it quiet. `about` goes on to `thalweg.watch`.
    """

    def __init__(self, *, sink: Sink | None, about: Mapping[str, Any]) -> None:
        self.diagnosis: Diagnosis | None = None
        self._sink, self._about = sink, {k: v for k, v in about.items() if v is not None}
        self._watcher: Watcher | None = None
        self._values: list[Tensor] = []  # what each backward pass since the update came to
        self._rescaled = False
        self._last: Tensor | None = None
        self._batch: tuple[Any, Any] | None = None
        self._logits: Tensor | None = None

    @property
    def watching(self) -> bool:
        """Between `begin` and `end`."""
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
        """Start to watch; a training that was still being watched is given up."""
        self.abandon()
        data = {"train": train, "val": val}
        self._watcher = watch(model, list(optimizers), **(data | self._about))

    def loss(
        self,
        loss: Tensor,
        *,
        value: Tensor | None = None,
        batch: tuple[Any, Any] | None = None,
        logits: Tensor | None = None,
    ) -> None:
        """Note the loss of one backward pass; there may be several before the update.

        `value` is what it comes to, where the loss that was differentiated had been rescaled.
        """
        self._values.append(loss.detach() if value is None else value)
        self._rescaled = value is not None
        self._last, self._batch, self._logits = loss, batch, logits

    @guarded
    def updated(self, *, summed: bool = False) -> None:
        """Note that the optimizer has moved the weights; `summed`: its losses were shares."""
        if self._watcher is not None and self._last is not None:
            self._watcher.step(self._whole(self._last, summed), self._batch, self._logits)
        self._forget()

    @guarded
    def log(self, named: Mapping[str, Any], *, split: Split = "train") -> None:
        """Note what was logged, under our names; `split` is where the rest was measured."""
        for name, value in named.items():
            if self._watcher is None or not isinstance(value, int | float | Tensor):
                continue
            meaning, number = meaning_of(name, split=split), float(value)
            if meaning is not None and meaning.quantity.name.startswith("val"):
                self._watcher.log(**{meaning.quantity.name: meaning.to_quantity(number)})
            elif meaning is None and name not in QUANTITIES:
                self._watcher.log(**{name: number})

    @guarded
    def end(self, *, tell: bool = True, note: str = "") -> None:
        """Diagnose, stop watching, and tell the diagnosis, with the note below it."""
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        try:
            self.diagnosis = watcher.diagnose()
        finally:
            watcher.close()
            self._forget()
        if self._sink is not None and tell:
            self._sink("\n\n".join(filter(None, (str(self.diagnosis), note))))

    def abandon(self) -> None:
        """Stop watching without a diagnosis."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
        self._forget()

    def broke(self, reason: str) -> None:
        """Record what went wrong in the adapter itself."""
        logging.getLogger(__name__).warning("the watch over this training broke: %s", reason)
        if self._watcher is not None:
            self._watcher.history.add(INSTRUMENT_FAILED, 0, {f"adapter: {reason}": 1.0})

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or what is written to a file, watches nothing: hooks belong to one process."""
        gone: dict[str, Any] = {
            "_watcher": None,
            "_last": None,
            "_batch": None,
            "_logits": None,
            "_values": [],
        }
        return self.__dict__ | gone

    def _forget(self) -> None:
        self._values, self._rescaled = [], False
        self._last = self._batch = self._logits = None

    def _whole(self, last: Tensor, summed: bool) -> Tensor:
        """The loss of the update, with the graph of its last backward pass."""
        if len(self._values) == 1 and not self._rescaled:
            return last
        every = torch.stack(self._values)
        return with_value(last, every.sum() if summed else every.mean())


def library_missing(extra: str, error: ModuleNotFoundError) -> UsageError:
    """What to raise where an adapter is imported and its library, or what that needs, is absent."""
    absent = (error.name or extra).partition(".")[0]
    itself = absent in (extra, "pytorch_lightning")
    return UsageError(
        f"thalweg.adapters.{extra} needs a library that is not installed",
        seen=str(error),
        fix=f"pip install 'thalweg[{extra}]'" if itself else f"install {absent}",
    )
