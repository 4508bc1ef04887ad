"""Write a run from one thread of its own, so that the training never waits for a disk."""

import atexit
import json
import logging
import os
import sqlite3
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from time import monotonic, time
from typing import Any, NamedTuple

from thalweg.errors import RunError, ThalwegWarning
from thalweg.record.open_database import check_tables, writable
from thalweg.record.quantity import Quantity
from thalweg.record.rows import PredictionRow
from thalweg.record.run_lock import HEARTBEAT, RunLock
from thalweg.record.schema import DATABASE, JSON, SCHEMA, VERSION, json_safe, read_text, stored_text

COMMIT_EVERY = 0.4  # seconds; with the commit itself, below the 0.5 promised
MOST_PENDING = 500_000  # values in memory, about 50 MB, while the disk accepts none
PATIENCE = 10.0  # seconds that `flush` and `close` wait for the disk

_POINT = "INSERT INTO points VALUES (?, ?, ?)"
_SERIES = "INSERT INTO series VALUES (?, ?, ?, ?)"
_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?)"

_DISK_ERRORS = (sqlite3.OperationalError, OSError, MemoryError)  # may pass; a TypeError will not

_log = logging.getLogger(__name__)


class _Reading(NamedTuple):
    quantity: Quantity
    step: int
    values: Mapping[str, float]


class _Statement(NamedTuple):
    sql: str
    rows: list[tuple[Any, ...]]


class RunWriter:
    """The one writer of a run's file. Also a context manager that closes itself.

    Commits at most 0.5 s apart, in WAL mode: a kill -9 costs the last second, a power cut at most
    what the system had not yet written; the file stays whole. `resume_from` first deletes the
    measurements of that step and later ones, and the predictions and the quarantine, which a
    resumed run writes anew.

    A disk that fails later does not stop the training: the writer holds the values and tries
    again, records an event `record-interrupted` once the disk is back, and `close` warns of losses.

    Raises RunError where another process writes this run, or nothing can be written at all.
    """

    def __init__(self, folder: Path, *, resume_from: int | None = None) -> None:
        self.path = folder
        self._readings: deque[_Reading] = deque()
        self._statements: deque[_Statement] = deque()
        self._flushes: deque[Signal] = deque()
        self._pending: list[_Reading] = []  # off the queues, not yet on disk
        self._pending_sql: list[_Statement] = []
        self._lost = 0  # entries
        self._pid = os.getpid()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(folder)
        except RunError:
            raise
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            self._database = _open_database(folder / DATABASE)
            self._series = _series_of(self._database)
            if resume_from is not None:
                _delete_from(self._database, resume_from)
        except (sqlite3.Error, OSError, ValueError) as error:
            self._lock.release()
            raise _unwritable(folder, error) from error
        self._closing = False
        self._wake = Signal()
        self._failing_since = 0.0  # monotonic seconds; 0: the last commit succeeded
        self._failure = ""
        self._thread = Thread(target=self._work, name="thalweg-record", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, quantity: Quantity, step: int, values: Mapping[str, float]) -> None:
        """Record a measurement. Returns at once: about a microsecond; the copy is for safety."""
        self._readings.append(_Reading(quantity, step, dict(values)))

    def event(self, kind: str, message: str, *, step: int = -1, **detail: JSON) -> None:
        """Record a single event."""
        self._statements.append(_event(kind, message, step=step, detail=detail))

    def set(self, key: str, value: JSON) -> None:
        """Record a fact about the run; a later value replaces an earlier one. NaN becomes null."""
        row = (stored_text(key), json.dumps(json_safe(value), allow_nan=False))
        self._statements.append(_Statement("INSERT OR REPLACE INTO meta VALUES (?, ?)", [row]))

    def quarantine(self, rows: Iterable[tuple[str, str]]) -> None:
        """Record the samples left out of the data, as (name, reason)."""
        texts: list[tuple[Any, ...]] = [(stored_text(n), stored_text(r)) for n, r in rows]
        sql = "INSERT OR REPLACE INTO quarantined VALUES (?, ?)"
        self._statements.append(_Statement(sql, texts))

    def predictions(self, rows: Iterable[PredictionRow]) -> None:
        """Record the final weights' prediction of each sample."""
        texts: list[tuple[Any, ...]] = [
            (*map(stored_text, row[:4]), float(row.probability), row.thumbnail) for row in rows
        ]
        sql = "INSERT INTO predictions VALUES (?, ?, ?, ?, ?, ?)"
        self._statements.append(_Statement(sql, texts))

    def findings(self, diagnosis_json: str) -> None:
        """Record a diagnosis; the view `findings` shows the latest."""
        sql = "INSERT INTO diagnoses VALUES (?, ?)"
        self._statements.append(_Statement(sql, [(time(), diagnosis_json)]))

    def flush(self) -> None:
        """Wait until others can read every record so far, or the disk has refused it."""
        if not self._thread.is_alive():
            return
        done = Signal()
        self._flushes.append(done)
        self._wake.set()
        done.wait(PATIENCE)

    def close(self) -> None:
        """Write the rest and release the run. Warns (ThalwegWarning) of lost entries."""
        if self._closing or os.getpid() != self._pid:  # a forked child owns nothing of this
            return
        self._closing = True
        atexit.unregister(self.close)
        self._wake.set()
        self._thread.join(PATIENCE)
        self._lock.release()
        if lost := self._losses():
            warnings.warn(
                f"{self.path}: not all of the run was recorded\n  seen: {lost}",
                ThalwegWarning,
                stacklevel=2,
            )

    def _losses(self) -> str:
        """The reason and number of lost entries; "" for none."""
        if not (self.path / DATABASE).exists():
            return f"{DATABASE} was deleted, or its disk is gone"
        pending = [*self._pending, *self._readings]
        lost = self._lost + sum(len(reading.values) for reading in pending)
        lost += len(self._pending_sql) + len(self._statements)
        reason = self._failure or "the disk did not answer in time"
        return f"{reason}; {lost} entries lost" if lost else ""

    def _work(self) -> None:
        """The thread: commit, sleep, repeat."""
        last_beat = monotonic()
        while True:
            closing = self._closing
            waiting = [self._flushes.popleft() for _ in range(len(self._flushes))]
            self._commit()
            for done in waiting:
                done.set()
            if closing:
                break
            if monotonic() - last_beat > HEARTBEAT:
                self._lock.beat()
                last_beat = monotonic()
            self._wake.wait(COMMIT_EVERY)
            self._wake.clear()
        with suppress(sqlite3.Error):  # a finished run is one plain file, unless somebody reads it
            self._database.execute("PRAGMA busy_timeout = 0")
            self._database.execute("PRAGMA journal_mode = DELETE")
        with suppress(sqlite3.Error):
            self._database.close()

    def _commit(self) -> None:
        """Write all pending entries in one transaction, or hold them for the next try."""
        self._pending += [self._readings.popleft() for _ in range(len(self._readings))]
        self._pending_sql += [self._statements.popleft() for _ in range(len(self._statements))]
        if not self._pending and not self._pending_sql:
            return
        num_series = len(self._series)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._write()
            self._database.execute("COMMIT")
        except Exception as error:  # whatever it is, the training goes on
            self._postpone(error, num_series)
            return
        self._pending.clear()
        self._pending_sql.clear()
        if self._failing_since:
            self._record_interruption()

    def _write(self) -> None:
        num_series = len(self._series)
        points = list(self._points())
        new = list(self._series.items())[num_series:]
        self._database.executemany(_SERIES, [(index, *map(stored_text, key)) for key, index in new])
        self._database.executemany(_POINT, points)
        for statement in self._pending_sql:
            self._database.executemany(*statement)

    def _points(self) -> Iterator[tuple[int, int, float]]:
        series = self._series
        for quantity, step, values in self._pending:
            for place, value in values.items():
                key = (quantity.name, place, quantity.unit)
                index = series.get(key) or series.setdefault(key, len(series) + 1)
                yield index, int(step), float(value)

    def _postpone(self, error: Exception, num_series: int) -> None:
        """Roll back; hold what the disk may accept later, and drop the rest."""
        with suppress(sqlite3.Error):
            self._database.execute("ROLLBACK")
        for key in list(self._series)[num_series:]:
            del self._series[key]
        if not self._failing_since:
            _log.warning("%s: cannot be recorded for now: %s", self.path, error)
        self._failing_since = self._failing_since or monotonic()
        self._failure = str(error)
        if not isinstance(error, _DISK_ERRORS):
            self._lost += len(self._pending_sql)
            self._pending_sql.clear()
        room = MOST_PENDING if isinstance(error, _DISK_ERRORS) else 0
        pending = sum(len(reading.values) for reading in self._pending)
        self._lost += max(0, pending - room)
        while pending > room:
            pending -= len(self._pending.pop(0).values)

    def _record_interruption(self) -> None:
        seconds = monotonic() - self._failing_since
        self._failing_since = 0.0
        self.event(
            "record-interrupted",
            f"nothing could be written for {seconds:.1f} s: {self._failure}; "
            f"{self._lost} entries were lost",
            seconds=seconds,
            lost=self._lost,
        )


def _event(kind: str, message: str, *, step: int, detail: Mapping[str, JSON]) -> _Statement:
    body = json.dumps(json_safe(detail), allow_nan=False)
    return _Statement(_EVENT, [(time(), int(step), stored_text(kind), stored_text(message), body)])


def _open_database(path: Path) -> sqlite3.Connection:
    """Open the file, or create it. The connection goes to the writer's thread."""
    database = writable(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise sqlite3.NotSupportedError(f"{path.name} was made by a newer thalweg")
    if version:
        check_tables(database)
    else:
        started = f"INSERT INTO meta VALUES ('started', '{time()}');"
        database.executescript(f"BEGIN;{SCHEMA}{started}PRAGMA user_version = {VERSION};COMMIT;")
    return database


def _series_of(database: sqlite3.Connection) -> dict[tuple[str, str, str], int]:
    """(quantity, place, unit) → id, in the order of the ids, which count from 1 without a gap."""
    rows = database.execute("SELECT quantity, place, unit, id FROM series ORDER BY id")
    return {(read_text(q), read_text(p), read_text(u)): index for q, p, u, index in rows}


def _delete_from(database: sqlite3.Connection, step: int) -> None:
    """Delete the measurements from a step on, and what a resumed run writes anew."""
    database.execute("BEGIN IMMEDIATE")
    database.execute("DELETE FROM points WHERE step >= ?", (step,))
    for table in ("predictions", "quarantined", "diagnoses"):
        database.execute(f"DELETE FROM {table}")
    database.execute("COMMIT")


def _unwritable(folder: Path, error: Exception) -> RunError:
    return RunError(
        f"{folder} cannot be written",
        seen=str(error),
        fix="choose a disk with free space",
    )
