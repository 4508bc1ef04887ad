"""Numbers such as -999 that may stand for a missing value."""

from collections.abc import Sequence

import numpy as np

from thalweg.data.tables.column import Column

CODES = tuple(sign * float("9" * count) for sign in (-1, 1) for count in (2, 3, 4, 5, 6))
LEAST_ROWS = 2
LEAST_OTHERS = 10
AWAY = 3.0  # times the range of all other values, by which a code lies outside of it


def missing_code_note(column: Column, cells: Sequence[str]) -> str:
    """A note on a code among the numbers of a column, far from all others; "" for none.

    It is told and not left out: a sum of -999 may be one.
    """
    if column.kind != "number":
        return ""
    values = column.numbers(cells)[:, 0]
    values = values[np.isfinite(values)]
    for code in CODES:
        others = values[values != code]
        count = len(values) - len(others)
        if count < LEAST_ROWS or len(others) < LEAST_OTHERS:
            continue
        low, high = float(others.min()), float(others.max())
        if max(low - code, code - high) > AWAY * (high - low) > 0:
            return (
                f"{count:,} cells of {column.name!r} are {code:.0f}, all others {low:.4g} to "
                f"{high:.4g}: where that means a missing value, leave the cell empty"
            )
    return ""
