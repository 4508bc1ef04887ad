"""A cell of a table as text: a number, missing, or something else."""

from collections.abc import Sequence

import numpy as np

_MISSING = frozenset({"", "nan", "na", "n/a", "null", "inf", "-inf", "+inf"})


def is_missing(cell: str) -> bool:
    """Return whether a cell means that a value is missing."""
    return cell.strip().lower() in _MISSING


def cell_number(cell: str) -> float:
    """The number in the cell, also with a decimal comma; NaN for anything else."""
    try:
        return float(cell.replace(",", ".").replace("_", "x"))  # Python reads 1_0 as 10
    except ValueError:
        return float("nan")


def is_number(cell: str) -> bool:
    """Return whether the cell holds a finite or infinite number."""
    number = cell_number(cell)
    return number == number  # NaN is no number


def are_all_finite(cells: Sequence[str]) -> bool:
    """Return whether there are cells and each holds a plain finite number; fast."""
    if any("_" in cell for cell in cells):  # NumPy reads 1_0 as 10
        return False
    try:
        return bool(len(cells) and np.isfinite(np.array(cells, dtype=np.float64)).all())
    except ValueError:
        return False


def plain_numbers(cells: Sequence[str]) -> np.ndarray:
    """The cells as float64, NaN for what is no number; fast where all are plain numbers."""
    if not any("_" in cell for cell in cells):  # NumPy reads 1_0 as 10
        try:
            return np.array(cells, dtype=np.float64)
        except ValueError:
            pass
    return np.array([cell_number(cell) for cell in cells], dtype=np.float64)
