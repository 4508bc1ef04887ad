"""Dates and times of day as text → numbers: days since the earliest, and parts of the calendar."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from math import nan

import numpy as np

ISO = "ISO 8601"
FORMS = (
    ISO,
    *("%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d.%m.%y", "%d-%b-%Y", "%d %b %Y", "%d %B %Y"),
    *("%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%d-%b-%y", "%b %Y", "%Y-%m"),
    *("%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%H:%M", "%H:%M:%S"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S")  # may follow a day
AMBIGUOUS = {"%m/%d/%Y": "%d/%m/%Y", "%m/%d/%y": "%d/%m/%y", "%d-%m-%Y": "%m-%d-%Y"}
LEAST_SHARE = 0.95  # of the cells that must be dates of one form
_SECONDS = 86_400.0
_PARTS: dict[str, Callable[[datetime], float]] = {
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month,
    "day of month": lambda moment: moment.day,
    "weekday": lambda moment: moment.weekday(),
    "hour": lambda moment: moment.hour + moment.minute / 60,
}
DAYS = "days"


def date_form(cells: Sequence[str]) -> str:
    """The form that most of the cells are written in; "" where they are no dates."""
    texts = sorted({cell.strip() for cell in cells})
    if not texts or sum(any(mark.isdigit() for mark in text) for text in texts) < len(texts):
        return ""
    return next((form for form in _forms() if _fits(form, texts)), "")


def _forms() -> Iterable[str]:
    for form in FORMS:
        is_day = "d" in form and form != ISO
        yield from (form + clock for clock in (CLOCKS if is_day else ("",)))


def _fits(form: str, texts: Sequence[str]) -> bool:
    allowed = int((1 - LEAST_SHARE) * len(texts))
    for text in texts:
        if moment_in(text, form) is None:
            allowed -= 1
            if allowed < 0:
                return False
    return True


def moment_in(text: str, form: str) -> datetime | None:
    """The moment that a text names, without a time zone; None for no date of this form."""
    try:
        if form != ISO:
            return datetime.strptime(text.strip(), form)  # local, as written
        text = text.strip()
        if len(text) < len("2020-01-01") or text[4] != "-":
            return None  # a plain number is no date
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, IndexError):
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def days_of(moment: datetime) -> float:
    """Days since the year 1."""
    return (moment - datetime(1, 1, 1)).total_seconds() / _SECONDS


def parts_that_vary(cells: Sequence[str], form: str) -> tuple[str, ...]:
    """The numbers that are made of a column of dates: days, and the parts that differ."""
    moments = [moment for cell in set(cells) if (moment := moment_in(cell, form)) is not None]
    parts = [name for name, part in _PARTS.items() if len(set(map(part, moments))) > 1]
    has_days = "%H" not in form or "%d" in form
    return (*((DAYS,) if has_days else ()), *parts) or (DAYS,)


def earliest(cells: Sequence[str], form: str) -> float:
    """Days of the earliest date; 0 for no date."""
    moments = [moment for cell in set(cells) if (moment := moment_in(cell, form)) is not None]
    return float(np.floor(days_of(min(moments)))) if moments else 0.0


def date_numbers(
    cells: Sequence[str], *, form: str, parts: Sequence[str], origin: float
) -> np.ndarray:
    """float64 [n, part]; NaN for what is no date."""
    numbers_of = partial(_numbers, form=form, parts=parts, origin=origin)
    rows = {cell: numbers_of(cell) for cell in set(cells)}
    return np.array([rows[cell] for cell in cells], dtype=np.float64).reshape(-1, len(parts))


def _numbers(cell: str, *, form: str, parts: Sequence[str], origin: float) -> list[float]:
    moment = moment_in(cell, form)
    if moment is None:
        return [nan] * len(parts)
    return [days_of(moment) - origin if part == DAYS else _PARTS[part](moment) for part in parts]
