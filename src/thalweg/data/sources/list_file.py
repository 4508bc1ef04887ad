"""A text file whose lines are paths of images and their labels: "im/cat0.png 0"."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from thalweg.data.images.formats import SUFFIXES
from thalweg.data.sources.table import TableRow

LIST_SUFFIXES = (".txt", ".text", ".lst", ".list")
_TRIED_LINES = 50
_SHARE = 0.9  # of the first lines that must name a file
_LINE = re.compile(
    rf"\s*(?P<path>.+?(?:{'|'.join(map(re.escape, sorted(SUFFIXES, key=len, reverse=True)))}))"
    r"(?:[\s,;]+(?P<label>.*))?\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ListFile:
    """A list of images as a table of two columns, path and label."""

    path: Path
    first: tuple[str, ...]
    notes: tuple[str, ...] = ()
    has_decimal_commas: bool = False
    repeated: tuple[str, ...] = ()

    def rows(self) -> Iterator[TableRow]:
        """The path and the label of each line that is not empty."""
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield TableRow(number, _cells(line))


def list_file(path: Path) -> ListFile | None:
    """The list at the path; None for another suffix, or where lines name no files beside it."""
    if path.suffix.lower() not in LIST_SUFFIXES or not path.is_file():
        return None
    table = ListFile(path, ())
    rows = [row.cells for row in islice(table.rows(), _TRIED_LINES)]
    files = sum(len(cells) == 2 and _is_file(path.parent, cells[0]) for cells in rows)
    if not files or files < _SHARE * len(rows):
        return None
    return ListFile(path, tuple(rows[0]))


def _cells(line: str) -> list[str]:
    match = _LINE.fullmatch(line)
    if match is None or len(line) > 4096:
        return [line.strip()]
    return [match["path"], (match["label"] or "").strip()]


def _is_file(root: Path, name: str) -> bool:
    try:
        return "\0" not in name and (root / name).is_file()
    except OSError:
        return False
