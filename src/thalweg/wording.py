"""Numbers, times and names as text for people. Every text that a user chose passes through here."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from math import floor, isfinite, log10

from thalweg.errors import printable

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NARROW = "\u202f"  # narrow no-break space, between a number and its unit


POINTS = {  # kind of a point of the loss → in words
    "minimum": "minimum",
    "flat": "minimum, flat in some directions",
    "saddle": "saddle",
    "not-critical": "on a slope, neither minimum nor saddle",
    "undecided": "undecided between minimum and saddle",
}
SHARPNESS = {"sharp": "sharp", "flat": "flat", "moderate": "neither sharp nor flat"}


def visible(text: object) -> str:
    """The text with invisible characters escaped, but for our own no-break spaces."""
    return printable(str(text), keep=f"{NARROW}\u00a0")


def markup(text: object) -> str:
    """The text escaped for HTML, also inside a quoted attribute."""
    return escape(visible(text), quote=True)


def figure(value: float, digits: int = 3) -> str:
    """A measured number: significant digits, a power of ten where it would have many zeros."""
    if not isfinite(value):
        return "not a number" if value != value else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    power = floor(log10(abs(value)))
    if -4 <= power < 6:
        places = max(0, digits - 1 - power)
        return _minus(f"{value:,.{places}f}")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return _minus(f"{mantissa} × 10") + str(int(exponent)).translate(_SUPERSCRIPTS)


def count_or_figure(value: float) -> str:
    """A number that may be a count: whole ones have no digits behind the point."""
    if isfinite(value) and value == int(value) and abs(value) < 1e6:
        return _minus(f"{value:,.0f}")
    return figure(value)


def power_of_ten(value: float) -> str:
    """0.001 → 10⁻³; any other number as `figure` writes it."""
    power = round(log10(value))
    exact = abs(value / 10.0**power - 1) < 1e-9
    return "10" + str(power).translate(_SUPERSCRIPTS) if exact else figure(value, 1)


def percent(share: float, places: int = 1) -> str:
    return f"{100 * share:.{places}f}{NARROW}%" if isfinite(share) else "–"


def count(number: float, noun: str = "", plural: str = "") -> str:
    """3670, "image" → "3,670 images"."""
    text = f"{int(number):,}"
    if not noun:
        return text
    return f"{text} {noun if int(number) == 1 else plural or noun + 's'}"


NO_LABEL = "(none)"
_LABEL_MARKS = (", ", " | ", " ; ", "\t")


def join_labels(labels: Sequence[str], names: Sequence[str]) -> str:
    """A list of labels as one text, which `split_labels` takes apart again."""
    return _label_mark(names).join(labels) if labels else NO_LABEL


def split_labels(text: str, names: Sequence[str]) -> list[str]:
    """The labels in a text of `join_labels`; `names` are all labels that there are."""
    return [] if text == NO_LABEL else text.split(_label_mark(names))


def _label_mark(names: Sequence[str]) -> str:
    """A mark that stands in no name."""
    marks = (mark for mark in _LABEL_MARKS if not any(mark in name for name in names))
    return next(marks, _LABEL_MARKS[-1])


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    first = ", ".join(names[:most])
    return first if len(names) <= most else f"{first} and {len(names) - most:,} more"


def times(number: int) -> str:
    """1 → "once", 2 → "twice", 3 → "3 times"."""
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def pixels(shape: Sequence[int]) -> str:
    """(3, 64, 64) → "64 px"; (3, 48, 64) → "48 × 64 px", height first."""
    height, width = shape[-2:]
    side = f"{height}" if height == width else f"{height}\u00a0×\u00a0{width}"
    return f"{side}{NARROW}px"


def image_sizes(shape: Sequence[int], original_size: Sequence[int]) -> dict[str, str]:
    """Lines on images (channels, height, width): their size in files, if known, and in training."""
    lines = {}
    if original_size[0]:
        lines["Size of the files"] = f"{pixels(original_size)}, the median height and width"
    return lines | {"Size in training": f"{pixels(shape)}, {count(shape[0], 'channel')}"}


def duration(seconds: float) -> str:
    """Two units at most: 0.42 s, 38 s, 4 min 12 s, 2 h 5 min."""
    if not isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{seconds:.2g}{NARROW}s" if seconds >= 0.01 else f"0{NARROW}s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}{NARROW}h {minutes}{NARROW}min"
    return f"{minutes}{NARROW}min {rest}{NARROW}s" if minutes else f"{rest}{NARROW}s"


def clock_time(seconds: float) -> str:
    """A duration as a clock shows it: 0:07, 12:30 or 3:04:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def moment(seconds: float) -> str:
    """Seconds since 1970 as "21 Nov 2026, 04:12 UTC"; the same on every machine."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def large(number: float) -> str:
    """A number of weights: 11.2 M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{NARROW}{letter}"
    return count(number)


def _minus(text: str) -> str:
    return text.replace("-", "−")
