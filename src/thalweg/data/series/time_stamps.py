"""Time stamps as people write them → moments or numbers: dates, months by name, quarters, years."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from math import isfinite

import numpy as np

from thalweg.data.tables.cells import are_all_finite, is_missing
from thalweg.data.tables.dates import AMBIGUOUS, CLOCKS, FORMS, moment_in

NUMBERS = "numbers"  # the form of stamps that are counted, such as steps or decimal years
YEARS, QUARTERS = "years", "quarters"
DIGITS = ("%Y%m%d", "%Y%m")  # dates written as whole numbers
OTHERS = ("%d-%m-%y", "%b-%y", "%b-%Y", "%B-%Y", "%B %Y", "%b %y", "%m/%Y", "%m.%Y", "%Y/%m")
EPOCH, EPOCH_MS = "seconds since 1970", "milliseconds since 1970"
EARLIEST, LATEST = 1600, 2400  # years that a whole number may mean
SHOWN = 3  # wrong cells in an error
_EPOCHS = {EPOCH: (3e8, 4.2e9), EPOCH_MS: (3e11, 4.2e12)}
_QUARTER = re.compile(r"(\d{4})[\s\-/]*[qQ]\.?\s*([1-4])|[qQ]([1-4])[\s\-/]*(\d{4})")
_YEAR = re.compile(r"[12]\d{3}(?:\.0)?")
_WORD = re.compile(r"[^\W\d_]+\.?")
# Months of other languages, by the letters that tell them; English ones parse as they are.
_MONTHS = {
    1: ("januar", "jänner", "janvier", "enero", "gennaio", "janeiro", "januari", "ene", "janv"),
    2: ("februar", "février", "fevrier", "febrero", "febbraio", "fevereiro", "februari", "fév"),
    3: ("märz", "mär", "maerz", "mrz", "mars", "marzo", "março", "maart", "mrt"),
    4: ("avril", "avr", "abril", "abr", "aprile"),
    5: ("mai", "mayo", "maggio", "maio", "mei", "mag"),
    6: ("juni", "juin", "junio", "giugno", "junho", "giu"),
    7: ("juli", "juillet", "julio", "luglio", "julho", "juil", "lug"),
    8: ("august", "août", "aout", "agosto", "augustus", "ago"),
    9: ("septembre", "septiembre", "settembre", "setembro", "sept", "set"),
    10: ("oktober", "octobre", "octubre", "ottobre", "outubro", "okt", "ott", "out"),
    11: ("novembre", "noviembre", "novembro"),
    12: ("dezember", "décembre", "decembre", "diciembre", "dicembre", "dezembro", "dez", "dic"),
}
_ENGLISH = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FULL = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_NUMBER_OF = {word: number for number, words in _MONTHS.items() for word in words}
_NUMBER_OF |= {word.lower(): number for number, word in enumerate(_ENGLISH, 1)}
_NUMBER_OF |= {"august": 8, "sept": 9}


def stamp_forms(cells: Sequence[str]) -> Iterator[str]:
    """The forms that all these cells are written in, the likeliest first; none for no time stamps.

    Several fit where days and months cannot be told: the one whose stamps are regular is meant.
    """
    present = [cell.strip() for cell in cells]
    if not present or any(map(is_missing, present)):
        return
    if are_all_finite(present):
        yield from _number_forms(present)
        return
    distinct = sorted(set(present))
    forms = [QUARTERS, *(form + clock for form in (*FORMS, *OTHERS) for clock in CLOCKS)]
    for form in forms:
        if _hours_fit(form) and all(_moment(cell, form) is not None for cell in distinct):
            yield form


def _hours_fit(form: str) -> bool:
    """Return whether a form has at most one time of day, and is no time of day alone."""
    return form.count("%H") <= 1 and ("%Y" in form or "%y" in form or "%" not in form)


def _number_forms(cells: Sequence[str]) -> Iterator[str]:
    numbers = np.array(cells, dtype=np.float64)
    is_whole = bool((numbers == np.round(numbers)).all())
    if is_whole:
        for form in DIGITS:
            if all(_moment(cell, form) is not None for cell in set(cells)):
                yield form
        for form, (low, high) in _EPOCHS.items():
            if numbers.min() >= low and numbers.max() <= high:
                yield form
        if numbers.min() >= EARLIEST and numbers.max() <= LATEST:
            yield YEARS
    yield NUMBERS


def stamps_in(cells: Sequence[str], form: str) -> "np.ndarray":
    """float64 numbers, or datetime64[us]; NaN and NaT for what is not of the form."""
    if form == NUMBERS:
        return np.array([_number(cell) for cell in cells], dtype=np.float64)
    moments = {cell: _moment(cell.strip(), form) for cell in set(cells)}
    return np.array([moments[cell] for cell in cells], dtype="datetime64[us]")


def _number(cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        return float("nan")
    return number if isfinite(number) else float("nan")


def _moment(cell: str, form: str) -> datetime | None:
    try:
        if own := _OWN.get(form):
            return own(cell)
        if form in DIGITS:
            number = int(float(cell))
            if len(str(number)) != (8 if "%d" in form else 6):
                return None
            moment = datetime.strptime(str(number), form)
            return moment if EARLIEST <= moment.year <= LATEST else None
        if "%b" in form or "%B" in form:
            cell = _in_english(cell, _ENGLISH if "%b" in form else _FULL)
        return moment_in(cell, form)
    except (ValueError, OverflowError):
        return None


def _year(cell: str) -> datetime | None:
    return datetime(int(cell[:4]), 1, 1) if _YEAR.fullmatch(cell) else None


def _quarter(cell: str) -> datetime | None:
    match = _QUARTER.fullmatch(cell)
    if match is None:
        return None
    year, quarter = int(match[1] or match[4]), int(match[2] or match[3])
    return datetime(year, 3 * quarter - 2, 1)


def _since_1970(cell: str, scale: float) -> datetime:
    return datetime(1970, 1, 1) + timedelta(seconds=float(cell) * scale)


_OWN: dict[str, Callable[[str], datetime | None]] = {
    YEARS: _year,
    QUARTERS: _quarter,
    EPOCH: lambda cell: _since_1970(cell, 1.0),
    EPOCH_MS: lambda cell: _since_1970(cell, 1e-3),
}


def _in_english(cell: str, months: Sequence[str]) -> str:
    """The cell with month names of other languages as these English ones."""

    def english(match: re.Match[str]) -> str:
        word = match[0].rstrip(".").lower()
        number = _NUMBER_OF.get(word)
        return months[number - 1] if number else word.capitalize()

    return _WORD.sub(english, cell)


def is_ambiguous(form: str) -> bool:
    """Return whether days and months might be meant the other way round."""
    day = form.partition(" %H")[0]
    return day in AMBIGUOUS or day in AMBIGUOUS.values()
