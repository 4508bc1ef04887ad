"""A folder of pairs: files of pairs named by their splits, or aligned lines in two files a split.

train.txt and test.txt (or tasks_train_simple.txt and tasks_test_simple.txt), of any form that a
single file may have; or train.en and train.de, whose lines belong together, perhaps with val.en,
val.de, test.en and test.de.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from thalweg.data.ignored_names import is_ignored
from thalweg.data.samples import SPLITS, UNSPLIT, Samples, split_called
from thalweg.data.sources.pair_columns import NamedColumns
from thalweg.data.sources.pair_file import LINES, read_pairs
from thalweg.data.sources.pair_rows import PairRow, PairRows, pair_samples
from thalweg.data.sources.table_file import TABLE_SUFFIXES
from thalweg.data.text.read_text import read_text_file
from thalweg.errors import DataError

MOST_FILES = 12
_LANGUAGE = re.compile(r"\.[a-z]{2,3}(-[a-z]{2,4})?", re.IGNORECASE)
_OTHERS = frozenset({".txt", ".csv", ".tsv", ".md", ".py", ".zip", ".npz", ".gz"})


def pair_folder(path: Path) -> Samples | None:
    """The pairs in the files of a folder; None for any other folder.

    Raises: DataError for two files of unequal numbers of lines.
    """
    if not path.is_dir():
        return None
    files = sorted(file for file in path.iterdir() if not is_ignored(file.name))
    files = [file for file in files if not file.name.lower().startswith(("readme", "license"))]
    if not 0 < len(files) <= MOST_FILES or not all(file.is_file() for file in files):
        return None
    return _aligned(path, files) or _by_split(path, files)


def _aligned(path: Path, files: Sequence[Path]) -> Samples | None:
    """The pairs of files such as train.en and train.de."""
    sides = sorted({file.suffix for file in files})
    if len(sides) != 2 or not all(map(_LANGUAGE.fullmatch, sides)) or {*sides} & _OTHERS:
        return None
    stems = sorted({file.stem for file in files})
    if len(files) != 2 * len(stems):
        return None
    source, target = sides if _order(path) in ("", sides[0][1:]) else reversed(sides)
    pairs = PairRows(source_name=source[1:], target_name=target[1:])
    pairs.notes.append(
        f"pairs: the lines of {stems[0]}{source} are read, those of {stems[0]}{target} are written"
    )
    for stem in stems:
        split = split_of(stem) if len(stems) > 1 else UNSPLIT
        pairs.add(_lines(path / f"{stem}{source}", path / f"{stem}{target}", split))
    return pair_samples(path, pairs)


def _order(path: Path) -> str:
    """The first language in a folder's name such as de-en; "" for another name."""
    match = re.search(r"(?:^|[-_.])([a-z]{2,3})[-_2]([a-z]{2,3})$", path.name.lower())
    return match[1] if match else ""


def _lines(source: Path, target: Path, split: int) -> list[PairRow]:
    texts = [read_text_file(file).removesuffix("\n").split("\n") for file in (source, target)]
    if len(texts[0]) != len(texts[1]):
        raise DataError(
            f"{source.name} and {target.name} do not have equally many lines",
            seen=f"{len(texts[0]):,} and {len(texts[1]):,}",
            fix="line n of one must belong to line n of the other",
        )
    both = enumerate(zip(*texts, strict=True), 1)
    return [
        PairRow(f"{source.stem}, line {number}", read, written, split)
        for number, (read, written) in both
    ]


def _by_split(path: Path, files: Sequence[Path]) -> Samples | None:
    """The pairs of files that are named by their splits, each of which has pairs."""
    splits = [split_of(file.name.partition(".")[0]) for file in files]
    has_pairs = all(file.name.lower().endswith((*LINES, *TABLE_SUFFIXES)) for file in files)
    if not has_pairs or SPLITS.index("train") not in splits or UNSPLIT in splits:
        return None
    whole: PairRows | None = None
    for file, split in zip(files, splits, strict=True):
        own = read_pairs(file, named=NamedColumns(), is_named=False)
        if own is None:
            return None
        whole = whole or PairRows(
            source_name=own.source_name, target_name=own.target_name, notes=own.notes
        )
        whole.add(row._replace(name=f"{file.name}, {row.name}", split=split) for row in own.rows)
        whole.quarantined += own.quarantined
    return None if whole is None else pair_samples(path, whole)


def split_of(stem: str) -> int:
    """The split that a file's name tells, such as tasks_train_length, as an index into SPLITS."""
    words = re.findall(r"[a-z]+", stem.lower())
    splits = {split_called(word) for word in words} - {UNSPLIT}
    return splits.pop() if len(splits) == 1 else UNSPLIT
