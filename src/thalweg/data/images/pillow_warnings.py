"""Suppress Pillow's warnings: notes and reasons of quarantine tell the user what matters."""

import warnings
from threading import Lock
from types import TracebackType


class _NoPillowWarnings:
    """Context without Pillow's warnings that, unlike `warnings.catch_warnings`, threads may share.

    The first thread to enter sets the filter; the last one to leave restores the previous filters.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._threads = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._threads == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._threads += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._threads -= 1
            if self._threads == 0:
                self._filters.__exit__(None, None, None)


no_pillow_warnings = _NoPillowWarnings()
