"""Read a run while it is written, after its end, or after a kill -9."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

from thalweg.errors import RunError
from thalweg.record.history import History
from thalweg.record.quantities import Quantity, quantity_called
from thalweg.record.rows import Event, Picture, PredictionRow, RunSummary
from thalweg.record.run_lock import live_holder
from thalweg.record.schema import DATABASE, JSON, VERSION, read_text

Row = tuple[Any, ...]

_MEASUREMENTS = """
    SELECT quantity, place, unit, step, value
    FROM points JOIN series ON series.id = points.series
    WHERE step < ? ORDER BY points.rowid
"""
_LATEST_STEP = 2**63 - 1


class RunReader:
    """A run on disk. Each access reads its present state.

    Raises RunError where there is no run, or where it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._open() as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise RunError(
                f"{self.path} was made by a newer thalweg",
                seen=f"layout {version}; this thalweg knows {VERSION}",
                fix="upgrade thalweg",
            )
        if version == 0:
            raise RunError(f"{self.path} holds no run yet", fix="try again in a second")

    @property
    def history(self) -> History:
        """Every measurement so far."""
        return self.history_before(_LATEST_STEP)

    def history_before(self, step: int) -> History:
        """Every measurement before a step, from which a resumed run continues."""
        history = History()
        quantities: dict[str, Quantity] = {}
        for name, place, unit, at, value in self._rows(_MEASUREMENTS, step):
            if name not in quantities:
                quantities[name] = _quantity(read_text(name), unit)
            history.add(quantities[name], at, {read_text(place): nan if value is None else value})
        return history

    @property
    def meta(self) -> Mapping[str, JSON]:
        """The facts about the run, by name. None stands for a number that is not finite."""
        rows = self._rows("SELECT key, value FROM meta ORDER BY rowid")
        return {read_text(key): json.loads(value) for key, value in rows}

    @property
    def state(self) -> str:
        """running, finished, interrupted or failed; died, if it ran and its process is gone."""
        return self._state(self.meta)

    @property
    def events(self) -> list[Event]:
        """The events, in order of time."""
        rows = self._rows("SELECT time, step, kind, message, detail FROM events ORDER BY rowid")
        return [Event(t, s, read_text(k), read_text(m), json.loads(d)) for t, s, k, m, d in rows]

    @property
    def quarantined(self) -> list[tuple[str, str]]:
        """Samples left out of the data, with the reason."""
        rows = self._rows("SELECT name, reason FROM quarantined ORDER BY rowid")
        return [(read_text(name), read_text(reason)) for name, reason in rows]

    @property
    def predictions(self) -> list[PredictionRow]:
        """The final weights' prediction of each sample, in the order of the data."""
        rows = self._rows("SELECT * FROM predictions ORDER BY rowid")
        return [_prediction(*row) for row in rows]

    @property
    def diagnosis_json(self) -> str:
        """The latest recorded diagnosis; "" before the first."""
        rows = self._rows("SELECT body FROM diagnoses ORDER BY rowid DESC LIMIT 1")
        return rows[0][0] if rows else ""

    @property
    def recipe_toml(self) -> str:
        """The text of the recipe; "" where there is none."""
        try:
            return (self.path / "recipe.toml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def picture(self, name: str) -> Picture | None:
        """The NAME.json and NAME.svg that `thalweg NAME` writes; None unless both are there."""
        try:
            numbers = json.loads((self.path / f"{name}.json").read_bytes())
            svg = (self.path / f"{name}.svg").read_bytes()
        except (OSError, ValueError):
            return None
        return Picture(numbers, svg) if isinstance(numbers, dict) else None

    def summary(self) -> RunSummary:
        """The run in one line."""
        meta = self.meta
        metric = meta.get("headline_metric", "")
        value = (meta.get("metrics") or {}).get(metric)
        if value is None:
            metric, value = "", nan
        last = self._rows(
            "SELECT max(step) FROM points JOIN series ON id = series WHERE quantity = 'loss'"
        )[0][0]
        return RunSummary(
            path=self.path,
            state=self._state(meta),
            source=str(meta.get("source", "")),
            model=str(meta.get("model", "")),
            metric=metric,
            value=value,
            steps=0 if last is None else last + 1,
            started=float(meta.get("started", 0.0)),
        )

    def _state(self, meta: Mapping[str, JSON]) -> str:
        state = str(meta.get("state", "running"))
        if state == "running" and not live_holder(self.path):
            return "died"
        return state

    def _rows(self, sql: str, *values: object) -> list[Row]:
        with self._open() as database:
            return database.execute(sql, values).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self.path / DATABASE
        if not path.is_file():
            raise RunError(
                f"{self.path} is no run", seen=f"no {DATABASE} in it", fix="thalweg runs DIR lists"
            )
        try:
            with closing(_connect(path)) as database:
                yield database
        except (sqlite3.Error, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise _unreadable(path, error) from error


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


def _prediction(*row: Any) -> PredictionRow:
    split, name, target, predicted = map(read_text, row[:4])
    probability = nan if row[4] is None else row[4]
    return PredictionRow(split, name, target, predicted, probability, row[5])


def _quantity(name: str, unit: str) -> Quantity:
    quantity = quantity_called(name)
    return quantity if quantity.unit == unit else replace(quantity, unit=unit)


def _unreadable(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path} cannot be read", seen=str(error), fix="is it whole, and may you read it?"
    )
