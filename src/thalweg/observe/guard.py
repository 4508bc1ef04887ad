"""Keep the watcher's own failures away from the user's run, its copies and its pickles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from thalweg.record import History
from thalweg.record.quantities import INSTRUMENT_FAILED

ReportFailure = Callable[[str, Exception], None]


class Guard:
    """Records exceptions in the history in place of raising them."""

    def __init__(self, history: History, step: int) -> None:
        self.history = history
        self.step = step  # at which failures are recorded; the watcher counts it on

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Let no exception leave the block."""
        try:
            yield
        except Exception as error:
            self.report_failure(part, error)

    def report_failure(self, part: str, error: Exception) -> None:
        """Record it: rules that need the broken part are reported as not checked."""
        reason = f"{part}: {type(error).__name__}: {error}"
        self.history.add(INSTRUMENT_FAILED, self.step, {reason: 1.0})


class Hook:
    """Calls a function and reports what it raises; does nothing inside compiled code."""

    def __init__(self, function: Callable[..., None], report_failure: ReportFailure) -> None:
        self._function, self._report_failure = function, report_failure

    def __call__(self, *arguments: Any) -> None:
        if torch.compiler.is_compiling():
            return
        try:
            self._function(*arguments)
        except Exception as error:  # the user's run goes on, whatever happens here
            self._report_failure("watch", error)

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _inert_hook, ()


def inert(*_: object) -> None:
    """Do nothing: a hook in a copy of the model, which is not watched."""


def _inert_hook() -> Callable[..., None]:
    return inert
