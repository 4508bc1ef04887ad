"""A CSV that lists image files with their labels, and perhaps their splits."""

import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.images.formats import FOREIGN_SUFFIXES, SUFFIXES, suffix_of
from thalweg.data.samples import (
    Files,
    Labels,
    Quarantined,
    Samples,
)
from thalweg.data.sources.csv_file import WESTERN, column_called, target_column
from thalweg.data.sources.find_images import AS_WRITTEN, Placement, find_images, image_folders
from thalweg.data.sources.group_column import group_column, group_of
from thalweg.data.sources.label_columns import (
    LabelColumns,
    labels_of,
    named_columns,
    yes_or_no_columns,
)
from thalweg.data.sources.list_file import list_file
from thalweg.data.sources.split_column import SplitColumn, split_column
from thalweg.data.sources.table import Table, TableRow
from thalweg.data.sources.table_file import table_file
from thalweg.data.tables.cells import is_missing
from thalweg.errors import DataError, printable
from thalweg.label_sets import SPACE, label_sets
from thalweg.wording import NO_LABEL, count, some

_PATH_WORDS = (
    *("path", "file", "filename", "file_name", "filepath", "file_path"),
    *("image", "image_path", "image_file", "image_name", "img", "img_path"),
)
_ADDRESS = re.compile("(?:https?|ftp|s3|gs)://", re.IGNORECASE)
_SAMPLED_ROWS = 400  # to detect the columns of images and splits
_TRIED_ROWS = 20  # of them, whose files are looked for


class _Columns(NamedTuple):
    path: int
    label: int
    split: SplitColumn
    names: tuple[str, ...]
    has_header: bool
    placement: Placement = AS_WRITTEN
    labels: LabelColumns = LabelColumns()  # where each label has a column of its own
    group: int = -1  # of samples that stay together
    may_be_empty: bool = False  # cells list labels, so that an empty one lists none

    def label_of(self, cells: Sequence[str]) -> tuple[str, str]:
        """The label of a row, and the reason why it has none."""
        if self.labels.indices:
            return self.labels.text(cells), self.labels.refusal(cells)
        label = cells[self.label].strip()
        if is_missing(label):
            return "", "" if self.may_be_empty else "empty label"
        return label, ""

    @property
    def label_place(self) -> str:
        """The column or columns of labels, in the user's words."""
        if self.labels.indices:
            return self.labels.place()
        return f"column {self.names[self.label]!r}"


@dataclass(slots=True)
class _Listing:
    """The rows read so far."""

    names: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    pairs: set[tuple[str, str]] = field(default_factory=set)  # name and label, against repeats
    repeated: int = 0


def csv_manifest(path: Path, *, target: str = "", group: str = "") -> Samples | None:
    """The images that a CSV lists, relative to its folder. None for a table without images.

    The labels are in the column `target`, else in the one named target, label, class, ….

    Rows without a label, with a path that leaves the folder, or of another width are quarantined.
    """
    table = table_file(path) or list_file(path)
    columns = _columns(table, target, group=group) if table is not None else None
    if table is None or columns is None:
        return None
    _check_addresses(table, columns)
    listing = _Listing()
    for row in islice(table.rows(), int(columns.has_header), None):
        _add_row(row, columns, listing=listing, table=table)
    if not listing.names:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in listing.quarantined[:3])
        raise DataError(f"{path} lists no image that can be used", seen=reasons or "no rows")
    notes = [f"images: column {columns.names[columns.path]!r} of {path.name}"]
    if how := columns.placement.note():
        notes[0] += f", {how}"
    notes += (*columns.split.notes(), *table.notes)
    notes += _unused_columns(columns)
    if "" in listing.texts and not columns.labels.indices:
        empty = listing.codes.count(listing.texts[""])
        notes.append(f"{count(empty, 'row')} without a label: the others list several in a cell")
    if listing.repeated:
        notes.append(f"{listing.repeated:,} rows repeat an earlier one: left out")
    return Samples(
        inputs=Files(path, path.parent, tuple(listing.names)),
        names=tuple(map(printable, listing.names)),
        labels=_labels(listing, columns),
        splits=np.array(listing.splits, dtype=np.int8),
        label_place=columns.label_place,
        groups=tuple(listing.groups) if columns.group >= 0 else (),
        group_place=f"column {columns.names[columns.group]!r}",
        quarantined=tuple(listing.quarantined),
        notes=tuple(notes),
    )


def _check_addresses(table: Table, columns: _Columns) -> None:
    """Raise DataError where the first images are addresses: nothing is fetched."""
    rows = islice(table.rows(), int(columns.has_header), _TRIED_ROWS)
    cells = [row.cells[columns.path].strip() for row in rows if len(row.cells) > columns.path]
    addresses = [cell for cell in cells if _ADDRESS.match(cell)]
    if 2 * len(addresses) > len(cells):
        raise DataError(
            f"{table.path} lists images by their addresses, and nothing is fetched",
            seen=some(addresses),
            fix="download them beside the table, and list their files",
        )


def _labels(listing: _Listing, columns: _Columns) -> Labels:
    if columns.labels.indices:
        return labels_of(listing.codes, tuple(listing.texts))
    codes, texts = np.array(listing.codes, dtype=np.int64), tuple(listing.texts)
    if "" not in texts:
        return Labels(codes, texts, may_be_numbers=True)
    sets = iter(label_sets([text for text in texts if text]).sets)
    members = tuple(next(sets, (text,)) if text else () for text in texts)
    return Labels(codes, tuple(text or NO_LABEL for text in texts), members=members)


def _lists_labels(cells: Sequence[str]) -> bool:
    """Return whether a quarter of the cells or more, empty ones aside, list several labels."""
    texts = [cell.strip() for cell in cells if not is_missing(cell)]
    listed = label_sets(texts)
    return listed.mark != SPACE and 4 * sum(len(s) > 1 for s in listed.sets) > len(texts)


def _unused_columns(columns: _Columns) -> list[str]:
    """A note on the columns beside those of labels."""
    if not columns.labels.indices:
        return []
    used = {columns.path, columns.split.index, columns.group, *columns.labels.indices}
    others = [repr(name) for index, name in enumerate(columns.names) if index not in used]
    return [f"columns that are not used: {some(others)}"] if others else []


def _columns(table: Table, target: str, *, group: str = "") -> _Columns | None:
    """The roles of the columns; None without image names. DataError without labels."""
    header, has_header = table.first, True
    if any(_is_image_name(cell) for cell in header):
        names = ("path", "label", "split")
        header, has_header = tuple(names[: len(header)]), False
    rows = [row.cells for row in islice(table.rows(), int(has_header), _SAMPLED_ROWS)]
    path, placement = _images(table, header, rows)
    if path < 0:
        return None
    split = split_column(header, rows)
    group_place = group_column(header, rows, group)
    roles = {path, split.index, group_place}
    others = [column for column in range(len(header)) if column not in roles]
    labels = named_columns(header, target)
    label = labels.indices[0] if labels.indices else target_column(header, target)
    if label < 0 and not target:
        labels = yes_or_no_columns(header, rows, others)
        label = labels.indices[0] if labels.indices else label
    if label < 0 and len(others) == 1:
        label = others[0]
    if label < 0 or label == path:
        raise DataError(
            f"{table.path} has no column of labels",
            seen=f"columns: {', '.join(map(repr, header))}",
            fix="--target NAME, or call one column 'label' (or 'class', or 'target'); of several "
            "labels, --target NAME,NAME,… or columns of 0 and 1",
        )
    may_be_empty = not labels.indices and _lists_labels([r[label] for r in rows if len(r) > label])
    roles_and_columns = path, label, split, header, has_header, placement, labels, group_place
    return _Columns(*roles_and_columns, may_be_empty)


def _images(
    table: Table, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[int, Placement]:
    """The column of image files and how its cells become paths; −1 for none.

    It has a usual name, or cells with suffixes of images, or cells that are files once a suffix or
    a folder is put to them. Files that are nowhere stay as written, for the error that names them.
    """
    root = table.path.parent
    named = column_called(header, _PATH_WORDS)
    columns = [named] if named >= 0 else range(len(header))
    some_rows = rows[:: max(1, len(rows) // _TRIED_ROWS)]
    cells = {c: [row[c].strip() for row in some_rows if len(row) > c] for c in columns}
    for column, values in cells.items():
        if column == named or (bool(values) and all(map(_is_image_name, values))):
            return column, find_images(root, values) or AS_WRITTEN
    if not list(islice(image_folders(root), 1)):
        return -1, AS_WRITTEN
    for column, values in cells.items():
        if 2 * len({row[column] for row in rows if len(row) > column}) <= len(rows):
            continue  # classes or flags: 0 and 1 are no ids, though 0.jpg and 1.jpg may be there
        placement = find_images(root, values)
        if placement is not None:
            return column, placement
    return -1, AS_WRITTEN


def _add_row(row: TableRow, columns: _Columns, *, listing: _Listing, table: Table) -> None:
    cells, width = row.cells, len(columns.names)
    reason = f"{len(cells)} cells where the header has {width}" if len(cells) != width else ""
    name = label = ""
    if not reason:
        name = cells[columns.path].strip()
        label, reason = columns.label_of(cells)
        if not reason:
            name = columns.placement.name(name) if name else ""
            name, reason = _inside(name, table.path.parent)
    if reason:
        listing.quarantined.append(Quarantined(f"row {row.line} {printable(name)}".strip(), reason))
        return
    if (name, label) in listing.pairs:
        listing.repeated += 1
        return
    listing.pairs.add((name, label))
    listing.names.append(name)
    listing.codes.append(listing.texts.setdefault(label, len(listing.texts)))
    listing.splits.append(columns.split.of(row, table))
    listing.groups.append(group_of(cells, columns.group))


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
    if (
        not name.isascii()
        and not Path(full).exists()
        and Path(bytes_of := _in_western(full)).exists()
    ):
        full = bytes_of  # of a table and files of the same old machine
    if not full.startswith(base.rstrip("/") + "/"):
        return name, "the path leaves the manifest's folder"
    return os.path.relpath(full, base), ""


def _in_western(path: str) -> str:
    """The path whose name has the bytes of Windows-1252, as the file system spells it."""
    try:
        return os.fsdecode(path.encode(WESTERN, "surrogateescape"))
    except UnicodeEncodeError:
        return path


def _is_image_name(cell: str) -> bool:
    return suffix_of(cell.strip()) in SUFFIXES | FOREIGN_SUFFIXES
