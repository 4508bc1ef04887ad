"""Say how to get a missing measurement: the reason that a "not checked" rule gives the user."""

from thalweg.diagnosis.evidence import kind, value
from thalweg.record import History, Quantity
from thalweg.record.quantities import LOSS_KIND, TARGET_IS_INDEX, WATCHED_BY

NOT_SHOWN = "this run shows nothing of them: another kind of model, data, loop or machine"
NOT_IN_CALLBACK = (
    "the library does not show it to its callbacks: put thalweg.watch into a loop of your own"
)
TO_WATCH = " to watch"


def is_foreign(reason: str) -> bool:
    """Return whether a check is about another kind of run, so that nobody can have it made here."""
    return reason == NOT_SHOWN or reason.startswith("only ")


def how_to_measure(quantity: Quantity, history: History) -> str:
    """One sentence: what to pass in, or that no measurement of it was recorded."""
    if quantity.classes_only and _is_regression(history):
        return "only for targets that are class numbers"
    watched_by = kind(history, WATCHED_BY)
    if watched_by == "trainer":  # no call to change
        return quantity.how_in_trainer or NOT_SHOWN
    if watched_by == "callback":
        return _how_in_callback(quantity)
    if watched_by == "script" and quantity.how:
        return f"put thalweg.watch into the script, and {quantity.how}"
    return quantity.how or f"not measured: {quantity.name}"


def _how_in_callback(quantity: Quantity) -> str:
    """The argument of the callback that the measurement needs; the loop itself is the library's."""
    if TO_WATCH in quantity.how:
        return quantity.how.partition(TO_WATCH)[0] + " to the callback"
    if quantity.how.startswith("only "):
        return quantity.how.partition(":")[0]
    return NOT_IN_CALLBACK


def _is_regression(history: History) -> bool:
    """True if the targets are real numbers, or several yes-or-no labels."""
    real = TARGET_IS_INDEX in history and value(history, TARGET_IS_INDEX) == 0
    return real or kind(history, LOSS_KIND) in ("mse", "l1", "smooth_l1")
