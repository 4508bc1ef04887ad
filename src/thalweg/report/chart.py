"""A line chart as SVG, readable on paper too; the page's script adds a cursor."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import NamedTuple

from thalweg.report.axis import CHARACTER, Axis, axis, round_steps
from thalweg.report.line import Line, Point
from thalweg.wording import count, figure, markup, percent

MOST_DOTS = 40  # validations, up to which each has its dot
TOP = 10.0  # pixels above a chart's lines; where marks have texts, these stand between
MARK_ROW = 14.0  # pixels from one row of marks' texts to the next
LABEL_GAP = 15.0  # least pixels between two labels


class Mark(NamedTuple):
    """A step where something happened."""

    step: int
    text: str
    kind: str = "event"  # event: something went wrong or stopped; best; or stage: a new size


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The frame of a chart, without its lines."""

    key: str  # unique in the page
    title: str
    unit: str = ""
    shares: bool = False
    epoch_steps: int = 0
    until: int = 0  # the step that all charts of a page reach
    level: tuple[str, float] = ("", 0.0)  # a line to compare with, such as chance
    marks: Sequence[Mark] = ()
    width: int = 460
    height: int = 260


def line_chart(chart: Chart, lines: Sequence[Line]) -> str:
    """A <figure>; "" when no line has a finite value."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    x, y = _axes(chart, lines)
    marks = _placed_marks(chart.marks, x)
    y = replace(y, end=y.end + MARK_ROW * (1 + max((row for _, row in marks), default=-1)))
    body = [
        _grid(chart, x, y),
        _level(chart, x, y),
        *(_mark(mark, row, x=x, bottom=y.start) for mark, row in marks),
        *(_band(line, x, y) for line in lines if line.ranged),
        *(_line_group(line, x, y) for line in lines),
        _level_name(chart, lines, (x, y)),
        _end_labels(lines, x, y),
    ]
    unit = f' <span class="unit">{markup(chart.unit)}</span>' if chart.unit else ""
    scale = ' <span class="unit">log</span>' if y.log else ""
    return (
        f'<figure class="chart"><figcaption id="{chart.key}-title">'
        f"<b>{markup(chart.title)}</b>{unit}{scale}"
        f'<output class="readout" for="{chart.key}"></output></figcaption>'
        f'<svg id="{chart.key}" viewBox="0 0 {chart.width} {chart.height}" role="img" '
        f'aria-label="{markup(_description(chart, lines))}" '
        f'data-x="{_scale(x)}" data-y="{_scale(y)}" '
        f'data-epoch="{chart.epoch_steps}"{" data-shares" if chart.shares else ""}>'
        f"{''.join(body)}</svg></figure>"
    )


def polyline(pairs: Iterable[tuple[float, float]]) -> str:
    """Points of a polyline, to a tenth of a pixel."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def value_text(value: float, *, shares: bool) -> str:
    return percent(value) if shares else figure(value)


def _axes(chart: Chart, lines: Sequence[Line]) -> tuple[Axis, Axis]:
    values = [v for line in lines for p in line.points for v in (p.value, p.low, p.high)]
    steps = [p.step for line in lines for p in line.points]
    steps += [step for line in lines for step in line.broken_at]
    steps += [mark.step for mark in chart.marks]
    first, last = min(steps), max(chart.until, *steps)
    if chart.epoch_steps:
        first = min(first, 0)
    y = axis(values, (chart.height - 36, TOP), shares=chart.shares)
    labels = [_end_text(line, y) for line in lines]
    labels += [line.name for line in lines] if len(lines) > 1 else []
    right = chart.width - 8 - CHARACTER * max(map(len, labels))
    return Axis(first, max(last, first + 1), y.label_width, right), y


def _grid(chart: Chart, x: Axis, y: Axis) -> str:
    parts = []
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(f'<path class="grid" d="M{x.start:.1f} {at:.1f}H{x.end:.1f}"/>')
        parts.append(
            f'<text class="end" x="{x.start - 7:.1f}" y="{at + 4:.1f}">{y.label(tick)}</text>'
        )
    bottom = y.start
    parts.append(f'<path class="base" d="M{x.start:.1f} {bottom:.1f}H{x.end:.1f}"/>')
    for step, text in _x_ticks(chart, x):
        at = x.at(step)
        parts.append(f'<path class="base" d="M{at:.1f} {bottom:.1f}v4"/>')
        parts.append(f'<text class="mid" x="{at:.1f}" y="{bottom + 17:.1f}">{text}</text>')
    name = "epoch" if _in_epochs(chart, x) else "step"
    parts.append(f'<text class="end" x="{x.end + 10:.1f}" y="{bottom + 31:.1f}">{name}</text>')
    return "".join(parts)


def _in_epochs(chart: Chart, x: Axis) -> bool:
    return chart.epoch_steps > 0 and x.high + 1 >= 2 * chart.epoch_steps


def _x_ticks(chart: Chart, x: Axis) -> list[tuple[float, str]]:
    """(step, label); an epoch's tick stands at its last step, where its validation is."""
    if not _in_epochs(chart, x):
        ticks = [tick for tick in round_steps(x.low, x.high, 4) if tick == int(tick)]
        return [(tick, count(tick)) for tick in ticks]
    epochs = round_steps(0, (x.high + 1) / chart.epoch_steps, 5)
    whole = [epoch for epoch in epochs if epoch == int(epoch)]
    return [(max(0, epoch * chart.epoch_steps - 1), count(epoch)) for epoch in whole]


def _level(chart: Chart, x: Axis, y: Axis) -> str:
    name, value = chart.level
    if not name or not y.low <= value <= y.high:
        return ""
    at = y.at(value)
    return f'<path class="level" d="M{x.start:.1f} {at:.1f}H{x.end:.1f}"/>'


def _level_name(chart: Chart, lines: Sequence[Line], axes: tuple[Axis, Axis]) -> str:
    """The name above the level, on the side where the lines are farther away."""
    x, y = axes
    name, value = chart.level
    if not name or not y.low <= value <= y.high:
        return ""
    at = y.at(value)
    sides = [
        [
            abs(y.at(p.value) - at)
            for line in lines
            for p in line.points
            if (x.at(p.step) > x.end - 90) == right and (right or x.at(p.step) < x.start + 90)
        ]
        for right in (True, False)
    ]
    right = min(sides[0], default=0.0) >= min(sides[1], default=0.0)
    place = f'class="level-name end" x="{x.end - 2:.1f}"'
    if not right:
        place = f'class="level-name" x="{x.start + 4:.1f}"'
    above = at - 5 if at > y.end + 16 else at + 14
    text = f"{markup(name)} {value_text(value, shares=chart.shares)}"
    return f'<text {place} y="{above:.1f}">{text}</text>'


def _placed_marks(marks: Sequence[Mark], x: Axis) -> list[tuple[Mark, int]]:
    """Each mark and the row of its text: as many rows as the texts need side by side."""
    ends: list[float] = []  # right end of the last text in each row
    placed = []
    for mark in sorted(marks, key=lambda mark: mark.step):
        start, end = _extent(mark, x)
        row = next((row for row, taken in enumerate(ends) if taken <= start), len(ends))
        ends[row : row + 1] = [end]
        placed.append((mark, row))
    return placed


def _extent(mark: Mark, x: Axis) -> tuple[float, float]:
    """The left and right end of a mark's text: right of its line, or left where that is full."""
    at, width = x.at(mark.step), CHARACTER * len(mark.text) + 8
    is_left = at - width > x.start and at + width > x.end
    return (at - width, at) if is_left else (at, at + width)


def _mark(mark: Mark, row: int, *, x: Axis, bottom: float) -> str:
    at, (start, _) = x.at(mark.step), _extent(mark, x)
    side, shift = ("end", -5) if start < at else ("", 5)
    return (
        f'<path class="mark {mark.kind}" d="M{at:.1f} {TOP:g}V{bottom:.1f}"/>'
        f'<text class="mark-name {mark.kind} {side}" x="{at + shift:.1f}" '
        f'y="{TOP + 10 + MARK_ROW * row:.1f}">{markup(mark.text)}</text>'
    )


def _band(line: Line, x: Axis, y: Axis) -> str:
    top = [(x.at(p.step), y.at(p.high)) for p in line.points]
    bottom = [(x.at(p.step), y.at(p.low)) for p in reversed(line.points)]
    return f'<polygon class="band {line.kind}" points="{polyline(top + bottom)}"/>'


def _line_group(line: Line, x: Axis, y: Axis) -> str:
    """The line, with its data for the cursor; dots where the values are few."""
    parts = [
        f'<polyline points="{polyline((x.at(p.step), y.at(p.value)) for p in run)}"/>'
        for run in _unbroken(line)
    ]
    dots = "".join(
        f'<circle cx="{x.at(p.step):.1f}" cy="{y.at(p.value):.1f}" r="2.6"/>' for p in line.points
    )
    steps = " ".join(f"{p.step:.0f}" for p in line.points)
    data = f'data-steps="{steps}" '
    data += f'data-values="{_number_list(p.value for p in line.points)}"'
    if line.ranged:
        data += f' data-low="{_number_list(p.low for p in line.points)}"'
        data += f' data-high="{_number_list(p.high for p in line.points)}"'
    few = len(line.points) <= (MOST_DOTS if line.kind == "val" else 5)
    body = "".join(parts) + (dots if few else "")
    return f'<g class="line {line.kind}" data-name="{markup(line.name)}" {data}>{body}</g>'


def _unbroken(line: Line) -> list[list[Point]]:
    """The stretches between values that are not finite."""
    pieces: list[list[Point]] = [[]]
    breaks = sorted(line.broken_at, reverse=True)
    for point in line.points:
        while breaks and breaks[-1] < point.step:
            breaks.pop()
            if pieces[-1]:
                pieces.append([])
        pieces[-1].append(point)
    return [piece for piece in pieces if len(piece) > 1]


def _end_labels(lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """Each line's last value beside its end, and its name where there are several."""
    if len(lines) == 1:
        return _end_value(lines[0], (x.end + 6, y.at(lines[0].last.value) + 4), y)
    height = 2 * LABEL_GAP + 2
    ordered = sorted(lines, key=lambda line: y.at(line.last.value))
    places = _spread_labels([y.at(line.last.value) for line in ordered], height, y)
    return "".join(
        f'<text class="name {line.kind}" x="{x.end + 8:.1f}" y="{at:.1f}">'
        f"{markup(line.name)}</text>" + _end_value(line, (x.end + 8, at + LABEL_GAP), y)
        for line, at in zip(ordered, places, strict=True)
    )


def _end_value(line: Line, place: tuple[float, float], y: Axis) -> str:
    across, down = place
    return f'<text class="value" x="{across:.1f}" y="{down:.1f}">{_end_text(line, y)}</text>'


def _end_text(line: Line, y: Axis) -> str:
    return percent(line.last.value) if y.shares else figure(line.last.value, 2 if y.log else 3)


def _spread_labels(targets: Sequence[float], height: float, y: Axis) -> list[float]:
    """Places as near as possible to the targets, from the top, none over another."""
    places, least = [], y.end + 6
    for rank, at in enumerate(targets):
        below = len(targets) - 1 - rank  # those must still fit under it
        places.append(max(least, min(at, y.start - LABEL_GAP - height * below)))
        least = places[-1] + height
    return places


def _description(chart: Chart, lines: Sequence[Line]) -> str:
    """The chart in words, for screen readers."""
    parts = []
    for line in lines:
        first, last = line.points[0], line.last
        best = min(line.points, key=lambda p: p.value), max(line.points, key=lambda p: p.value)
        low, high = (value_text(p.value, shares=chart.shares) for p in best)
        start, end = (value_text(p.value, shares=chart.shares) for p in (first, last))
        parts.append(
            f"{line.name} from {start} at step {count(first.step)} to {end} at step "
            f"{count(last.step)}, lowest {low}, highest {high}"
        )
    return f"{chart.title}: {'; '.join(parts)}"


def _scale(axis: Axis) -> str:
    kind = "log" if axis.log else "linear"
    return f"{axis.low:.9g} {axis.high:.9g} {axis.start:.1f} {axis.end:.1f} {kind}"


def _number_list(values: Iterable[float]) -> str:
    return " ".join(f"{value:.5g}" if isfinite(value) else "" for value in values)
