"""Decode images in background threads while training already uses the first ones.

A reader waits for the rows that it needs. Files that look damaged are decoded first, but a file
with intact ends may be damaged in its middle. If that shows only after the samples were split, it
raises `DamagedLateError`, and training starts again without the file.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition, Thread
from typing import NamedTuple

import numpy as np

from thalweg.errors import DataError

ROWS_PER_TASK = 8


class DecodedRow(NamedTuple):
    """The outcome of decoding one file."""

    digest: bytes  # of the contents of the file
    remarks: int = 0  # one bit for each of `decode.REMARKS`
    reason: str = ""  # why it could not be decoded
    checksum: int = 0  # CRC-32 of its pixels


class DamagedLateError(DataError):
    """A file proved damaged or changed after the samples were split."""

    def __init__(self, reason: str, decoding: "BackgroundDecoding") -> None:
        super().__init__(
            "a file proved damaged after training had started",
            seen=reason,
            fix="train again: the file is left out from now on",
        )
        self.decoding = decoding


class BackgroundDecoding:
    """Threads that fill rows 0 to count − 1: needed rows first, the rest in the preferred order.

    `decode_row` fills one row; the last thread calls `commit` once, with all rows.
    """

    def __init__(
        self,
        count: int,
        decode_row: Callable[[int], DecodedRow],
        *,
        commit: Callable[[Sequence[DecodedRow]], None],
        threads: int,
    ) -> None:
        self._decode_row, self._commit = decode_row, commit
        self._state = Condition()
        self._queue, self._urgent = deque(range(count)), deque[int]()
        self._claimed = np.zeros(count, dtype=bool)
        self._rows: list[DecodedRow | None] = [None] * count
        self._remaining = count
        self._sealed = self._is_complete = self._stopped = False
        self._pauses = 0  # active ones, which may be nested
        self._waits_for_order = True  # rows that nobody needs yet would delay needed ones
        self._damaged_late, self._error = "", None
        self._expected: Sequence[bytes] = ()
        for _ in range(threads):
            Thread(target=self._run_thread, name="decoding", daemon=True).start()

    _error: Exception | None

    def wait_for(self, rows: np.ndarray) -> None:
        """Wait until these rows are filled. Raises: DamagedLateError, or the error of a thread."""
        if self._is_complete and not self._damaged_late:
            return
        with self._state:
            self._urgent.extend(row for row in rows.tolist() if not self._claimed[row])
            self._state.notify_all()
            self._wait(lambda: all(self._rows[row] is not None for row in rows))

    @property
    def is_finished(self) -> bool:
        """True if all rows are filled and none proved damaged late."""
        return self._is_complete and not self._damaged_late

    def prefer(self, rows: Iterable[int]) -> None:
        """Set the order of the rows that nobody waits for, and start to decode them."""
        with self._state:
            self._waits_for_order = False
            self._queue.extendleft(reversed([int(row) for row in rows]))
            self._state.notify_all()

    def seal(self, rows: np.ndarray, digests: Sequence[bytes]) -> dict[int, str]:
        """Wait for these rows; return row → reason of all files that are damaged so far.

        From here on a damaged row, or one with other contents than `digests`, raises late.
        """
        self.wait_for(rows)
        with self._state:
            self._sealed, self._expected = True, digests
            decoded = [(row, r) for row, r in enumerate(self._rows) if r is not None]
            for row, outcome in decoded:
                self._check(row, DecodedRow(outcome.digest))
            return {row: outcome.reason for row, outcome in decoded if outcome.reason}

    def finish(self) -> Sequence[DecodedRow]:
        """Wait until all rows are filled and committed; return them."""
        with self._state:
            self._release()
            self._wait(lambda: self._is_complete)
        return [row for row in self._rows if row is not None]

    def join(self) -> None:
        """Wait until all rows are filled and committed, or an error ends the work."""
        with self._state:
            self._release()
            self._state.wait_for(
                lambda: self._is_complete or self._stopped or self._error is not None
            )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Fill only needed rows inside this context, so that timings are not disturbed."""
        with self._state:
            self._pauses += 1
        try:
            yield
        finally:
            with self._state:
                self._pauses = max(0, self._pauses - 1)  # 0 already after a release
                self._state.notify_all()

    def stop(self) -> None:
        """Let the threads end, unless a file proved damaged late: nobody needs more rows."""
        with self._state:
            self._stopped = not self._damaged_late
            self._state.notify_all()

    def _release(self) -> None:
        self._waits_for_order, self._pauses = False, 0
        self._state.notify_all()

    def _wait(self, condition: Callable[[], bool]) -> None:
        self._state.wait_for(
            lambda: self._error is not None or bool(self._damaged_late) or condition()
        )
        if self._error is not None:
            raise self._error
        if self._damaged_late:
            raise DamagedLateError(self._damaged_late, self)

    def _run_thread(self) -> None:
        try:
            while rows := self._next():
                self._store([(row, self._decode_row(row)) for row in rows])
        except Exception as error:  # raised in whoever waits
            with self._state:
                self._error = error
                self._state.notify_all()

    def _next(self) -> list[int]:
        """Claim the rows to fill next; none if all are claimed or the work is stopped."""
        with self._state:
            while True:
                rows: list[int] = []
                while len(rows) < ROWS_PER_TASK and (row := self._pop()) >= 0:
                    if not self._claimed[row]:
                        self._claimed[row] = True
                        rows.append(row)
                if rows or self._stopped or self._claimed.all():
                    return [] if self._stopped else rows
                self._state.wait()

    def _pop(self) -> int:
        if self._urgent:
            return self._urgent.popleft()
        if self._pauses > 0 or self._waits_for_order or not self._queue:
            return -1
        return self._queue.popleft()

    def _store(self, filled: Sequence[tuple[int, DecodedRow]]) -> None:
        with self._state:
            for row, outcome in filled:
                self._rows[row] = outcome
                if self._sealed:
                    self._check(row, outcome)
            self._remaining -= len(filled)
            self._state.notify_all()
            last = self._remaining == 0
        if last:
            self._commit([row for row in self._rows if row is not None])
            with self._state:
                self._is_complete = True
                self._state.notify_all()

    def _check(self, row: int, outcome: DecodedRow) -> None:
        if outcome.reason:
            self._damaged_late = self._damaged_late or outcome.reason
        elif outcome.digest != self._expected[row]:
            self._damaged_late = self._damaged_late or "its contents changed while they were read"
