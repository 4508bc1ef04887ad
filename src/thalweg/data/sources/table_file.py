"""A path → the table in that file."""

from pathlib import Path

from thalweg.data.sources.arrow_file import ARROW_SUFFIXES, arrow_file
from thalweg.data.sources.csv_file import CSV_SUFFIXES, csv_file
from thalweg.data.sources.json_file import LINES_SUFFIXES, json_file
from thalweg.data.sources.table import WholeTable

TABLE_SUFFIXES = (*CSV_SUFFIXES, *LINES_SUFFIXES, *ARROW_SUFFIXES)


def table_file(path: Path) -> WholeTable | None:
    """The table at the path: CSV, JSON, Parquet or Arrow; None if it has another suffix.

    Raises DataError if it is empty or damaged, or if the package that reads it is absent.
    """
    return csv_file(path) or json_file(path) or arrow_file(path)
