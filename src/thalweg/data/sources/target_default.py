"""The column to predict where the user names none: the last one, unless that is doubtful.

In a table with texts it is the one column of classes, or the one that is called like a target.
"""

from collections.abc import Sequence

from thalweg.data.sources.table import Table
from thalweg.data.tables.cells import is_missing, is_number
from thalweg.data.tables.infer_column import infer_column, is_free_text
from thalweg.data.tables.text_columns import class_columns, is_text_column
from thalweg.data.tables.written_numbers import number_form
from thalweg.errors import DataError
from thalweg.wording import some

# Words in the names of columns that people predict.
TARGET_WORDS = frozenset(
    {
        *("price", "value", "cost", "charges", "salary", "income", "revenue", "sales", "amount"),
        *("outcome", "survived", "churn", "churned", "response", "result", "score", "rating"),
        *("quality", "diagnosis", "deposit", "default", "fraud", "attrition", "mpg", "wage"),
        *("sentiment", "stars", "spam", "emotion", "topic", "polarity", "intent", "tags"),
    }
)


def default_target(
    table: Table, names: Sequence[str], *, split: int, sample: Sequence[Sequence[str]]
) -> int:
    """The index of the last column that is no split. Raises DataError where that is doubtful.

    A column without a value is not the last one.
    """
    own = [column for column in range(len(names)) if column != split or len(names) == 1]
    filled = [c for c in own if not all(map(is_missing, column_cells(sample, c)))]
    last = max(filled or own)
    reason = _doubt(names, last, column_cells(sample, last))
    if not reason:
        return last
    chosen = _class_beside_texts(names, sample, own, last=last)
    if chosen >= 0:
        return chosen
    candidates = [name for place, name in enumerate(names) if place != split and _is_hinted(name)]
    if candidates and not is_free_text(column_cells(sample, last)):
        candidates.append(names[last])
    if not candidates:
        numeric = [c for c in range(len(names)) if _is_numeric(column_cells(sample, c))]
        candidates = [names[column] for column in numeric if column not in {split, last}]
    fix = "--target NAME"
    if candidates:
        fix += f", such as {some([repr(name) for name in candidates])}"
    if is_free_text(column_cells(sample, last)):
        fix += f"; or --task sequence, to write {names[last]!r} token by token"
    raise DataError(
        f"{table.path} does not name the column to predict",
        seen=f"the last column, {names[last]!r}, {reason}",
        fix=fix,
    )


def _class_beside_texts(
    names: Sequence[str], sample: Sequence[Sequence[str]], columns: Sequence[int], *, last: int
) -> int:
    """The column to predict in a table with texts; −1 where that is doubtful.

    The last one, if it holds classes; else the one named like a target, or the one of classes.
    """
    every = range(len(names))
    if not any(is_text_column(names[c], column_cells(sample, c)) for c in every):
        return -1
    classes = class_columns(names, sample, columns)
    hinted = [column for column in columns if _is_hinted(names[column])]
    if last in classes:
        return last
    candidates = hinted if len(hinted) == 1 else classes
    return candidates[0] if len(candidates) == 1 else -1


def column_cells(rows: Sequence[Sequence[str]], column: int) -> list[str]:
    """The cells of a column, of the rows that are long enough."""
    return [row[column] for row in rows if len(row) > column]


def _doubt(names: Sequence[str], last: int, cells: Sequence[str]) -> str:
    """The reason why the last column may not be the target; "" for none."""
    present = [cell.strip() for cell in cells if not is_missing(cell)]
    if len(present) > 1 and len(set(present)) == 1:
        return f"is {present[0][:40]!r} in every row"
    if _is_numeric(present):
        return ""
    if is_free_text(present):
        distinct = len(set(present))
        return f"is free text: {distinct:,} different entries in {len(present):,} rows"
    column = infer_column(names[last], present)
    if column is not None and column.kind == "date":
        return "holds dates"
    others = [name for place, name in enumerate(names) if place != last and _is_hinted(name)]
    if others and not _is_hinted(names[last]):
        return f"holds words, and {some([repr(name) for name in others])} may be meant"
    return ""


def _is_hinted(name: str) -> bool:
    words = name.lower().replace("-", "_").replace(" ", "_").split("_")
    return not TARGET_WORDS.isdisjoint(words)


def _is_numeric(cells: Sequence[str]) -> bool:
    """Return whether most cells that are not missing hold a number."""
    present = [cell for cell in cells if not is_missing(cell)]
    return sum(map(is_number, present)) * 2 > len(present) or bool(number_form(present))
