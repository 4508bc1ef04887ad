"""Tell from the cells of a column what it holds."""

from collections import Counter
from collections.abc import Sequence

from thalweg.data.tables.cells import are_all_finite, is_missing, is_number
from thalweg.data.tables.column import FLAGS, Column
from thalweg.data.tables.dates import AMBIGUOUS, date_form, earliest, parts_that_vary
from thalweg.data.tables.written_numbers import number_form
from thalweg.wording import some

FREE_TEXT_ROWS = 20  # fewer may all differ by chance


def infer_column(
    name: str, cells: Sequence[str], *, has_decimal_commas: bool = False
) -> Column | None:
    """The column, a category still without entries; None where it holds free text."""
    if are_all_finite(cells):
        return Column(name=name)
    counts = Counter[str]()  # a column of categories has few texts
    for cell, count in Counter(cells).items():
        if not is_missing(cell):
            counts[cell.strip()] += count
    present = list(counts.elements())
    if form := number_form(present, has_decimal_commas=has_decimal_commas):
        return Column(name=name, form=form)
    if 2 * sum(count for text, count in counts.items() if is_number(text)) > counts.total():
        return Column(name=name)
    if {text.lower() for text in counts} <= FLAGS.keys():
        return Column(name=name, kind="flag")
    if form := date_form(list(counts)):
        parts, origin = parts_that_vary(list(counts), form), earliest(list(counts), form)
        return Column(name=name, kind="date", form=form, parts=parts, origin=origin)
    return None if is_free_text(present) else Column(name=name, kind="category")


def is_free_text(cells: Sequence[str]) -> bool:
    """Return whether most cells differ from each other."""
    return len(cells) >= FREE_TEXT_ROWS and 2 * len(set(cells)) > len(cells)


def is_one_text(cells: Sequence[str]) -> bool:
    """Return whether all cells hold the same text, which is no number."""
    texts = set(cells)
    return len(texts) == 1 and not is_missing(cell := texts.pop()) and not is_number(cell)


def column_notes(columns: Sequence[Column]) -> list[str]:
    """One line for each kind of column that is not of numbers."""
    notes = []
    for kind, words in (("category", "categories"), ("flag", "yes or no"), ("date", "dates")):
        names = [column.name for column in columns if column.kind == kind]
        if names:
            notes.append(f"columns of {words}: {some([repr(name) for name in names])}")
    written = [column for column in columns if column.kind == "number" and column.form]
    notes += [f"the numbers of {column.name!r} are read like {column.form}" for column in written]
    doubtful = [column for column in columns if column.form in AMBIGUOUS]
    return notes + [
        f"the dates of {column.name!r} are read as {column.form}; they might be "
        f"{AMBIGUOUS[column.form]}"
        for column in doubtful
    ]
