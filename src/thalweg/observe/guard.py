"""Keep the watcher's own failures away from the user's run, its copies and its pickles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, no_type_check

import torch

from thalweg.errors import ThalwegError
from thalweg.observe.compiler import compiler_in_use, is_transformed, skip_frames
from thalweg.record import History
from thalweg.record.quantities import INSTRUMENT_FAILED, NOT_MEASURED

LONGEST = 160  # characters of an error's message that are worth reading


class NotMeasurableError(ThalwegError):
    """A measurement does not apply to this model: nothing is broken."""


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
        if isinstance(error, NotMeasurableError):
            reason = f"{part}: {error.problem} ({error.seen})"
            self.history.add(NOT_MEASURED, self.step, {reason: 1.0})
            return
        message = str(error).partition("\n")[0][:LONGEST]  # some of torch's are pages long
        reason = f"{part}: {type(error).__name__}: {message}"
        self.history.add(INSTRUMENT_FAILED, self.step, {reason: 1.0})


class Hook:
    """Calls a function and reports what it raises; does nothing inside compiled or traced code."""

    def __init__(self, function: Callable[..., None], report_failure: ReportFailure) -> None:
        self._function, self._report_failure = function, report_failure
        self._hidden: Callable[..., None] | None = None  # out of the compiler's sight
        skip_frames(Hook.__call__, Hook._call, is_transformed, compiler_in_use)

    @no_type_check  # whose checks, in a test run, would be compiled
    def __call__(self, *arguments: Any) -> None:
        if is_transformed():
            return
        try:
            self._call(*arguments)
        except Exception as error:  # the user's run goes on, whatever happens here
            self._report_failure("watch", error)

    @no_type_check
    def _call(self, *arguments: Any) -> None:
        """Call the function; where a compiler may look on, behind a wrapper, which takes longer."""
        if not compiler_in_use():
            self._function(*arguments)
            return
        if self._hidden is None:
            self._hidden = torch.compiler.disable(self._function)
        self._hidden(*arguments)

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _inert_hook, ()


def inert(*_: object) -> None:
    """Do nothing: a hook in a copy of the model, which is not watched."""


def _inert_hook() -> Callable[..., None]:
    return inert
