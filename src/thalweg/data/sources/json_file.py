"""JSON lines, or one list of records, as rows of text, as a CSV has them."""

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from thalweg.data.archives.bounds import BoundedStream
from thalweg.data.sources.csv_file import LONGEST_CELL
from thalweg.data.sources.table import TableRow, filled_rows
from thalweg.errors import DataError

LINES_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
JSON_SUFFIXES = (*LINES_SUFFIXES, ".json", ".json.gz")
LARGEST = 1 << 30  # bytes of a list, which is read whole
HEADER_RECORDS = 1_000  # whose keys become columns
MOST_COLUMNS = 10_000


@dataclass(frozen=True, slots=True)
class JsonFile:
    """Records of JSON with the names of their values; a name of a record within is "a.b"."""

    path: Path
    first: tuple[str, ...]
    notes: tuple[str, ...] = ()
    has_decimal_commas: bool = False
    repeated: tuple[str, ...] = ()

    def rows(self) -> Iterator[TableRow]:
        """The header, then a row for each record with a value. DataError for what is no JSON."""
        yield from filled_rows(self.every_row())

    def every_row(self) -> Iterator[TableRow]:
        """The header, then a row for each record. DataError for what is no JSON."""
        yield TableRow(0, list(self.first))
        for number, record in _records(self.path):
            flat = _flatten(record)
            yield TableRow(number, [flat.get(name, "") for name in self.first])


def json_file(path: Path) -> JsonFile | None:
    """The records at the path; None for another suffix, or for JSON that is no list of records."""
    name = path.name.lower()
    if not name.endswith(JSON_SUFFIXES) or not path.is_file():
        return None
    try:
        sample = [_flatten(record) for _, record in islice(_records(path), HEADER_RECORDS)]
    except DataError:
        if name.endswith(LINES_SUFFIXES):
            raise
        return None
    names = tuple(dict.fromkeys(name for record in sample for name in record))
    if not names or len(names) > MOST_COLUMNS:
        return None
    return JsonFile(path, names)


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records with their numbers from 1: of lines, of a list, or of a list under one name."""
    with _open(path) as file:
        first, second = file.readline(), file.readline()
        file.seek(0)
        if _is_record(first) and (second.strip() or not _holds_list(first)):
            yield from _lines(file, path)
            return
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise DataError(f"{path} is too large to be read whole", fix="save it as JSON lines")
    yield from enumerate(_list(text, path), start=1)


def _lines(file: io.TextIOBase, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _no_json(path, f"line {number}: {error}") from error
        if not isinstance(record, dict):
            raise _no_json(path, f"line {number} holds no record: {line[:40]!r}")
        yield number, record


def _list(text: str, path: Path) -> list[Mapping[str, Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_json(path, str(error)) from error
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and _are_records(v)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list) or not value or not _are_records(value):
        raise _no_json(path, "no list of records")
    return value


def _are_records(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _holds_list(line: str) -> bool:
    """Return whether one of the values is a list of records."""
    return any(isinstance(v, list) and v and _are_records(v) for v in json.loads(line).values())


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The values of a record as cells, by name; a list of words as "a|b"."""
    cells: dict[str, str] = {}
    for name, value in record.items():
        key = f"{prefix}{name}".strip()
        if isinstance(value, Mapping) and prefix.count(".") < 3:
            cells |= _flatten(value, f"{key}.")
        else:
            cells[key] = _cell(value)
    return cells


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(map(_cell, value))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST_CELL:
        raise DataError(f"a value has more than {LONGEST_CELL:,} characters")
    return text


def _open(path: Path) -> io.TextIOWrapper:
    if path.suffix.lower() == ".gz":
        unpacked = BoundedStream(gzip.GzipFile(path), archive=path)
        return io.TextIOWrapper(io.BufferedReader(unpacked), "utf-8-sig", errors="surrogateescape")
    return path.open(encoding="utf-8-sig", errors="surrogateescape")


def _no_json(path: Path, seen: str) -> DataError:
    return DataError(
        f"{path} cannot be read as JSON", seen=seen[:160], fix="one record in braces on each line"
    )
