"""Forecast the steps beyond the end of each series with a trained run."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from thalweg.data.modalities.series import SeriesPreprocessing, ends_of_training
from thalweg.data.modalities.series import read_source as read_series_file
from thalweg.data.modality import SourceRow
from thalweg.errors import DataError, UsageError
from thalweg.inference.saved_model import PREDICTION_BATCH, SavedModel
from thalweg.tasks.forecast import MEDIAN


class Forecast(NamedTuple):
    """The next steps of a series, in its unit: the median, and the band of 80 %."""

    series: str
    times: tuple[str, ...]  # written as the training file writes them
    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]


def forecast_series(model: SavedModel, source: Path | None = None) -> list[Forecast]:
    """The steps after the end of each series that the model was trained on, or of a file's series.

    Raises: UsageError for a model that forecasts no series; DataError for a file of other columns,
    or whose series are shorter than the windows.
    """
    preprocessing = model.spec.preprocessing
    if not isinstance(preprocessing, SeriesPreprocessing):
        raise UsageError(
            "this run forecasts no series",
            seen=f"a model of {model.spec.modality.noun}s",
            fix="thalweg predict RUN FILE, or a run that was trained on series",
        )
    if source is None:
        return forecasts(model, ends_of_training(preprocessing))
    rows = list(read_series_file(preprocessing, source))
    if not any(row.raw for row in rows):
        raise DataError(
            f"no series in {source} is long enough",
            seen=f"{rows[0].name.partition(',')[0]}: {rows[0].error}",
            fix="a file with more of the past",
        )
    return forecasts(model, rows)


def forecasts(model: SavedModel, rows: Iterable[SourceRow]) -> list[Forecast]:
    """The forecasts after the windows of some rows; rows that cannot be forecast are left out."""
    usable = [row for row in rows if row.raw is not None]
    results: list[Forecast] = []
    for start in range(0, len(usable), PREDICTION_BATCH):
        part = usable[start : start + PREDICTION_BATCH]
        decoded = model.decode_raw([row.raw for row in part])
        for row, quantiles in zip(part, decoded, strict=True):
            columns = quantiles.double().unbind(1)
            low, median, high = (columns[place].tolist() for place in (0, MEDIAN, -1))
            times = tuple(row.steps)
            name = row.name.removesuffix(_suffix(times))
            results.append(Forecast(name, times, tuple(low), tuple(median), tuple(high)))
    return results


def _suffix(times: tuple[str, ...]) -> str:
    return f", {times[0]} to {times[-1]}" if len(times) > 1 else f", {times[0]}"
