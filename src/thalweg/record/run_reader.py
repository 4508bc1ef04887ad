"""Read a run while it is written, after its end, or after a kill -9."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

from thalweg.errors import NoRunError, RunError
from thalweg.files import parse_json, read_bytes, read_json
from thalweg.files import read_text as read_text_file
from thalweg.record import check_facts as check
from thalweg.record.find_runs import run_to_name
from thalweg.record.history import History
from thalweg.record.open_database import read_only
from thalweg.record.quantities import quantity_called
from thalweg.record.quantity import Quantity
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
        with self._valid():
            return _history(self._rows(_MEASUREMENTS, step))

    @property
    def meta(self) -> Mapping[str, JSON]:
        """The facts about the run, by name. None stands for a number that is not finite."""
        with self._valid():
            rows = self._rows("SELECT key, value FROM meta ORDER BY rowid")
            check.check_text(text for row in rows for text in row)
            facts = {read_text(key): parse_json(read_text(value)) for key, value in rows}
            check.check_facts(facts)
            return facts

    @property
    def state(self) -> str:
        """running, finished, interrupted or failed; died, if it ran and its process is gone."""
        return self._state(self.meta)

    @property
    def events(self) -> list[Event]:
        """The events, in order of time."""
        sql = "SELECT time, step, kind, message, detail FROM events ORDER BY rowid"
        with self._valid():
            return [_event(*row) for row in self._rows(sql)]

    @property
    def quarantined(self) -> list[tuple[str, str]]:
        """Samples left out of the data, with the reason."""
        with self._valid():
            rows = self._rows("SELECT name, reason FROM quarantined ORDER BY rowid")
            check.check_text(text for row in rows for text in row)
            return [(read_text(name), read_text(reason)) for name, reason in rows]

    @property
    def predictions(self) -> list[PredictionRow]:
        """The final weights' prediction of each sample, in the order of the data."""
        with self._valid():
            return [_prediction(*r) for r in self._rows("SELECT * FROM predictions ORDER BY rowid")]

    @property
    def diagnosis_json(self) -> str:
        """The latest recorded diagnosis; "" before the first."""
        with self._valid():
            rows = self._rows("SELECT body FROM diagnoses ORDER BY rowid DESC LIMIT 1")
            check.check_text(rows[0] if rows else ())
            return read_text(rows[0][0]) if rows else ""

    @property
    def recipe_toml(self) -> str:
        """The text of the recipe; "" where there is none."""
        try:
            return read_text_file(self.path / "recipe.toml")
        except (OSError, UnicodeDecodeError):
            return ""

    def picture(self, name: str) -> Picture | None:
        """The NAME.json and NAME.svg that `thalweg NAME` writes; None unless both are there."""
        try:
            numbers = read_json(self.path / f"{name}.json")
            svg = read_bytes(self.path / f"{name}.svg")
        except (OSError, ValueError):
            return None
        return Picture(numbers, svg) if isinstance(numbers, dict) else None

    def summary(self) -> RunSummary:
        """The run in one line."""
        meta = self.meta
        metric = meta.get("headline_metric") or ""
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
            steps=last + 1 if isinstance(last, int) else 0,
            started=float(meta.get("started") or 0.0),
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
    def _valid(self) -> Iterator[None]:
        """Values that thalweg does not write end as one error that names the file."""
        try:
            yield
        except (ValueError, TypeError, OverflowError) as error:
            raise _unreadable(self.path / DATABASE, error) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self.path / DATABASE
        if not path.is_file():
            raise NoRunError(
                f"{self.path} is no run",
                seen=f"no {DATABASE} in it" if self.path.is_dir() else "there is no such folder",
                fix=run_to_name(self.path),
            )
        try:
            with read_only(path) as database:
                yield database
        except (sqlite3.Error, OSError) as error:
            raise _unreadable(path, error) from error


def _history(rows: list[Row]) -> History:
    history = History()
    quantities: dict[str, Quantity] = {}
    for name, place, unit, at, value in rows:
        if name not in quantities:
            check.check_text((name, unit))
            quantities[name] = _quantity(read_text(name), read_text(unit))
        check.check_step(at)
        check.check_number(value)
        history.add(quantities[name], at, {read_text(place): nan if value is None else value})
    return history


def _event(when: Any, step: Any, *texts: Any) -> Event:
    check.check_time(when)
    check.check_step(step)
    check.check_text(texts)
    kind, message, body = map(read_text, texts)
    detail = parse_json(body)
    check.check_json_object(detail)
    return Event(when, step, kind, message, detail)


def _prediction(*row: Any) -> PredictionRow:
    check.check_text(row[:4])
    check.check_number(row[4])
    if not isinstance(row[5], bytes | None):
        raise ValueError("a thumbnail is no bytes")  # of the file's contents
    split, name, target, predicted = map(read_text, row[:4])
    probability = nan if row[4] is None else row[4]
    return PredictionRow(split, name, target, predicted, probability, row[5])


def _quantity(name: str, unit: str) -> Quantity:
    quantity = quantity_called(name)
    return quantity if quantity.unit == unit else replace(quantity, unit=unit)


def _unreadable(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path} cannot be read",
        seen=str(error).partition("\n")[0][:200] or type(error).__name__,
        fix="is it whole, and may you read it?",
    )
