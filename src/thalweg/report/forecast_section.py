"""The section on a forecast: the picture, simple forecasts beside it, bands, lags, each series."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from thalweg.report.facts import Facts
from thalweg.report.forecast_picture import forecast_picture
from thalweg.report.tag import section, table
from thalweg.wording import count, figure, markup, percent

INTENDED = 0.8  # of the values, that a band is to hold
MOST_STEPS = 12  # in the table of steps; of more, evenly spaced ones


def forecast_section(facts: Facts) -> str:
    """All that a run of series recorded beside its scores; "" before its end."""
    outcome = facts.meta.get("forecast")
    if not outcome:
        return ""
    pictures = [
        forecast_picture(picture, key=f"forecast-{number}")
        for number, picture in enumerate(outcome["picture"])
    ]
    body = "".join(pictures) + f"<p>{markup(bands_text(facts))}</p>"
    body += _scores(facts) + _steps(outcome) + _ladder(outcome) + _series(outcome)
    return section("errors", "What it forecasts", body)


def score_rows(facts: Facts) -> list[list[str]]:
    """(forecast, MASE, mean absolute error, RMSE, sMAPE) on the validation windows, best first."""
    outcome = facts.meta.get("forecast") or {}
    return [
        [
            str(row["name"]),
            *(_figure(row[name]) for name in ("mase", "mae", "rmse")),
            percent(_number(row["smape"])),
        ]
        for row in outcome.get("scores", ())
    ]


def bands_text(facts: Facts) -> str:
    """The share of the validation values within the band, in sentences; "" where unknown."""
    bands = (facts.meta.get("forecast") or {}).get("bands")
    if not bands:
        return ""
    trained, held = (_number(bands[name]) for name in ("trained", "held"))
    text = f"The band is to hold {percent(INTENDED, 0)} of the values"
    if not isfinite(trained):
        return f"{text}."
    if not isfinite(held):
        return f"{text}; it held {percent(trained, 0)} of those of validation, too few to widen it."
    change = "widened" if bands["factor"] >= 1 else "narrowed"
    return (
        f"{text}. As trained it held {percent(trained, 0)} of those of validation. It is {change} "
        f"to {figure(bands['factor'])} ×: by one half of them, it holds {percent(held, 0)} of the "
        "other."
    )


def trees_note(facts: Facts) -> str:
    """The reason why no trees were compared; "" where they were."""
    trees = (facts.meta.get("forecast") or {}).get("trees") or {}
    return f"Gradient-boosted trees on lags: {trees['reason']}." if trees.get("reason") else ""


def ladder_rows(facts: Facts) -> list[tuple[str, str, str]]:
    """(lags, training, validation): errors one step ahead of linear models."""
    ladder = (facts.meta.get("forecast") or {}).get("ladder") or {}
    return [
        (count(rung["lags"], "lag"), _figure(rung["train"]), _figure(rung["val"]))
        for rung in ladder.get("rungs", ())
    ]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _figure(value: Any) -> str:
    number = _number(value)
    return figure(number) if isfinite(number) else "–"


def _scores(facts: Facts) -> str:
    caption = "Validation error beside simple forecasts"
    header = ["forecast", "MASE", "mean absolute error", "RMSE", "sMAPE"]
    windows = count((facts.meta.get("forecast") or {}).get("windows", 0), "window")
    text = (
        f"On the same {windows}. MASE 1 is the error of the seasonal naive forecast in training. "
        f"{trees_note(facts)}"
    )
    return (
        f"<h3>{caption}</h3><p>{markup(text.strip())}</p>"
        f"{table(header, score_rows(facts), caption=caption)}"
    )


def _steps(outcome: Mapping[str, Any]) -> str:
    """MASE by how far ahead."""
    by_name: Mapping[str, Sequence[Any]] = outcome["steps"]
    horizon = max(map(len, by_name.values()))
    if horizon < 2:
        return ""
    every = -(-horizon // MOST_STEPS)
    chosen = sorted({*range(0, horizon, every), horizon - 1})
    rows = [
        [f"{step + 1}", *(_figure(errors[step]) for errors in by_name.values())] for step in chosen
    ]
    caption = "MASE by steps ahead"
    listing = table(["step", *map(str, by_name)], rows, caption=caption)
    return f"<details><summary>{caption}</summary>{listing}</details>"


def _ladder(outcome: Mapping[str, Any]) -> str:
    ladder = outcome.get("ladder") or {}
    rows = [
        [count(rung["lags"], "lag"), _figure(rung["train"]), _figure(rung["val"])]
        for rung in ladder.get("rungs", ())
    ]
    if not rows:
        return ""
    rows.append(["this network", "–", _figure(ladder["network"])])
    unit = "in errors of the seasonal naive forecast" if ladder["is_scaled"] else "in the unit"
    caption = "Linear models of ever more lags, one step ahead"
    text = (
        f"Root mean squared error {unit}. More of the past fits the training part better; the "
        "validation part says how much of it helps."
    )
    header = ["model", "training", "validation"]
    return f"<h3>{caption}</h3><p>{markup(text)}</p>{table(header, rows, caption=caption)}"


def _series(outcome: Mapping[str, Any]) -> str:
    rows = [
        [str(row["name"]), _figure(row["mase"]), _figure(row["rival"]), _figure(row["mae"])]
        for row in outcome.get("series", ())
    ]
    if not rows:
        return ""
    caption = "Each series"
    header = ["series", "MASE", str(outcome["rival"]), "mean absolute error"]
    return f"<h3>{caption}</h3>{table(header, rows, caption=caption)}"
