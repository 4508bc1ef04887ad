"""Columns of texts to learn from: told from categories, names and identifiers."""

from collections.abc import Sequence
from statistics import fmean

from thalweg.data.tables.cells import is_missing, is_number
from thalweg.data.tables.infer_column import infer_column
from thalweg.data.text.word_rows import is_unspaced

TEXT_NAMES = frozenset(
    {
        *("text", "texts", "review", "reviews", "comment", "comments", "message", "messages"),
        *("sms", "tweet", "tweets", "content", "body", "description", "sentence", "sentences"),
        *("question", "summary", "abstract", "headline", "title", "document", "post", "article"),
        *("lyrics", "transcript", "utterance", "query", "reviewtext", "email", "mail", "caption"),
        *("feedback", "complaint", "narrative", "statement", "news", "phrase", "snippet"),
    }
)
WORDS = 6  # of a text on average, where its column has no usual name
WORDS_IF_NAMED = 2
DISTINCT = 0.2  # of the cells; a category repeats
SAMPLED_CELLS = 400
LEAST_CELLS = 4
MOST_CLASSES, FEW_CLASSES = 100, 20
HEADER_WORDS = 6  # from which on a cell of the first row is a text and no column's name


def is_text_column(name: str, cells: Sequence[str]) -> bool:
    """Return whether a column holds texts: most cells differ and have some words.

    A usual name of texts makes up for few words: titles, queries.
    """
    step = max(1, len(cells) // SAMPLED_CELLS)
    present = [cell.strip() for cell in cells[::step] if not is_missing(cell)]
    if len(present) < LEAST_CELLS or len(set(present)) < DISTINCT * len(present):
        return False
    column = infer_column(name, present)
    if column is not None and column.kind != "category":
        return False
    least = WORDS_IF_NAMED if _is_named(name) else WORDS
    return fmean(map(_words, present)) >= least


def names_of_first_row(first: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Numbers as names of the columns, where the first row holds data; () where it has names.

    It does in a table with texts if its own cell there is as long as a text, or its class recurs;
    in one of numbers and classes if it has a number for each number and a class for each class.
    """
    numbers = tuple(str(place) for place in range(1, len(first) + 1))
    columns = [[row[place] for row in rows if len(row) > place] for place in range(len(first))]
    if _is_row_of(first, columns):
        return numbers
    are_texts = [is_text_column("", column) for column in columns]
    if not any(are_texts):
        return ()
    has_text = any(
        own and _words(cell) >= HEADER_WORDS for own, cell in zip(are_texts, first, strict=True)
    )
    recurs = any(
        not own and cell.strip() and _is_class(column) and cell.strip() in map(str.strip, column)
        for own, cell, column in zip(are_texts, first, columns, strict=True)
    )
    # One text may be short; and a column of classes may be called like one of them.
    is_plain = all(_words(cell) <= HEADER_WORDS // 2 for cell in first)
    if has_text or (recurs and not is_plain):
        return numbers
    return ()


def _is_row_of(first: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Return whether a row is one of numbers and of classes that recur in their columns."""
    are_numbers = [all(is_number(cell) or is_missing(cell) for cell in own) for own in columns]
    fits = [
        is_number(cell) if numeric else _is_class(own) and cell.strip() in map(str.strip, own)
        for cell, own, numeric in zip(first, columns, are_numbers, strict=True)
    ]
    return any(are_numbers) and not all(are_numbers) and all(fits)


def class_columns(
    names: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]
) -> list[int]:
    """The columns whose cells may be classes: few different ones, and more than one.

    Those with the fewest, where some have 20 at most.
    """
    cells = {column: [row[column] for row in rows if len(row) > column] for column in columns}
    classes = [column for column in columns if _is_class(cells[column])]
    return [c for c in classes if _is_class(cells[c], FEW_CLASSES)] or classes


def _is_class(cells: Sequence[str], most: int = MOST_CLASSES) -> bool:
    present = [cell.strip() for cell in cells if not is_missing(cell)]
    return 1 < len(set(present)) <= min(most, max(2, len(present) // 5))


def _is_named(name: str) -> bool:
    words = name.lower().replace("-", "_").replace(" ", "_").replace(".", "_").split("_")
    return not TEXT_NAMES.isdisjoint(words)


def _words(cell: str) -> float:
    """Words of a cell; two characters of a script without spaces count as one."""
    if is_number(cell):
        return 0
    unspaced = sum(map(is_unspaced, cell)) if not cell.isascii() else 0
    return len(cell.split()) + unspaced / 2
