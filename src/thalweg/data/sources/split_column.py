"""The column of a table that says which split a row belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.data.samples import SPLITS, UNSPLIT, split_called
from thalweg.data.sources.csv_file import column_called
from thalweg.data.sources.table import Table, TableRow
from thalweg.data.tables.cells import is_missing
from thalweg.errors import DataError, printable

TRAIN, VAL, TEST = range(3)
NAMES = ("split", "set", "subset", "partition")
LOOSE_NAMES = ("phase", "usage", "fold", "dataset")  # a split only where every cell names one
VAL_FLAGS = ("is_valid", "is_val", "is_validation", "valid", "val", "validation")
TEST_FLAGS = ("is_test", "test")
_FLAGS = {
    **dict.fromkeys(("true", "yes", "1", "1.0", "t", "y"), True),
    **dict.fromkeys(("false", "no", "0", "0.0", "f", "n"), False),
}


@dataclass(frozen=True, slots=True)
class SplitColumn:
    """A column of words such as train and val, of flags such as is_valid, or of folds."""

    index: int = -1  # −1: none
    name: str = ""
    flagged: int = UNSPLIT  # the split of rows whose flag is set; UNSPLIT: no column of flags
    first_fold: str = ""  # the fold that validates; "": no column of folds

    def of(self, row: TableRow, table: Table) -> int:
        """The split of a row as an index into SPLITS; UNSPLIT for an empty cell or no column.

        Raises DataError for a word that names no split.
        """
        word = row.cells[self.index].strip() if self.index >= 0 else ""
        split = self._split(word)
        if split == UNSPLIT and not is_missing(word):
            raise DataError(
                f"{table.path} names an unknown split",
                seen=f"line {row.line}: {printable(word)!r} in the column {self.name!r}",
                fix="write train, val or test, or leave the cell empty",
            )
        return split

    def _split(self, word: str) -> int:
        if self.flagged != UNSPLIT:
            flag = _FLAGS.get(word.lower())
            return UNSPLIT if flag is None else self.flagged if flag else TRAIN
        if self.first_fold and word.isdecimal():
            return VAL if word == self.first_fold else TRAIN
        return split_called(word)

    def notes(self) -> list[str]:
        """A note on which rows validate, where the column does not say so in words."""
        if self.first_fold:
            return [f"split: fold {self.first_fold} of the column {self.name!r} validates"]
        if self.flagged != UNSPLIT:
            return [f"split: the column {self.name!r} marks the rows of {SPLITS[self.flagged]}"]
        return []


def split_column(header: Sequence[str], rows: Sequence[Sequence[str]]) -> SplitColumn:
    """The column of splits of a table with this header, whose first rows are given."""
    index = column_called(header, NAMES)
    if index >= 0:
        return SplitColumn(index, header[index])
    for names, flagged in ((VAL_FLAGS, VAL), (TEST_FLAGS, TEST)):
        index = column_called(header, names)
        if index >= 0 and (words := _words(rows, index)) and words <= _FLAGS.keys():
            return SplitColumn(index, header[index], flagged=flagged)
    for name in LOOSE_NAMES:
        index = column_called(header, (name,))
        words = _words(rows, index) if index >= 0 else set()
        if words and all(split_called(word) != UNSPLIT for word in words):
            return SplitColumn(index, header[index])
        if name == "fold" and len(words) > 1 and all(word.isdecimal() for word in words):
            return SplitColumn(index, header[index], first_fold=min(words, key=int))
    return SplitColumn()


def _words(rows: Sequence[Sequence[str]], column: int) -> set[str]:
    """The different cells of a column that are not missing."""
    cells = (row[column].strip() for row in rows if len(row) > column)
    return {cell.lower() for cell in cells if not is_missing(cell)}
