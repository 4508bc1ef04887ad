"""Ctrl-C and SIGTERM end a training after its step; a second Ctrl-C ends it at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_WATCHED = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Inside `with Interrupt() as interrupt`, a signal sets `interrupt.signal` and nothing else.

    A Ctrl-C after any signal raises KeyboardInterrupt. The end restores the previous handlers.
    Outside the main thread, where Python allows no handlers, it does nothing. A shell starts
    background jobs with SIGINT ignored; inside, SIGINT works again.
    """

    def __init__(self) -> None:
        self.signal = 0  # number of the first signal; 0: none yet
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in _WATCHED:
                if signal.getsignal(number) is not None:  # None: not installed from Python
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def __bool__(self) -> bool:
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """Exit code for the process: 130 after Ctrl-C, 143 after SIGTERM, else 0."""
        return 128 + self.signal if self.signal else 0

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number
