"""Pillow's warnings kept from the user: what matters of them is said in notes and reasons."""

import warnings
from threading import Lock
from types import TracebackType


class _Quiet:
    """Silences Pillow's warnings inside. Unlike `warnings.catch_warnings`, threads may overlap.

    The first thread in puts the filter up and the last one out restores what was there before.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


quiet = _Quiet()
