"""The two columns of a table that sequences are read from and written to."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from thalweg.data.sources.csv_file import column_called
from thalweg.data.sources.pair_lines import is_attribution
from thalweg.data.sources.split_column import SplitColumn, split_column
from thalweg.data.sources.target_default import column_cells
from thalweg.data.tables.cells import is_missing, is_number
from thalweg.errors import DataError
from thalweg.registry import unknown_name
from thalweg.wording import some

LANGUAGES = (
    *("english", "german", "french", "spanish", "italian", "portuguese", "dutch", "russian"),
    *("chinese", "japanese", "korean", "arabic", "hindi", "turkish", "polish", "swedish", "czech"),
    *("en", "de", "fr", "es", "it", "pt", "nl", "ru", "zh", "ja", "ko", "ar", "hi", "tr", "pl"),
    *("eng", "deu", "ger", "fra", "fre", "spa", "ita", "por", "rus", "jpn", "cmn"),
)
SOURCES = (
    *("source", "src", "input", "inputs", "question", "prompt", "instruction", "command"),
    *("commands", "query", "article", "document", "dialogue", "word", "expression", "problem"),
    *("source_text", "input_text", "text", "sentence"),
)
TARGETS = (
    *("target", "tgt", "trg", "output", "outputs", "answer", "completion", "response", "reply"),
    *("actions", "action", "translation", "summary", "highlights", "phonemes", "pronunciation"),
    *("target_text", "output_text", "solution", "result"),
)
LEAST_ROWS = 20  # from which on the texts of a column can be told to differ
MOSTLY = 0.5  # share of the rows
SEVERAL = 0.2  # share of different targets that no classes have
_SENTENCE = re.compile(r"\S+\s+\S+\s+\S+|.*[.!?]$|\d+\s*[-+*/]\s*\d+")


class PairColumns(NamedTuple):
    """The places of the columns, and their names."""

    source: int
    target: int
    split: SplitColumn
    names: tuple[str, ...]
    has_header: bool
    unused: tuple[str, ...] = ()  # names of the others


class NamedColumns(NamedTuple):
    """The columns that the user names; "" for none."""

    source: str = ""
    target: str = ""


def pair_columns(
    first: Sequence[str],
    sample: Sequence[Sequence[str]],
    *,
    named: NamedColumns,
    is_named: bool,
) -> PairColumns | None:
    """The columns of pairs of a table with this first row, whose first rows are `sample`.

    Without `is_named`, None unless they are beyond doubt. `sample` begins behind the first row.
    Raises: DataError, UnknownNameError where the user wants pairs, and the columns are in doubt.
    """
    has_header = not _is_data(first, named)
    width = len(first)
    names = tuple(first) if has_header else ("source", "target", "from")[:width]
    names = names if len(names) == width else tuple(f"{place + 1}" for place in range(width))
    split = split_column(names, sample)
    others = [c for c in range(width) if c != split.index and not _is_aside(names, sample, c)]
    if is_named:
        source, target = _named_columns(names, sample, others, named=named)
    else:
        source, target = _undoubted(names, sample, others, has_header=has_header)
        if source < 0:
            return None
    unused = tuple(names[c] for c in range(width) if c not in (source, target, split.index))
    return PairColumns(source, target, split, names, has_header, unused)


def _is_data(first: Sequence[str], named: NamedColumns) -> bool:
    """Return whether the first row is a pair, rather than names of columns."""
    if named.source in first or named.target in first:
        return False
    lower = {cell.strip().lower().replace(" ", "_") for cell in first}
    if lower & {*SOURCES, *TARGETS, *LANGUAGES}:
        return False
    return any(map(_SENTENCE.match, first)) or is_attribution(first[2:3])


def _is_aside(names: Sequence[str], sample: Sequence[Sequence[str]], column: int) -> bool:
    """Return whether a column only numbers the rows, or says where they come from."""
    cells = column_cells(sample, column)
    if names[column].strip().lower() in ("", "id", "index", "unnamed: 0", "row", "attribution"):
        return True
    return is_attribution(cells)


def _named_columns(
    names: Sequence[str],
    sample: Sequence[Sequence[str]],
    others: Sequence[int],
    *,
    named: NamedColumns,
) -> tuple[int, int]:
    for name in (name for name in named if name and name not in names):
        raise unknown_name("column", name, names)
    free = [names[column] for column in others]
    source = names.index(named.source) if named.source else -1
    target = names.index(named.target) if named.target else -1
    if target < 0:
        called = column_called(free, TARGETS)
        last = [c for c in others if c != source][-1:]
        target = others[called] if called >= 0 and others[called] != source else (last or [-1])[0]
    if source < 0:
        left = [c for c in others if c != target]
        called = column_called([names[c] for c in left], SOURCES + LANGUAGES)
        texts = [c for c in left if not _are_numbers(column_cells(sample, c))]
        source = left[called] if called >= 0 else next(iter(left), -1) if len(left) == 1 else -1
        source = texts[0] if source < 0 and len(texts) == 1 else source
    if min(source, target) < 0 or source == target:
        raise DataError(
            "the columns to read and to write are in doubt",
            seen=f"columns: {some([repr(name) for name in names])}",
            fix="--source NAME --target NAME",
        )
    return source, target


def _undoubted(
    names: Sequence[str],
    sample: Sequence[Sequence[str]],
    others: Sequence[int],
    *,
    has_header: bool,
) -> tuple[int, int]:
    """The source and the target of a table of two columns of texts; −1 where that is in doubt.

    The targets are no numbers, and too many differ for classes. Either the names say what is read
    and what is written, or both columns hold texts that mostly differ, the targets of several words
    each: of such a table nothing else can be learned.
    """
    if len(others) != 2 or len(sample) < LEAST_ROWS:
        return -1, -1
    source, target = _by_names(names, others)
    sources, targets = (column_cells(sample, c) for c in (source, target))
    if _are_numbers(targets) or len(set(targets)) < max(LEAST_ROWS, SEVERAL * len(targets)):
        return -1, -1
    if has_header and _are_called_pairs(names[source], names[target]):
        return source, target
    are_different = len(set(targets)) > MOSTLY * len(targets) and len(set(sources)) > SEVERAL * len(
        sources
    )
    words = sum(len(text.split()) for text in targets) / len(targets)
    is_plain = not _are_numbers(sources) and are_different and words >= 2
    return (source, target) if is_plain else (-1, -1)


def _by_names(names: Sequence[str], others: Sequence[int]) -> tuple[int, int]:
    """Both columns in their order, unless their names say the reverse."""
    first, second = others
    if _are_called_pairs(names[second], names[first]) and not _are_called_pairs(
        names[first], names[second]
    ):
        return second, first
    return first, second


def _are_called_pairs(source: str, target: str) -> bool:
    source, target = (name.strip().lower().replace(" ", "_") for name in (source, target))
    return source in SOURCES + LANGUAGES and target in TARGETS + LANGUAGES


def _are_numbers(cells: Sequence[str]) -> bool:
    present = [cell for cell in cells if not is_missing(cell)]
    return sum(map(is_number, present)) > MOSTLY * len(present)
