"""Samples as a source lists them: names, labels as written, splits in the data; not decoded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, overload

import numpy as np

from thalweg.data.tables.column import Column

SPLITS = ("train", "val", "test")
UNSPLIT = -1
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainset", "traindata"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "valset", "eval"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "testset", "testdata"), "test"),
}
_FILLERS = frozenset(
    {
        *("set", "data", "dataset", "split", "folder", "dir", "seg", "samples", "subset", "final"),
        *("images", "image", "imgs", "img", "photos", "pictures", "jpg", "jpegimages"),
    }
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class Quarantined(NamedTuple):
    """A sample that cannot be used, by name, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Files:
    """Image files: paths relative to a folder, as the file system spells them."""

    origin: Path  # the folder that the user named, or the CSV file that lists them
    root: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels as text, each distinct one stored once."""

    codes: np.ndarray  # int64 [n], index into texts
    texts: tuple[str, ...]
    may_be_numbers: bool = False  # a folder named "7" is a class; a cell "7" may be a number
    members: tuple[tuple[str, ...], ...] = ()  # the labels of each text, where it lists several


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """All samples of one source. Arrays are rows in the order of `names`."""

    inputs: Any  # image files; uint8 [n, h, w, c]; float32 [n, d]; of another modality, its own
    names: Sequence[str]  # printable
    labels: Any  # Labels, float64 [n], or of another modality its own
    splits: np.ndarray  # int8 [n], index into SPLITS, or UNSPLIT
    label_place: str  # where the labels stand, in the user's words: "column 'price'"
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    groups: Sequence[str] = ()  # of samples that stay together, "" for one of its own; (): none
    group_place: str = ""  # in the user's words: "column 'patient'"
    features: tuple[str, ...] = ()  # names of a vector's numbers, where they have any
    columns: tuple[Column, ...] = ()  # of a table, whose cells the numbers were made of


@lru_cache(maxsize=1024)
def split_called(word: str) -> int:
    """The split that a folder or a cell names, as an index into SPLITS; UNSPLIT for other words.

    Around the word there may be a year and fillers: train2017, seg_train, Testing_set, trainImages.
    """
    words = [part.lower() for part in _WORDS.findall(word)]
    splits = [_SPLIT_WORDS[part] for part in words if part in _SPLIT_WORDS]
    others = [part for part in words if part not in _SPLIT_WORDS and part not in _FILLERS]
    return SPLITS.index(splits[0]) if len(splits) == 1 and not others else UNSPLIT


@dataclass(frozen=True, slots=True)
class RowNames(Sequence[str]):
    """ "row 17" for every row of an array or a table, built when read."""

    numbers: np.ndarray  # int64 [n]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, row: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "RowNames": ...
    def __getitem__(self, row: SupportsIndex | slice) -> "str | RowNames":
        if isinstance(row, slice):
            return RowNames(self.numbers[row])
        return f"row {self.numbers[row.__index__()]}"
