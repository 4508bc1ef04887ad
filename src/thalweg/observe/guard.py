"""What keeps the watcher's own troubles away from the user's run, its copies and its pickles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from thalweg.record import History
from thalweg.record.quantities import INSTRUMENT_FAILED

Failed = Callable[[str, Exception], None]


class Guard:
    """Records what is raised inside; the user's run goes on, whatever happens here."""

    def __init__(self, history: History, step: int) -> None:
        self.history, self.step = history, step

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Nothing that is raised in this block leaves it."""
        try:
            yield
        except Exception as error:
            self.failed(what, error)

    def failed(self, what: str, error: Exception) -> None:
        """Record it: what needed the broken part is reported as not checked."""
        reason = f"{what}: {type(error).__name__}: {error}"
        self.history.add(INSTRUMENT_FAILED, self.step, {reason: 1.0})


def inert(*_: object) -> None:
    """What a hook becomes in a copy of the model: the copy is not watched."""


class Hook:
    """Calls a function and reports what it raises; silent inside compiled code."""

    def __init__(self, function: Callable[..., None], failed: Failed) -> None:
        self._function, self._failed = function, failed

    def __call__(self, *arguments: Any) -> None:
        if torch.compiler.is_compiling():
            return
        try:
            self._function(*arguments)
        except Exception as error:  # the user's run goes on, whatever happens here
            self._failed("watch", error)

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _inert, ()


def _inert() -> Callable[..., None]:
    return inert
