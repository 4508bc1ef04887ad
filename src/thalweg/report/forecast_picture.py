"""The picture of a forecast: the past, a forecast of it with its band, and the next steps."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from thalweg.report.axis import CHARACTER, Axis, axis
from thalweg.report.chart import polyline
from thalweg.wording import markup

WIDTH, HEIGHT = 940, 300
BOTTOM, TOP, RIGHT = 34.0, 22.0, 14.0
LEGEND = (
    ("values", "other"),
    ("forecast of the last validation window", "train"),
    ("next steps", "val"),
)


def forecast_picture(picture: Mapping[str, Any], *, key: str) -> str:
    """A <figure> of one series; "" where no value is finite."""
    values, begin = _numbers(picture["values"]), int(picture["begin"])
    parts = [part for part in (picture["back"], picture["ahead"]) if part]
    bands = [v for part in parts for name in ("low", "high") for v in _numbers(part[name])]
    finite = [value for value in (*values, *bands) if isfinite(value)]
    if not finite:
        return ""
    y = axis(finite, (HEIGHT - BOTTOM, TOP), linear=True)
    last = max([begin + len(values) - 1, *(p["begin"] + len(p["median"]) - 1 for p in parts)])
    x = Axis(begin, max(last, begin + 1), y.label_width, WIDTH - RIGHT)
    body = [*_grid(picture, x, y), _line(values, begin, "other", x=x, y=y)]
    for part, kind in ((picture["back"], "train"), (picture["ahead"], "val")):
        if part:
            body.append(_band(part, kind, x=x, y=y))
            body.append(_line(_numbers(part["median"]), int(part["begin"]), kind, x=x, y=y))
    if picture["ahead"]:
        at = x.at(picture["ahead"]["begin"] - 0.5)
        body.append(f'<path class="level" d="M{at:.1f} {y.start:.1f}V{y.end:.1f}"/>')
    body.append(_legend(y))
    name = markup(str(picture["name"]))
    return (
        f'<figure class="chart"><figcaption><b>{name}</b> <span class="unit">with the band of '
        f'80{chr(0x202F)}%</span></figcaption><svg id="{key}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{_description(picture)}">{"".join(body)}</svg></figure>'
    )


def _numbers(values: Sequence[Any]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]


def _grid(picture: Mapping[str, Any], x: Axis, y: Axis) -> Iterator[str]:
    for tick in y.ticks:
        at = y.at(tick)
        yield f'<path class="grid" d="M{x.start:.1f} {at:.1f}H{x.end:.1f}"/>'
        yield f'<text class="end" x="{x.start - 7:.1f}" y="{at + 4:.1f}">{y.label(tick)}</text>'
    yield f'<path class="base" d="M{x.start:.1f} {y.start:.1f}H{x.end:.1f}"/>'
    for place, stamp in picture["stamps"]:
        at, text = x.at(place), str(stamp)
        half = CHARACTER * len(text) / 2
        at = min(max(at, x.start + half), x.end - half)
        yield f'<text class="mid" x="{at:.1f}" y="{y.start + 18:.1f}">{markup(text)}</text>'


def _line(values: Sequence[float], begin: int, kind: str, *, x: Axis, y: Axis) -> str:
    """A line with a break where a value is missing; a dot for a value alone."""
    runs: list[list[tuple[float, float]]] = [[]]
    for place, value in enumerate(values):
        if isfinite(value):
            runs[-1].append((x.at(begin + place), y.at(value)))
        elif runs[-1]:
            runs.append([])
    lines = "".join(f'<polyline points="{polyline(run)}"/>' for run in runs if len(run) > 1)
    dots = "".join(
        f'<circle cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="2.6"/>'
        for run in runs
        if len(run) == 1
    )
    return f'<g class="line {kind}">{lines}{dots}</g>'


def _band(part: Mapping[str, Any], kind: str, *, x: Axis, y: Axis) -> str:
    begin = int(part["begin"])
    low, high = _numbers(part["low"]), _numbers(part["high"])
    if not all(map(isfinite, (*low, *high))):
        return ""
    places = [x.at(begin + step) for step in range(len(low))]
    if len(places) == 1:
        places, low, high = [places[0] - 3, places[0] + 3], low * 2, high * 2
    above = [(place, y.at(value)) for place, value in zip(places, high, strict=True)]
    below = [(place, y.at(value)) for place, value in zip(places, low, strict=True)]
    return f'<polygon class="band {kind}" points="{polyline([*above, *reversed(below)])}"/>'


def _legend(y: Axis) -> str:
    parts, at = [], y.label_width
    for name, kind in LEGEND:
        parts.append(f'<text class="name {kind}" x="{at:.1f}" y="12">{markup(name)}</text>')
        at += CHARACTER * len(name) + 18
    return "".join(parts)


def _description(picture: Mapping[str, Any]) -> str:
    """The picture in words, for screen readers."""
    ahead = picture["ahead"]
    text = f"{picture['name']}: {len(picture['values'])} values"
    if ahead:
        text += f", then {len(ahead['median'])} forecast steps with their band"
    return markup(text)
