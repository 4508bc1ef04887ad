"""Check the types of what a run's file holds: anybody may have made it, or damaged it.

Beyond this check, a fact that is there has the type that thalweg writes: nobody asks again.
"""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

from thalweg.record.schema import JSON

LARGEST_COUNT = 2**53
LATEST = 32503680000.0  # seconds since 1970: the year 3000
DEEPEST = 32  # levels of lists and objects

Check = Callable[[JSON], bool]


def check_facts(facts: Mapping[str, JSON]) -> None:
    """Raises ValueError that names the first fact of another type than thalweg writes."""
    for name, value in facts.items():
        if value is not None and not FACTS.get(name, is_shallow)(value):
            raise ValueError(f"the fact {name!r} cannot be {str(value)[:60]!r}")


def check_time(seconds: JSON) -> None:
    """Raises ValueError unless it is a time from 1970 to the year 3000."""
    if not is_time(seconds):
        raise ValueError(f"{str(seconds)[:60]!r} is no time")


def check_step(step: JSON) -> None:
    """Raises ValueError unless it is a step, or -1 for none."""
    if isinstance(step, bool) or not isinstance(step, int) or not -1 <= step < LARGEST_COUNT:
        raise ValueError(f"{str(step)[:60]!r} is no step")


def check_text(values: Iterable[object]) -> None:
    """Raises ValueError unless all are texts, as SQLite holds them."""
    for value in values:
        if not isinstance(value, str | bytes):
            raise ValueError(f"{value!r} is no text")  # of the file's contents


def check_number(value: object) -> None:
    """Raises ValueError unless it is a number, or None for NaN."""
    if value is not None and not isinstance(value, int | float):
        raise ValueError(f"{str(value)[:60]!r} is no number")


def check_json_object(value: JSON) -> None:
    """Raises ValueError unless it is an object of few levels."""
    if not isinstance(value, dict) or not is_shallow(value):
        raise ValueError(f"{str(value)[:60]!r} is no JSON object that thalweg writes")


def is_shallow(value: JSON, levels: int = DEEPEST) -> bool:
    """Return whether a JSON value has few levels."""
    if isinstance(value, dict):
        return levels > 0 and all(is_shallow(inner, levels - 1) for inner in value.values())
    if isinstance(value, list):
        return levels > 0 and all(is_shallow(inner, levels - 1) for inner in value)
    return True


def is_text(value: JSON) -> bool:
    """Return whether it is a text."""
    return isinstance(value, str)


def is_number(value: JSON) -> bool:
    """Return whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def is_count(value: JSON) -> bool:
    """Return whether it is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_COUNT


def is_time(value: JSON) -> bool:
    return is_number(value) and 0 <= value <= LATEST


def list_of(check: Check) -> Check:
    """A check of lists whose items all pass."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def object_of(check: Check) -> Check:
    """A check of objects whose values all pass."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def is_number_or_none(value: JSON) -> bool:
    return value is None or is_number(value)


def _is_inputs(value: JSON) -> bool:
    """The kind of the inputs: a noun, a size, and lines of the report."""
    if not isinstance(value, dict) or not object_of(is_text)(value.get("lines", {})):
        return False
    return all(is_text(value.get(name, "")) for name in ("noun", "size"))


def _is_selection(value: JSON) -> bool:
    """The update whose weights were saved, and whether a validation chose them."""
    if not isinstance(value, dict) or value.keys() != {"step", "by_score"}:
        return False
    return is_count(value["step"]) and isinstance(value["by_score"], bool)


def _is_caveat(value: JSON) -> bool:
    """A title and a text."""
    return object_of(is_text)(value) and value.keys() == {"title", "text"}


def _is_resizing(value: JSON) -> bool:
    """Pairs of a side in pixels and the number of updates made when its stage ends."""
    return list_of(lambda stage: list_of(is_count)(stage) and len(stage) == 2)(value)


def _is_comparison(value: JSON) -> bool:
    """The score of another model, its seconds, rounds and verdict; or why there is none."""
    if not isinstance(value, dict):
        return False
    if value.keys() == {"reason"}:
        return is_text(value["reason"])
    if value.keys() != {"score", "seconds", "rounds", "verdict"}:
        return False
    is_counted = is_number(value["seconds"]) and is_count(value["rounds"])
    return is_counted and is_number_or_none(value["score"]) and is_text(value["verdict"])


FACTS: Mapping[str, Check] = {
    **dict.fromkeys(
        ("source", "task", "answers", "headline_metric", "model", "fingerprint", "state"), is_text
    ),
    "features_by": is_text,
    **dict.fromkeys(("steps", "steps_per_epoch", "batch_size", "parameters"), is_count),
    "epochs": is_number,
    "started": is_time,
    "inputs": _is_inputs,
    "class_names": list_of(is_text),
    "notes": list_of(is_text),
    "counts": object_of(is_count),
    "input_shape": list_of(is_count),
    "original_size": list_of(is_count),
    **dict.fromkeys(("environment", "recipe"), object_of(is_text)),
    "metrics": object_of(is_number_or_none),
    **dict.fromkeys(("time_spent", "baselines"), object_of(is_number)),
    "selection": _is_selection,
    "resizing": _is_resizing,
    **dict.fromkeys(("trees", "linear"), _is_comparison),
    "telling": object_of(list_of(is_text)),
    "caveats": list_of(_is_caveat),
}
