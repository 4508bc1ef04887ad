"""The section on a regression's errors: predicted against true, residuals, worst samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from thalweg.report.axis import Axis, axis
from thalweg.report.facts import SPLITS, Facts
from thalweg.report.tag import section, table
from thalweg.wording import count, figure, markup

MOST_DOTS = 2000  # drawn, evenly chosen from more
WORST = 12
WIDTH, HEIGHT = 460, 340


class _Sample(NamedTuple):
    name: str
    target: float
    predicted: float

    @property
    def residual(self) -> float:
        return self.predicted - self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scatter:
    key: str
    title: str
    x_name: str
    points: Sequence[tuple[float, float]]
    diagonal: bool


def regression_section(facts: Facts) -> str:
    """Both scatters and the worst samples of the test or validation split; "" without any."""
    samples = [s for s in map(_sample, facts.predictions) if isfinite(s.residual)]
    if not samples:
        return ""
    drawn = samples[:: max(1, -(-len(samples) // MOST_DOTS))]
    against = _Scatter(
        key="against",
        title="Predicted against true",
        x_name="true",
        points=[(s.target, s.predicted) for s in drawn],
        diagonal=True,
    )
    residuals = _Scatter(
        key="residuals",
        title="Residual, predicted − true",
        x_name="predicted",
        points=[(s.predicted, s.residual) for s in drawn],
        diagonal=False,
    )
    worst = sorted(samples, key=lambda s: -abs(s.residual))[:WORST]
    rows = [[s.name, figure(s.target), figure(s.predicted), figure(s.residual)] for s in worst]
    header = ["sample", "true", "predicted", "residual"]
    body = (
        f"<p>{count(len(samples))} {SPLITS[facts.split]} samples"
        f"{', ' + count(len(drawn)) + ' drawn' if len(drawn) < len(samples) else ''}.</p>"
        f'<div class="charts">{_scatter(against)}{_scatter(residuals)}</div>'
        f"<h3>The worst samples</h3>{table(header, rows, caption='The worst samples')}"
    )
    return section("errors", "Where it errs", body)


def _sample(row: tuple[str, str, str, str, float, bytes | None]) -> _Sample:
    try:
        return _Sample(row[1], float(row[2]), float(row[3]))
    except ValueError:
        return _Sample(row[1], float("nan"), float("nan"))


def _scatter(plot: _Scatter) -> str:
    x_values, y_values = zip(*plot.points, strict=True)
    x, y = _axes(plot, x_values, y_values)
    # a path of dots: a move and a line of no length each, drawn by the round end of its stroke
    dots = "".join(f"M{x.at(a):.1f} {y.at(b):.1f}h0" for a, b in plot.points)
    if plot.diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        ideal = f"M{x.at(low):.1f} {y.at(low):.1f}L{x.at(high):.1f} {y.at(high):.1f}"
    else:
        ideal = f"M{x.start:.1f} {y.at(0):.1f}H{x.end:.1f}"
    description = f"{plot.title}: {count(len(plot.points))} samples"
    return (
        f'<figure class="chart"><figcaption><b>{markup(plot.title)}</b></figcaption>'
        f'<svg id="{plot.key}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{markup(description)}">{_grid(plot, x, y)}<path class="level" d="{ideal}"/>'
        f'<path class="dots" d="{dots}"/></svg></figure>'
    )


def _axes(
    plot: _Scatter, x_values: Sequence[float], y_values: Sequence[float]
) -> tuple[Axis, Axis]:
    """Both axes linear; equal ones where the diagonal is the ideal."""
    both = [*x_values, *y_values]
    tall = both if plot.diagonal else [*y_values, 0.0]
    wide = both if plot.diagonal else list(x_values)
    y = axis(tall, (HEIGHT - 38, 10), linear=True)
    return axis(wide, (y.label_width, WIDTH - 14), linear=True), y


def _grid(plot: _Scatter, x: Axis, y: Axis) -> str:
    parts = []
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(f'<path class="grid" d="M{x.start:.1f} {at:.1f}H{x.end:.1f}"/>')
        parts.append(
            f'<text class="end" x="{x.start - 7:.1f}" y="{at + 4:.1f}">{y.label(tick)}</text>'
        )
    for tick in x.ticks:
        at = x.at(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {y.start:.1f}V{y.end:.1f}"/>')
        parts.append(
            f'<text class="mid" x="{at:.1f}" y="{y.start + 17:.1f}">{x.label(tick)}</text>'
        )
    parts.append(
        f'<text class="end" x="{x.end:.1f}" y="{y.start + 33:.1f}">{markup(plot.x_name)}</text>'
    )
    return "".join(parts)
