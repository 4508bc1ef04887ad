"""Numbers to predict that are not written plainly, or among which a few cells are none."""

from collections.abc import Sequence
from math import isinf, isnan
from typing import NamedTuple

from thalweg.data.tables.cells import cell_number, is_missing, is_number
from thalweg.data.tables.written_numbers import number_form, written_number

MOST_OTHERS = 0.05  # of the cells: units below the header, "Total" or "n.d." among measurements
LEAST_DISTINCT = 20  # different numbers; fewer may be classes, some of them called by words


class TargetNumbers(NamedTuple):
    """The way from the targets of a table to plain numbers."""

    form: str = ""  # of `number_form`; "": they are plain, or no numbers
    are_measured: bool = False  # so that a cell that is no number is none of the targets
    are_numbers: bool = False  # so that one beyond float64, which reads as infinite, is none

    def text(self, cell: str) -> str:
        """The cell as a plain number, where it is one that is written otherwise."""
        number = written_number(cell, self.form) if self.form else float("nan")
        return cell.strip() if isnan(number) else f"{number:.15g}"

    def refusal(self, cell: str) -> str:
        """The reason why a cell is no target; "" for none."""
        if self.are_measured and not is_number(self.text(cell)):
            return f"the target {cell.strip()[:40]!r} is no number"
        if self.are_numbers and isinf(cell_number(self.text(cell))):
            return f"the target {cell.strip()[:40]!r} is no finite number"
        return ""

    def notes(self, name: str) -> list[str]:
        return [f"the numbers of {name!r} are read like {self.form}"] if self.form else []


def target_numbers(cells: Sequence[str], *, has_decimal_commas: bool) -> TargetNumbers:
    """Tell from the targets of the first rows how to read all of them."""
    present = [cell.strip() for cell in cells if not is_missing(cell)]
    form = number_form(present, has_decimal_commas=has_decimal_commas)
    plain = TargetNumbers(form)
    texts = [text for text in map(plain.text, present) if is_number(text)]
    others = len(present) - len(texts)
    is_measured = len(set(texts)) >= LEAST_DISTINCT and 0 < others <= MOST_OTHERS * len(present)
    return TargetNumbers(form, are_measured=is_measured, are_numbers=2 * len(texts) > len(present))
