"""Parquet and Arrow files (Feather is one) as rows of text, as a CSV has them.

The text of a value is what Arrow itself casts it to; a CSV of the same table reads alike. Text
columns of Parquet are read as dictionaries, so that a text that a small file repeats a million
times is held once.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg.data.caveat import Caveat
from thalweg.data.sources.csv_file import LONGEST_CELL
from thalweg.data.sources.table import TableRow, filled_rows
from thalweg.data.tables.cells import is_number
from thalweg.errors import DataError
from thalweg.wording import some

ARROW_SUFFIXES = (".parquet", ".pq", ".feather", ".arrow", ".ipc")
ROWS_AT_ONCE = 8192
MOST_CELLS = 50_000_000  # of a file with fewer bytes than a thousandth of its cells
CELLS_PER_BYTE = 1000
MOST_UNPACKED = 64 << 20  # bytes of columns that unpack by more than MOST_RATIO
MOST_RATIO = 200
_PARQUET, _FILE, _STREAM, _FEATHER_1 = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"FEA1"


@dataclass(frozen=True, slots=True)
class ArrowFile:
    """A Parquet or Arrow file with the names of the columns that are cells."""

    path: Path
    columns: tuple[str, ...]  # as the file has them
    first: tuple[str, ...]
    notes: tuple[str, ...] = ()
    has_decimal_commas: bool = False
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of numbered classes
    repeated: tuple[str, ...] = ()  # such a file is refused

    def rows(self) -> Iterator[TableRow]:
        """The header, then all rows that are not empty. DataError if the file is damaged."""
        yield from filled_rows(self.every_row())

    def every_row(self) -> Iterator[TableRow]:
        """The header, then all rows. DataError if the file is damaged."""
        yield TableRow(0, list(self.first))
        number = 0
        with _reading(self.path):
            for batch in _batches(self.path, self.columns):
                texts = [
                    _named(_texts(batch.column(name)), self.class_names.get(name, ()))
                    for name in self.columns
                ]
                for cells in zip(*texts, strict=True):
                    number += 1
                    yield TableRow(number, list(cells))


def arrow_file(path: Path) -> ArrowFile | None:
    """The Parquet or Arrow file at the path; None if it has another suffix.

    Raises DataError without pyarrow, or if the file is damaged or has no columns that are cells.
    """
    if not path.name.lower().endswith(ARROW_SUFFIXES) or not path.is_file():
        return None
    with _reading(path):
        schema = _schema(path)
        cells = [column.name for column in schema if _is_cell(column.type)]
        others = [column.name for column in schema if not _is_cell(column.type)]
    twice = sorted({name for name in cells if cells.count(name) > 1})
    if twice:
        raise DataError(
            f"columns of {path} have the same name",
            seen=", ".join(map(repr, twice)),
            fix="rename them: a column is read by its name",
        )
    left_out = f"columns of bytes, lists or records: {some([repr(name) for name in others])}"
    if len(cells) < 1 + bool(others):
        raise DataError(
            f"{path} holds no table of numbers and words",
            seen=left_out if others else "no columns",
            fix="for images, save them as files, in a folder for each class",
        )
    notes = (Caveat(f"{left_out} (left out)", "Columns were left out"),) if others else ()
    names = [name.strip() for name in cells]
    if all(map(is_number, names)):  # a header of numbers reads like a row
        names = [f"column {name}" for name in names]
    return ArrowFile(path, tuple(cells), tuple(names), notes, class_names=_class_names(schema))


def _class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """The names of classes that the package `datasets` stores as numbers, by column."""
    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = stored.get("info", {}).get("features", {})
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, AttributeError, KeyError, TypeError):  # another format of the same name
        return {}


def _named(cells: list[str], names: Sequence[str]) -> list[str]:
    """Numbers of classes as their names; others as they are, such as −1 for no label."""
    numbered = {str(number): name for number, name in enumerate(names)}
    return [numbered.get(cell, cell) for cell in cells] if numbered else cells


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of pyarrow as one DataError; without pyarrow, the command that installs it."""
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        raise DataError(
            f"{path} needs pyarrow to be read",
            seen=str(error),
            fix='pip install "thalweg[data]", or save the table as CSV',
        ) from error
    except Exception as error:  # damaged files make pyarrow raise any kind of error
        raise DataError(
            f"{path} cannot be read as Parquet or Arrow",
            seen=" ".join(str(error).split())[:160] or type(error).__name__,
            fix="write it again, or save the table as CSV",
        ) from error


def _is_cell(kind: Any) -> bool:
    """Return whether values of the type are numbers, words, flags, dates or missing."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_cell(kind.value_type)
    return (
        types.is_primitive(kind)  # numbers, flags, dates, times
        or types.is_decimal(kind)
        or types.is_null(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
    ) and not types.is_interval(kind)


def _schema(path: Path) -> Any:
    """The columns of the file, without a value of them."""
    if _start(path) == _PARQUET:
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            return file.schema_arrow
    with _open_arrow(path) as file:
        return file.schema


def _batches(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """The rows in parts. Raises DataError where the file unpacks into far more than it holds."""
    if _start(path) == _PARQUET:
        yield from _parquet_batches(path, columns)
        return
    rows = 0
    with _open_arrow(path) as file:
        parts = file if hasattr(file, "read_next_batch") else _parts(file)
        for part in parts:
            rows += part.num_rows
            _check_cells(path, rows * part.num_columns)
            part.validate(full=True)  # a damaged one would be read beyond its end
            chosen = part.select(list(columns))
            for start in range(0, part.num_rows, ROWS_AT_ONCE):
                yield chosen.slice(start, ROWS_AT_ONCE)


def _parts(file: Any) -> Iterator[Any]:
    return (file.get_batch(index) for index in range(file.num_record_batches))


def _parquet_batches(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    from pyarrow import parquet, types

    with parquet.ParquetFile(path) as file:
        metadata = file.metadata
        _check_cells(path, metadata.num_rows * metadata.num_columns)
        groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
        unpacked = sum(group.total_byte_size for group in groups)
        if unpacked > max(MOST_UNPACKED, MOST_RATIO * path.stat().st_size):
            raise _bomb(path, f"{unpacked:,} bytes")
        texts = [field.name for field in file.schema_arrow if types.is_string(field.type)]
    reader = parquet.ParquetFile(
        path, read_dictionary=texts, page_checksum_verification=True, pre_buffer=False
    )
    with reader as file:
        yield from file.iter_batches(ROWS_AT_ONCE, columns=list(columns), use_threads=False)


def _check_cells(path: Path, cells: int) -> None:
    if cells > max(MOST_CELLS, CELLS_PER_BYTE * path.stat().st_size):
        raise _bomb(path, f"{cells:,} cells")


def _bomb(path: Path, contents: str) -> DataError:
    return DataError(
        f"{path} unpacks into far more than it holds",
        seen=f"{contents} in {path.stat().st_size:,} bytes",
        fix="save the rows that you need, as CSV",
    )


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _open_arrow(path: Path) -> Any:
    """A reader of an Arrow file or stream. Raises DataError for another format."""
    import pyarrow

    start = _start(path)
    if _FILE.startswith(start) and start:
        return pyarrow.ipc.open_file(pyarrow.OSFile(str(path)))
    if start == _STREAM:
        return pyarrow.ipc.open_stream(pyarrow.OSFile(str(path)))
    kind = "of Feather's first version" if start == _FEATHER_1 else "neither Parquet nor Arrow"
    raise DataError(f"{path} is {kind}", seen=f"it begins with {start!r}", fix="write it again")


def _texts(column: Any) -> list[str]:
    """The cells of a column; "" where a value is missing."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(column.type):
        words = [*_texts(column.dictionary), ""]
        return [words[-1 if code is None else code] for code in column.indices.to_pylist()]
    if types.is_duration(column.type):
        column = column.cast(pyarrow.int64())
    if types.is_float16(column.type):
        column = column.cast(pyarrow.float32())
    texts = column.cast(pyarrow.string(), safe=False).to_pylist()
    if any(text is not None and len(text) > LONGEST_CELL for text in texts):
        raise DataError(f"a cell has more than {LONGEST_CELL:,} characters")
    return [text or "" for text in texts]
