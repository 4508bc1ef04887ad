"""Read curves from a CSV file: Lightning's metrics.csv, Keras' CSVLogger, results.csv, others."""

import csv
from collections.abc import Iterator
from pathlib import Path

from thalweg.errors import DataError
from thalweg.files import LARGEST_LOG, check_length

DELIMITERS = (",", ";", "\t")


def csv_rows(path: Path) -> Iterator[dict[str, float]]:
    """The numbers of each line, by column. Other cells are left out.

    Raises DataError where the file is empty, not text, or without a line of names.
    """
    lines = _text(path).splitlines()
    if not lines:
        raise DataError(f"{path} is empty", fix="give a CSV file with a line of column names")
    delimiter = max(DELIMITERS, key=lines[0].count)
    table = _cells(path, csv.reader(lines, delimiter=delimiter))
    names = [name.strip() for name in next(table)]
    if all(_number(name) is not None for name in names):
        raise DataError(
            f"{path} has no column names",
            seen=f"first line: {lines[0][:80]}",
            fix="write a first line such as step,train_loss,val_loss",
        )
    for cells in table:
        numbers = {n: _number(cell) for n, cell in zip(names, cells, strict=False)}
        yield {name: number for name, number in numbers.items() if number is not None}


def _cells(path: Path, rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The cells of each row. Raises DataError for a cell that is too long for a number."""
    try:
        yield from rows
    except csv.Error as error:
        raise _not_text(path, str(error)) from error


def _text(path: Path) -> str:
    try:
        check_length(path, LARGEST_LOG)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _not_text(path, str(error)) from error
    if "\0" in text:
        raise _not_text(path, "zero bytes in it")
    return text


def _not_text(path: Path, seen: str) -> DataError:
    return DataError(
        f"{path} is not a text file",
        seen=seen,
        fix="give a CSV, a trainer_state.json, a TensorBoard event file, or a run's folder",
    )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
