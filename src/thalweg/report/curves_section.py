"""The section of learning curves: one chart for each group of series."""

from collections.abc import Mapping
from math import isfinite

from thalweg.record import Quantity, Series
from thalweg.record.quantities import (
    ACCURACY,
    CHANCE_LOSS,
    GRADIENT_NORM,
    LEARNING_RATE,
    LOSS,
    NUM_CLASSES,
    UPDATE_RATIO,
    VAL_ACCURACY,
    VAL_LOSS,
    VAL_MAE,
    VAL_R2,
)
from thalweg.report.chart import Chart, Mark, line_chart, value_text
from thalweg.report.facts import Facts
from thalweg.report.line import Line, line, plain_line, spread_line
from thalweg.report.selection import selected_step, selection_text, stages, stages_text
from thalweg.report.tag import section, table
from thalweg.wording import NARROW, count, figure, markup

FROM_ZERO = 1e6  # times its norm: no update of a weight that is not zero moves it so far
MOST_ROWS = 40  # validations in the table under the curves; of more, evenly spaced ones
MOST_EVENTS = 4  # marked; the latest of more
MARKS = {"loss-not-finite": "not a number", "interrupted": "interrupted", "resumed": "resumed"}


def curves_section(facts: Facts) -> str:
    """Loss and metrics large; learning rate, gradients and updates small; the values as a table.

    "" for a run without updates: a chart of one point shows less than the figure.
    """
    if facts.has_no_updates:
        return ""
    large = "".join(filter(None, [_loss(facts), *_metrics(facts)]))
    small = "".join(filter(None, [_learning_rate(facts), *_weights(facts)]))
    if not large and not small:
        return ""
    body = _explanation(facts)
    body += f'<div class="charts">{large}</div>' if large else ""
    body += f'<div class="charts small">{small}</div>' if small else ""
    return section("curves", "How it learned", body + _values(facts))


def _explanation(facts: Facts) -> str:
    """The saved weights and the sizes of the images, in sentences; "" where neither is known."""
    saved, sizes = selection_text(facts), stages_text(facts)
    parts = [f"Saved: {saved}."] * bool(saved) + [f"Training images: {sizes}."] * bool(sizes)
    return f'<p class="soft">{markup(" ".join(parts))}</p>' if parts else ""


def _loss(facts: Facts) -> str:
    history = facts.history
    unit = LOSS.unit if facts.answers in ("classes", "labels", "tokens", "sequences") else ""
    chance = history.series(CHANCE_LOSS)
    level = ("chance", history.last(CHANCE_LOSS)) if chance else ("", 0.0)
    chart = Chart(
        key="loss",
        title="Loss",
        unit=unit,
        epoch_steps=facts.epoch_steps,
        until=_until(facts),
        level=level,
        marks=_marks(facts),
    )
    return line_chart(chart, _pair(facts, LOSS, VAL_LOSS))


def _metrics(facts: Facts) -> list[str]:
    steps = facts.epoch_steps
    classes = facts.history.last(NUM_CLASSES) if NUM_CLASSES in facts.history else 0
    level = ("chance", 1 / classes) if classes >= 1 else ("", 0.0)
    accuracy = Chart(
        key="accuracy",
        title="Accuracy",
        shares=True,
        epoch_steps=steps,
        until=_until(facts),
        level=level,
        marks=_best_mark(facts),
    )
    charts = [line_chart(accuracy, _pair(facts, ACCURACY, VAL_ACCURACY))]
    for quantity, title in ((VAL_R2, "R²"), (VAL_MAE, "Mean absolute error")):
        unit = "in the target’s unit" if quantity is VAL_MAE else ""
        chart = Chart(
            key=quantity.name,
            title=title,
            unit=unit,
            epoch_steps=steps,
            until=_until(facts),
            marks=_best_mark(facts),
        )
        charts.append(line_chart(chart, [_validation(facts, quantity)]))
    return charts


def _learning_rate(facts: Facts) -> str:
    places = facts.history.by_place(LEARNING_RATE)
    rates = {tuple(series.items()): series for series in places.values()}
    lines = [plain_line("learning rate", "other", series) for series in rates.values()]
    if len(lines) > 1:
        lines = [spread_line("median", places)]
    return line_chart(_small(facts, "learning_rate", "Learning rate"), lines)


def _weights(facts: Facts) -> list[str]:
    """Charts of gradient norm and update ratio: median and range over the weights."""
    charts = []
    for quantity, title, unit in (
        (GRADIENT_NORM, "Gradient norm", "median and range"),
        (UPDATE_RATIO, "Update ratio", "‖Δw‖ / ‖w‖"),
    ):
        places = facts.history.by_place(quantity)
        if quantity is UPDATE_RATIO:
            places = _without_first_of_zero(places)
        lines = [spread_line("median", places)]
        charts.append(line_chart(_small(facts, quantity.name, title, unit=unit), lines))
    return charts


def _without_first_of_zero(places: Mapping[str, Series]) -> dict[str, Series]:
    """The ratios without those of weights that were zero: there the norm divides by nearly 0."""
    return {
        place: {step: ratio for step, ratio in series.items() if not ratio > FROM_ZERO}
        for place, series in places.items()
    }


def _small(facts: Facts, key: str, title: str, *, unit: str = "") -> Chart:
    return Chart(
        key=key,
        title=title,
        unit=unit,
        epoch_steps=facts.epoch_steps,
        until=_until(facts),
        width=340,
        height=200,
    )


def _until(facts: Facts) -> int:
    return max(facts.history.series(LOSS), default=0)


def _pair(facts: Facts, train: Quantity, val: Quantity) -> list[Line]:
    return [line("training", "train", facts.history.series(train)), _validation(facts, val)]


def _validation(facts: Facts, quantity: Quantity) -> Line:
    return line("validation", "val", facts.history.series(quantity))


def _marks(facts: Facts) -> list[Mark]:
    """Events, the stages of progressive resizing, and the saved weights."""
    marks = [Mark(event.step, MARKS[event.kind]) for event in facts.events if event.kind in MARKS]
    broken = [step for step, loss in facts.history.series(LOSS).items() if not isfinite(loss)]
    if broken and not any(mark.text == MARKS["loss-not-finite"] for mark in marks):
        marks.append(Mark(min(broken), MARKS["loss-not-finite"]))
    events = [mark for mark in marks if mark.step >= 0][-MOST_EVENTS:]
    sizes = [Mark(step, f"{side}{NARROW}px", "stage") for step, side in stages(facts)]
    return [*events, *sizes, *_best_mark(facts)]


def _best_mark(facts: Facts) -> list[Mark]:
    step = selected_step(facts)
    return [Mark(step, "saved", "best")] if step >= 0 else []


def _values(facts: Facts) -> str:
    """A collapsed table of every validation."""
    history = facts.history
    columns = [
        (name, quantity, quantity is VAL_ACCURACY)
        for name, quantity in (
            ("validation loss", VAL_LOSS),
            ("validation accuracy", VAL_ACCURACY),
            ("validation R²", VAL_R2),
            ("mean absolute error", VAL_MAE),
        )
        if quantity in history
    ]
    steps = sorted({step for _, quantity, _ in columns for step in history.series(quantity)})
    if not steps:
        return ""
    every = -(-len(steps) // MOST_ROWS)
    table_steps = sorted({*steps[::every], steps[-1]})
    rows = [
        [
            _epoch(facts, step),
            *(
                value_text(series[step], shares=shares) if step in series else "–"
                for series, shares in ((history.series(q), s) for _, q, s in columns)
            ),
        ]
        for step in table_steps
    ]
    first = "epoch" if facts.epoch_steps else "step"
    body = table([first, *(name for name, _, _ in columns)], rows, caption="Each validation")
    return f"<details><summary>The validations in figures</summary>{body}</details>"


def _epoch(facts: Facts, step: int) -> str:
    if not facts.epoch_steps:
        return count(step)
    epoch = (step + 1) / facts.epoch_steps
    return count(epoch) if epoch == int(epoch) else figure(epoch)
