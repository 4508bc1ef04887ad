"""The declaration of a recipe key: type, default, range, scale, meaning and short name."""

import sys
from collections.abc import Hashable, Mapping
from copy import copy
from dataclasses import dataclass, field
from json import dumps
from operator import ge, gt, le, lt
from typing import Any, Literal, TypeVar, get_args, get_origin

from thalweg.errors import UsageError
from thalweg.registry import unknown_name

T = TypeVar("T")

_COMPARISONS = {"at least": ge, "above": gt, "at most": le, "below": lt}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
LARGEST = {int: 2**53, float: sys.float_info.max}  # of a value
_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def key(
    default: T,
    meaning: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    log: bool = False,
    short: str = "",
) -> T:
    """Declare a recipe key as the field of a dataclass; its annotation is the key's type.

    `meaning` is a sentence for users: unit, effect, what 0 does. `log` says that values are to be
    compared by ratio. `short` is the name in the Python call and on the command line.
    """
    bounds = dict(zip(_COMPARISONS, (at_least, above, at_most, below), strict=True))
    return field(
        default_factory=lambda: copy(default),
        metadata={
            "default": default,
            "meaning": meaning,
            "bounds": {words: bound for words, bound in bounds.items() if bound is not None},
            "log": log,
            "short": short,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A recipe key as its field declares it."""

    name: str  # dotted, such as optimizer.lr
    type: Any
    default: Any
    meaning: str
    bounds: Mapping[str, float]  # "at least", "above", "at most" or "below" → number
    log: bool
    short: str

    @property
    def is_table(self) -> bool:
        """True if the value is a table of settings by name."""
        return get_origin(self.type) is Mapping

    @property
    def choices(self) -> tuple[str, ...]:
        """The only values that the key takes; empty if it takes others."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def range(self) -> str:
        """The bounds in words, such as "at least 0 and below 1"."""
        return " and ".join(f"{words} {bound:g}" for words, bound in self.bounds.items())

    def check(self, value: Any) -> None:
        """Raise UsageError for a number out of range."""
        if not all(_COMPARISONS[words](value, bound) for words, bound in self.bounds.items()):
            seen = f"{self.name} = {value}"
            raise UsageError(f"{self.name} is out of range", seen=seen, fix=self.range)

    def parse(self, value: object) -> Any:
        """Convert a value to the key's type; text, as from the environment, is parsed.

        Raises: UsageError for a value of another type, whatever the range.
        """
        if self.choices:
            if isinstance(value, Hashable) and value in self.choices:
                return value
            raise unknown_name(f"value of {self.name}", str(value), self.choices)
        if self.is_table:
            type_name, example = "a table", "{ width = 8 }"
            parsed: object = dict(value) if isinstance(value, Mapping) else None
        else:
            type_name, example = _TYPE_NAMES[self.type], toml_value(self.default)
            parsed = _scalar(value, self.type)
        if parsed is None:
            check_magnitude(value, self.type, name=self.name)
            fix = f"such as {self.name} = {example}"
            raise UsageError(f"{self.name} must be {type_name}", seen=repr(value), fix=fix)
        return parsed


def check_magnitude(value: object, kind: object, *, name: str) -> None:
    """Raise UsageError for a number, or its text, that is too large for any option of that kind."""
    if kind not in LARGEST or isinstance(value, bool) or not isinstance(value, int | float | str):
        return
    largest: float = LARGEST[kind]
    try:
        is_too_large = abs(_number(value)) > largest
    except ValueError:  # a text that is no number
        return
    if is_too_large:
        text = _shortened(value)
        most = f"{largest:,}" if isinstance(largest, int) else f"{largest:.3g}"
        raise UsageError(f"{name} is too large", seen=text, fix=f"at most {most}")


def _number(value: int | float | str) -> int | float:
    """The number of a text, whole where it can be: a floating-point one would be rounded."""
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:  # no whole number, or one of more digits than Python reads
        return float(value)


def _shortened(value: int | float | str) -> str:
    """The number as text; of many digits the first and how many there are."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a whole number of {value.bit_length()} bits"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}… ({len(text):,} characters)"


def toml_value(value: object) -> str:
    """The value as TOML on one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{dumps(k)} = {toml_value(v)}' for k, v in value.items())} }}"
    if isinstance(value, str):
        return dumps(value)  # a JSON string is a TOML basic string
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _scalar(value: object, kind: type) -> object:
    """The value as bool, int, float or str; None if it is none of that kind."""
    if kind is bool:
        return value if isinstance(value, bool) else _FLAGS.get(str(value).lower())
    if kind is str:
        return value if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = kind(value) if isinstance(value, str) or kind(value) == value else None
    except (ValueError, OverflowError):
        return None
    return number if number is not None and abs(number) <= LARGEST[kind] else None
