"""Rows that threads are filling while others already use them: whoever needs some waits for those.

What is damaged is looked for first, but a file that is whole at both ends may be broken between.
Found after the samples were split, it makes `FoundLateError`: the training begins again, without
the file, and so comes out as if it had been known from the start.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition, Thread
from typing import NamedTuple

import numpy as np

from thalweg.errors import DataError

ROWS_PER_TASK = 8


class Row(NamedTuple):
    """What became of one file."""

    digest: bytes  # of its contents
    remarks: int = 0  # one bit for each of `decode.REMARKS`
    reason: str = ""  # why it could not be decoded


class FoundLateError(DataError):
    """A file turned out to be damaged, or changed, after the samples had been split."""

    def __init__(self, reason: str, decoding: "Decoding") -> None:
        super().__init__(
            "a file was found damaged after training had begun",
            seen=reason,
            fix="train again: it is left out from now on",
        )
        self.decoding = decoding


class Decoding:
    """Threads that fill rows 0 to count − 1: what is needed at once, the rest in an order given.

    `work` makes one row; `settle` is called with all of them, by the last thread, once.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int], Row],
        *,
        settle: Callable[[Sequence[Row]], None],
        threads: int,
    ) -> None:
        self._work, self._settle = work, settle
        self._state = Condition()
        self._queue, self._urgent = deque(range(count)), deque[int]()
        self._taken = np.zeros(count, dtype=bool)
        self._rows: list[Row | None] = [None] * count
        self._left = count
        self._sealed = self._is_over = self._stopped = False
        self._pauses = 0  # that are not over: one may lie in another
        self._waits_for_order = True  # what nobody needs yet would only delay what somebody does
        self._late, self._error = "", None
        self._expected: Sequence[bytes] = ()
        for _ in range(threads):
            Thread(target=self._serve, name="decoding", daemon=True).start()

    _error: Exception | None

    def need(self, rows: np.ndarray) -> None:
        """Return when these rows are filled. FoundLateError, or whatever ended the work."""
        if self._is_over and not self._late:
            return
        with self._state:
            self._urgent.extend(row for row in rows.tolist() if not self._taken[row])
            self._state.notify_all()
            self._wait(lambda: all(self._rows[row] is not None for row in rows))

    @property
    def is_finished(self) -> bool:
        """Whether all rows are filled, and none was found damaged too late."""
        return self._is_over and not self._late

    def prefer(self, rows: Iterable[int]) -> None:
        """Begin with the rest: these first, in this order."""
        with self._state:
            self._waits_for_order = False
            self._queue.extendleft(reversed([int(row) for row in rows]))
            self._state.notify_all()

    def seal(self, rows: np.ndarray, digests: Sequence[bytes]) -> dict[int, str]:
        """Wait for some rows; the reasons of all that is known to be damaged by then.

        From here on a damaged row, or one whose contents are not these, is late.
        """
        self.need(rows)
        with self._state:
            self._sealed, self._expected = True, digests
            for row, found in enumerate(self._rows):
                if found is not None:
                    self._check(row, Row(found.digest))
            known = [(row, found) for row, found in enumerate(self._rows) if found is not None]
            return {row: found.reason for row, found in known if found.reason}

    def finish(self) -> Sequence[Row]:
        """All rows, when all are filled and settled."""
        with self._state:
            self._release()
            self._wait(lambda: self._is_over)
        return [row for row in self._rows if row is not None]

    def join(self) -> None:
        """Return when all rows are filled and settled, or cannot be."""
        with self._state:
            self._release()
            self._state.wait_for(lambda: self._is_over or self._stopped or self._error is not None)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is filled meanwhile but what is needed: for who measures times."""
        with self._state:
            self._pauses += 1
        try:
            yield
        finally:
            with self._state:
                self._pauses = max(0, self._pauses - 1)  # none is left where all was released
                self._state.notify_all()

    def let_go(self) -> None:
        """Nobody needs more of it. Unless a file was found late, the threads may end."""
        with self._state:
            self._stopped = not self._late
            self._state.notify_all()

    def _release(self) -> None:
        self._waits_for_order, self._pauses = False, 0
        self._state.notify_all()

    def _wait(self, condition: Callable[[], bool]) -> None:
        self._state.wait_for(lambda: self._error is not None or bool(self._late) or condition())
        if self._error is not None:
            raise self._error
        if self._late:
            raise FoundLateError(self._late, self)

    def _serve(self) -> None:
        try:
            while rows := self._next():
                filled = [(row, self._work(row)) for row in rows]
                self._keep(filled)
        except Exception as error:  # whoever waits is told
            with self._state:
                self._error = error
                self._state.notify_all()

    def _next(self) -> list[int]:
        """The rows to fill next; none when all are taken or the work is stopped."""
        with self._state:
            while True:
                rows: list[int] = []
                while len(rows) < ROWS_PER_TASK and (row := self._pop()) >= 0:
                    if not self._taken[row]:
                        self._taken[row] = True
                        rows.append(row)
                if rows or self._stopped or self._taken.all():
                    return [] if self._stopped else rows
                self._state.wait()

    def _pop(self) -> int:
        if self._urgent:
            return self._urgent.popleft()
        if self._pauses > 0 or self._waits_for_order or not self._queue:
            return -1
        return self._queue.popleft()

    def _keep(self, filled: Sequence[tuple[int, Row]]) -> None:
        with self._state:
            for row, found in filled:
                self._rows[row] = found
                if self._sealed:
                    self._check(row, found)
            self._left -= len(filled)
            self._state.notify_all()
            last = self._left == 0
        if last:
            self._settle([row for row in self._rows if row is not None])
            with self._state:
                self._is_over = True
                self._state.notify_all()

    def _check(self, row: int, found: Row) -> None:
        if found.reason:
            self._late = self._late or found.reason
        elif found.digest != self._expected[row]:
            self._late = self._late or "its contents changed while they were read"
