"""Open the database of a run that anybody may have made: no link, no view, no trigger.

Queries name tables. A view of that name could compute without end, a trigger could delete what is
written, and a link could lead to another file. So the tables are those of the schema, or the file
is refused.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from thalweg.files import check_no_link, check_regular
from thalweg.record.schema import SCHEMA

LONGEST_VALUE = 64 << 20  # bytes of one value
_OBJECTS = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('table', 'trigger')"


class ForeignLayoutError(sqlite3.DatabaseError):
    """The file's tables are not those of a run."""


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a run's file, to read. Raises OSError or sqlite3.Error."""
    check_regular(path)
    _check_neighbours(path)
    database = _connect(path)
    try:
        _bound(database)
        if database.execute("PRAGMA user_version").fetchone()[0]:  # 0: not written yet
            check_tables(database)
        yield database
    finally:
        database.close()


def writable(path: Path) -> sqlite3.Connection:
    """A connection to write a run's file, which it makes where there is none.

    The connection may go to another thread. Raises OSError or sqlite3.Error.
    """
    check_no_link(path)
    _check_neighbours(path)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    _bound(database)
    return database


def check_tables(database: sqlite3.Connection) -> None:
    """Raises ForeignLayoutError where a table is not as in the schema, or there is a trigger."""
    actual = set(database.execute(_OBJECTS).fetchall())
    triggers = {row for row in actual if row[0] == "trigger"}
    if foreign := triggers | (_expected() - actual):
        kind, name, _ = min(foreign, key=str)
        raise ForeignLayoutError(f"the {kind} {name!r} is not as in a run of this version")


@cache
def _expected() -> frozenset[tuple[str, str, str]]:
    database = sqlite3.connect(":memory:")
    try:
        database.executescript(SCHEMA)
        return frozenset(database.execute(_OBJECTS).fetchall())
    finally:
        database.close()


def _check_neighbours(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        check_no_link(path.with_name(path.name + suffix))


def _bound(database: sqlite3.Connection) -> None:
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    database.execute("PRAGMA trusted_schema = OFF")


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file read-only.

    On a read-only disk SQLite cannot make the index of the write-ahead log. Without a log, the
    file alone is the whole run, and is opened as immutable.
    """
    uri = path.absolute().as_uri()
    database = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=5.0)
    try:
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        database.close()
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise
        return sqlite3.connect(f"{uri}?immutable=1", uri=True)
    return database
