"""A CSV that lists image files with their labels, and perhaps their splits."""

import os.path
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.images.formats import FOREIGN_SUFFIXES, SUFFIXES
from thalweg.data.samples import (
    Files,
    Labels,
    Quarantined,
    Samples,
)
from thalweg.data.sources.csv_file import (
    SPLIT_WORDS,
    CsvFile,
    CsvRow,
    column_called,
    csv_file,
    is_missing,
    split_of,
    target_column,
)
from thalweg.errors import DataError, printable

_PATH_WORDS = (
    *("path", "file", "filename", "file_name", "filepath", "file_path"),
    *("image", "image_path", "image_file", "image_name", "img", "img_path"),
)
_SAMPLED_ROWS = 20  # to detect a column of image names


class _Columns(NamedTuple):
    path: int
    label: int
    split: int  # −1: none
    names: tuple[str, ...]
    has_header: bool


@dataclass(slots=True)
class _Listing:
    """The rows read so far."""

    names: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    pairs: set[tuple[str, str]] = field(default_factory=set)  # name and label, against repeats
    repeated: int = 0


def csv_manifest(path: Path, *, target: str = "") -> Samples | None:
    """The images that a CSV lists, relative to its folder. None for a table without images.

    The labels are in the column `target`, else in the one named target, label, class, ….

    Rows without a label, with a path that leaves the folder, or of another width are quarantined.
    """
    table = csv_file(path)
    columns = _columns(table, target) if table is not None else None
    if table is None or columns is None:
        return None
    listing = _Listing()
    for row in islice(table.rows(), int(columns.has_header), None):
        _add_row(row, columns, listing=listing, manifest=path)
    if not listing.names:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in listing.quarantined[:3])
        raise DataError(f"{path} lists no image that can be used", seen=reasons or "no rows")
    notes = [f"images: column {columns.names[columns.path]!r} of {path.name}"]
    if listing.repeated:
        notes.append(f"{listing.repeated:,} rows repeat an earlier one: left out")
    return Samples(
        inputs=Files(path, path.parent, tuple(listing.names)),
        names=tuple(map(printable, listing.names)),
        labels=Labels(
            np.array(listing.codes, dtype=np.int64), tuple(listing.texts), may_be_numbers=True
        ),
        splits=np.array(listing.splits, dtype=np.int8),
        label_place=f"column {columns.names[columns.label]!r}",
        quarantined=tuple(listing.quarantined),
        notes=tuple(notes),
    )


def _columns(table: CsvFile, target: str) -> _Columns | None:
    """The roles of the columns; None without image names. DataError without labels."""
    header, has_header = table.first, True
    if any(_is_image_name(cell) for cell in header):
        names = ("path", "label", "split")
        header, has_header = tuple(names[: len(header)]), False
    path = column_called(header, _PATH_WORDS)
    if path < 0:
        path = _column_of_images(table)
    if path < 0:
        return None
    split = column_called(header, SPLIT_WORDS)
    others = [column for column in range(len(header)) if column not in {path, split}]
    label = target_column(header, target)
    if label < 0 and len(others) == 1:
        label = others[0]
    if label < 0 or label == path:
        raise DataError(
            f"{table.path} has no column of labels",
            seen=f"columns: {', '.join(map(repr, header))}",
            fix="--target NAME, or call one column 'label' (or 'class', or 'target')",
        )
    return _Columns(path, label, split, header, has_header)


def _column_of_images(table: CsvFile) -> int:
    """Index of a column whose cells have suffixes of images; −1 for none."""
    rows = [row.cells for row in islice(table.rows(), 1, 1 + _SAMPLED_ROWS)]
    for column in range(len(table.first)):
        cells = [cells[column] for cells in rows if len(cells) > column]
        if cells and all(map(_is_image_name, cells)):
            return column
    return -1


def _add_row(row: CsvRow, columns: _Columns, *, listing: _Listing, manifest: Path) -> None:
    cells, width = row.cells, len(columns.names)
    reason = f"{len(cells)} cells where the header has {width}" if len(cells) != width else ""
    name = label = ""
    if not reason:
        name, label = cells[columns.path].strip(), cells[columns.label].strip()
        reason = "empty label" if is_missing(label) else ""
        name, reason = _inside(name, manifest.parent) if not reason else (name, reason)
    if reason:
        listing.quarantined.append(Quarantined(f"row {row.line} {printable(name)}".strip(), reason))
        return
    if (name, label) in listing.pairs:
        listing.repeated += 1
        return
    listing.pairs.add((name, label))
    listing.names.append(name)
    listing.codes.append(listing.texts.setdefault(label, len(listing.texts)))
    listing.splits.append(split_of(row, columns.split, manifest))


def _inside(name: str, root: Path) -> tuple[str, str]:
    """The path relative to the manifest's folder, and the reason if it cannot be used.

    Only the spelling is checked: a link inside the folder may lead out of it.
    """
    if not name or "\0" in name:
        return name, "empty path" if not name else "a path with a NUL character"
    base = os.path.abspath(root)  # noqa: PTH100 (the path's spelling, not its links)
    full = os.path.normpath(os.path.join(base, name))  # noqa: PTH118
    if "\\" in name and not Path(full).exists():  # written on Windows
        full = os.path.normpath(os.path.join(base, name.replace("\\", "/")))  # noqa: PTH118
    if not full.startswith(base.rstrip("/") + "/"):
        return name, "the path leaves the manifest's folder"
    return os.path.relpath(full, base), ""


def _is_image_name(cell: str) -> bool:
    return os.path.splitext(cell.strip())[1].lower() in SUFFIXES | FOREIGN_SUFFIXES  # noqa: PTH122
