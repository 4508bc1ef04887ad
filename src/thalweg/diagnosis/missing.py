"""Say how to get a missing measurement: the reason that a "not checked" rule gives the user."""

from thalweg.diagnosis.evidence import kind, value
from thalweg.record import History, Quantity
from thalweg.record.quantities import LOSS_KIND, TARGET_IS_INDEX


def how_to_measure(quantity: Quantity, history: History) -> str:
    """One sentence: what to pass in, or that no measurement of it was recorded."""
    if quantity.classes_only and _is_regression(history):
        return "only for targets that are class numbers"
    return quantity.how or f"not measured: {quantity.name}"


def _is_regression(history: History) -> bool:
    """True if the targets are real numbers, or several yes-or-no labels."""
    real = TARGET_IS_INDEX in history and value(history, TARGET_IS_INDEX) == 0
    return real or kind(history, LOSS_KIND) in ("mse", "l1", "smooth_l1")
