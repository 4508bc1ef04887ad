"""The section on curvature, where `thalweg spectrum` or `landscape` measured it."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from math import isfinite, nan

from thalweg.record import Picture
from thalweg.record.schema import JSON
from thalweg.report.facts import Facts
from thalweg.report.tag import section, terms
from thalweg.wording import NARROW, POINTS, SHARPNESS, count, figure, markup, percent

MOST_EIGENVALUES = 5


def curvature_section(facts: Facts) -> str:
    """The stored pictures, each with its numbers; "" where nothing was measured."""
    body = ""
    if facts.spectrum:
        rows = spectrum_terms(facts.spectrum.numbers)
        body += _figure(facts.spectrum, "Curvature: the spectrum of the Hessian", rows)
    if facts.landscape:
        rows = landscape_terms(facts.landscape.numbers)
        body += _figure(facts.landscape, "The loss around the best weights", rows)
    if not body:
        return ""
    return section("curvature", "The shape of the loss", f'<div class="charts">{body}</div>')


def spectrum_terms(numbers: Mapping[str, JSON]) -> dict[str, str]:
    """The spectrum in words; lines without a measurement are left out."""
    top, bottom = _list(numbers, "top"), _list(numbers, "bottom")
    rows = {
        "Largest eigenvalues": _several(top, _list(numbers, "top_errors")),
        "Smallest eigenvalue": _several(bottom[:1], _list(numbers, "bottom_errors")),
        "Sum of all (trace)": _trace(_mapping(numbers, "trace")),
        "Signs": _signs(numbers),
        "Kind of point": _kind(_mapping(numbers, "shape")),
        "Sharp or flat": _sharpness(_mapping(numbers, "shape")),
        "Largest step that can settle": _step(top),
        "Measured on": _measured_on(numbers),
    }
    return {name: text for name, text in rows.items() if text}


def landscape_terms(numbers: Mapping[str, JSON]) -> dict[str, str]:
    """The landscape in words; lines without a measurement are left out."""
    losses = [value for value in _flat(numbers.get("losses")) if _is_number(value)]
    path, explained = _list(numbers, "path_losses"), numbers.get("explained") or 0.0
    rows = {
        "Loss at the weights": _value(numbers.get("centre")),
        "Loss in the picture": f"{figure(min(losses))} to {figure(max(losses))}" if losses else "",
        "Directions": "; ".join(map(str, _list(numbers, "directions"))),
        "Path of the optimizer": f"{count(len(path), 'place')}, loss {_value(path[0])} to "
        f"{_value(path[-1])}"
        if path
        else "",
        "Path variance in the plane": percent(explained, 0)
        if path and _is_number(explained)
        else "",
        "Measured on": _measured_on(numbers),
    }
    return {name: text for name, text in rows.items() if text}


def _figure(picture: Picture, title: str, rows: dict[str, str]) -> str:
    """An image, not markup: nothing inside it can run a script or reach the network."""
    description = "; ".join(f"{name}: {text}" for name, text in rows.items())
    data = b64encode(picture.svg).decode()
    return (
        f'<figure class="picture"><figcaption><b>{markup(title)}</b></figcaption>'
        f'<img alt="{markup(description)}" src="data:image/svg+xml;base64,{data}">'
        f"{terms(rows)}</figure>"
    )


def _several(values: Sequence[JSON], errors: Sequence[JSON]) -> str:
    text = ", ".join(figure(v) for v in values[:MOST_EIGENVALUES] if _is_number(v))
    worst = max((e for e in errors[:MOST_EIGENVALUES] if _is_number(e)), default=None)
    return f"{text} (± {figure(worst, 1)})" if text and worst is not None else text


def _trace(trace: Mapping[str, JSON]) -> str:
    ends = [_value(end) for end in _list(trace, "interval")]
    interval = f", 95 % interval {' to '.join(ends)}" if all(ends) and len(ends) == 2 else ""
    return _value(trace.get("value")) + interval


def _signs(numbers: Mapping[str, JSON]) -> str:
    shares = {sign: s for sign, s in _mapping(numbers, "shares").items() if _is_number(s)}
    signs = ", ".join(f"{percent(share, 0)} {sign}" for sign, share in shares.items())
    band = _value(numbers.get("band"))
    return f"{signs}; zero is up to {band}" if signs and band else signs


def _kind(shape: Mapping[str, JSON]) -> str:
    kind, reason = shape.get("kind"), shape.get("reason")
    return f"{POINTS[kind]}: {reason}" if kind in POINTS and isinstance(reason, str) else ""


def _sharpness(shape: Mapping[str, JSON]) -> str:
    word = shape.get("sharpness")
    rise, loss = shape.get("rise", nan), shape.get("loss", nan)
    if word not in SHARPNESS or not (_is_number(rise) and _is_number(loss)):
        return ""
    return (
        f"{SHARPNESS[word]}: the loss rises by {figure(rise, 2)}, from {figure(loss)}, where the "
        f"weights move by 1{NARROW}% of their length in the sharpest direction"
    )


def _step(top: Sequence[JSON]) -> str:
    if not top or not _is_number(top[0]) or top[0] <= 0:
        return ""
    return f"{figure(2 / top[0])} for plain gradient descent: 2\u00a0/\u00a0λmax"


def _measured_on(numbers: Mapping[str, JSON]) -> str:
    parts = [
        count(numbers[key], noun)
        for key, noun in (("samples", "training sample"), ("size", "weight"))
        if _is_number(numbers.get(key))
    ]
    if numbers.get("batch_norm") not in (None, "none"):
        parts.append(f"batch norm in {numbers['batch_norm']} mode")
    return ", ".join(parts)


def _mapping(numbers: Mapping[str, JSON], key: str) -> Mapping[str, JSON]:
    value = numbers.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(numbers: Mapping[str, JSON], key: str) -> list[JSON]:
    value = numbers.get(key)
    return value if isinstance(value, list) else []


def _flat(nested: JSON) -> list[JSON]:
    return [v for part in nested for v in _flat(part)] if isinstance(nested, list) else [nested]


def _value(value: JSON) -> str:
    return figure(value) if _is_number(value) else ""


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and isfinite(value)
