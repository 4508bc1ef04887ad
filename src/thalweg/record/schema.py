"""The layout of a run's file. docs/run_folder.md documents it; a test holds the two together."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

DATABASE = "run.db"
VERSION = 1  # PRAGMA user_version; raised when the meaning of a table changes
JSON = Any  # a value of json.loads

SCHEMA = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    quantity TEXT NOT NULL,
    place TEXT NOT NULL,
    unit TEXT NOT NULL,
    UNIQUE (quantity, place, unit)
);
CREATE TABLE points (
    series INTEGER NOT NULL REFERENCES series (id),
    step INTEGER NOT NULL,
    value REAL
);
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE events (
    time REAL NOT NULL,
    step INTEGER NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE TABLE quarantined (
    name TEXT PRIMARY KEY,
    reason TEXT NOT NULL
);
CREATE TABLE predictions (
    split TEXT NOT NULL,
    name TEXT NOT NULL,
    target TEXT NOT NULL,
    predicted TEXT NOT NULL,
    probability REAL,
    thumbnail BLOB
);
CREATE TABLE diagnoses (
    time REAL NOT NULL,
    body TEXT NOT NULL
);
CREATE VIEW measurements AS
    SELECT quantity, place, step, value, unit
    FROM points JOIN series ON series.id = points.series
    ORDER BY points.rowid;
CREATE VIEW findings AS
    SELECT json_extract(finding.value, '$.rule') AS rule,
           json_extract(finding.value, '$.severity') AS severity,
           json_extract(finding.value, '$.summary') AS summary,
           finding.value AS body
    FROM diagnoses, json_each(diagnoses.body, '$.findings') AS finding
    WHERE diagnoses.rowid = (SELECT max(rowid) FROM diagnoses);
"""


def stored_text(text: str) -> str | bytes:
    """The text as SQLite accepts it: a file name that is no valid Unicode becomes a blob."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")
    return text


def read_text(stored: str | bytes) -> str:
    """The inverse of `stored_text`."""
    return stored if isinstance(stored, str) else stored.decode(errors="surrogatepass")


def json_safe(value: JSON) -> JSON:
    """Replace every number that JSON cannot hold, NaN and the infinities, by None."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): json_safe(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [json_safe(inner) for inner in value]
    return value
