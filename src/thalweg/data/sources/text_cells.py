"""Cells of text columns: their characters repaired, several columns joined."""

from collections.abc import Sequence

from thalweg.data.tables.cells import is_missing

FALLBACK = "cp1252"  # of bytes that are no UTF-8: Latin-1 with the marks of Windows
BETWEEN = "\n\n"  # texts of several columns


def text_cell(cell: str) -> str:
    """The text of a cell; "" for a missing one. Bytes that are no UTF-8 are read as Windows-1252.

    A CSV is read such that these bytes are lone surrogates.
    """
    if is_missing(cell):
        return ""
    try:
        cell.encode()
    except UnicodeEncodeError:
        raw = cell.encode("utf-8", errors="surrogateescape" if _are_bytes(cell) else "replace")
        return raw.decode(FALLBACK, errors="replace")
    return cell


def join_texts(cells: Sequence[str]) -> str:
    """The texts of a row's columns, one below the other, without missing ones."""
    return BETWEEN.join(text for cell in cells if (text := text_cell(cell)).strip())


def _are_bytes(cell: str) -> bool:
    """Return whether all surrogates stand for bytes that could not be decoded."""
    return all("\udc80" <= mark <= "\udcff" for mark in cell if "\ud800" <= mark <= "\udfff")
