"""Series in time, in windows: the network forecasts the values after each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from thalweg.data.modality import Modality, Prepared, ReadOptions, SourceRow, StoredInputs
from thalweg.data.preprocessing import recorded_text
from thalweg.data.samples import Samples
from thalweg.data.series.divide_series import SeriesTable, divide_series
from thalweg.data.series.options import LONGEST
from thalweg.data.series.time_grid import TimeGrid, restore_grid
from thalweg.data.series.windows import (
    OneSeries,
    Roles,
    Scale,
    SeriesWindows,
    scale_of,
    window_after,
    window_name,
)
from thalweg.data.sources.series_table import read_series
from thalweg.errors import DataError, UsageError
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.forecast import forecast
from thalweg.wording import count

NAME = "series"


class SeriesEnd(NamedTuple):
    """The scale and the last values of a series, which a forecast of it begins with."""

    name: str
    scale: Scale
    end: int  # position of the grid after the last value
    values: tuple[float, ...]  # the last ones, in the series' unit; NaN where one is missing


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SeriesPreprocessing:
    """The columns, the grid of time, the windows, and the scale and the end of each series."""

    modality: ClassVar[str] = NAME
    lags: int
    horizon: int
    season: int
    calendar: tuple[str, ...]
    grid: TimeGrid
    roles: Roles
    ends: tuple[SeriesEnd, ...]

    def __repr__(self) -> str:
        return recorded_text(self.to_dict())

    def to_inputs(self, raw: Mapping[str, Tensor]) -> Float32[Tensor, "n input"]:
        """The scaled lags and the place in the calendar."""
        return raw["inputs"]

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON; null for a missing value of a series."""
        ends = [
            [one.name, *one.scale, one.end, [None if v != v else v for v in one.values]]
            for one in self.ends
        ]
        return {
            "kind": NAME,
            "lags": self.lags,
            "horizon": self.horizon,
            "season": self.season,
            "calendar": list(self.calendar),
            "grid": asdict(self.grid),
            "roles": [list(names) for names in self.roles],
            "ends": ends,
        }


def restore(values: Mapping[str, Any]) -> SeriesPreprocessing:
    """The inverse of `SeriesPreprocessing.to_dict`. Raises ValueError for impossible values."""
    sizes = {name: int(values[name]) for name in ("lags", "horizon", "season")}
    if not all(0 < size <= LONGEST for size in sizes.values()):
        raise ValueError(f"windows of {sizes}")
    ends = []
    for name, location, scale, end, tail in values["ends"]:
        numbers = tuple(float("nan") if value is None else float(value) for value in tail)
        if not float(scale) > 0 or len(numbers) > sizes["lags"]:
            raise ValueError(f"no series: {str(name)[:60]}")
        ends.append(SeriesEnd(str(name), Scale(float(location), float(scale)), int(end), numbers))
    return SeriesPreprocessing(
        **sizes,
        calendar=tuple(map(str, values["calendar"])),
        grid=restore_grid(values["grid"]),
        roles=Roles(*(tuple(map(str, names)) for names in values["roles"])),
        ends=tuple(ends),
    )


def read(samples: Samples, options: ReadOptions) -> StoredInputs:
    """The windows as they are, each with a digest of all values and of its place among them."""
    windows: SeriesWindows = samples.inputs
    digest = blake2b(windows.future.tobytes(), digest_size=8)
    digest.update(repr(windows.scales).encode())
    whole = np.frombuffer(digest.digest(), dtype=np.uint8)
    digests = np.empty((len(windows), 16), dtype=np.uint8)
    digests[:, :8] = whole
    digests[:, 8:] = windows.starts.astype("<i8")[:, None].view(np.uint8)
    good = np.ones(len(windows), dtype=bool)
    return StoredInputs(rows=windows, digests=digests, good=good)


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """The windows, and the end of each series."""
    windows: SeriesWindows = stored.rows
    preprocessing = SeriesPreprocessing(
        lags=windows.lags,
        horizon=windows.horizon,
        season=windows.season,
        calendar=windows.calendar,
        grid=windows.grid,
        roles=windows.roles,
        ends=tuple(
            _end_of(one, scale, windows.lags)
            for one, scale in zip(windows.series, windows.scales, strict=True)
            if len(one.values) >= windows.lags
        ),
    )
    return Prepared(windows, preprocessing)


def _end_of(one: OneSeries, scale: Scale, lags: int) -> SeriesEnd:
    return SeriesEnd(one.name, scale, one.end, tuple(one.values[-lags:].tolist()))


def gather(windows: SeriesWindows, rows: np.ndarray) -> dict[str, Tensor]:
    """The inputs and the targets of windows."""
    return {name: torch.from_numpy(part) for name, part in windows.at(rows).items()}


def collate(samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
    """Windows one after the other."""
    return {
        name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
        for name in ("inputs", "targets")
    }


def facts(prepared: Prepared) -> Mapping[str, Any]:
    """The lengths of a window and of the season, and the number of series."""
    windows: SeriesWindows = prepared.rows
    return {
        "input_shape": (windows.num_inputs,),
        "lags": windows.lags,
        "horizon": windows.horizon,
        "season": windows.season,
        "series": len(windows.series),
        "interval": windows.grid.noun,
    }


def implied_keys(facts: DataFacts) -> Mapping[str, object]:
    """The lengths of the recipe's windows."""
    return {"data.lags": facts.lags, "data.horizon": facts.horizon, "data.season": facts.season}


def read_source(preprocessing: SeriesPreprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    """The end of each series in a file of the same columns. Raises DataError for another one."""
    if isinstance(source, bytes):
        raise UsageError(
            "the model takes tables, not bytes", seen=f"{len(source)} bytes", fix="name a CSV"
        )
    scales = {one.name: one.scale for one in preprocessing.ends}
    for one in read_series(source, preprocessing.roles, preprocessing.grid):
        scale = scales.get(one.name) or scale_of(one.values, preprocessing.season)
        yield end_row(preprocessing, _end_of(one, scale, preprocessing.lags))


def ends_of_training(preprocessing: SeriesPreprocessing) -> Iterator[SourceRow]:
    """The end of each series of the training. Raises DataError where there is none."""
    if not preprocessing.ends:
        raise DataError("no series is long enough to be forecast", fix="name a file of longer ones")
    for one in preprocessing.ends:
        yield end_row(preprocessing, one)


def end_row(preprocessing: SeriesPreprocessing, one: SeriesEnd) -> SourceRow:
    """The window after the end of a series."""
    horizon, grid = preprocessing.horizon, preprocessing.grid
    name = window_name(one.name, grid, one.end, horizon=horizon)
    if len(one.values) < preprocessing.lags:
        length = count(len(one.values), "value")
        return SourceRow(name, None, f"{length}, fewer than the {preprocessing.lags:,} lags")
    values = np.array(one.values, dtype=np.float64)
    series = OneSeries(name=one.name, begin=one.end - len(values), values=values)
    inputs, unit = window_after(
        series,
        one.scale,
        grid,
        lags=preprocessing.lags,
        season=preprocessing.season,
        calendar=preprocessing.calendar,
    )
    targets = np.full(horizon + 2, np.nan)  # float64: a large value has a small error
    targets[-2:] = unit
    steps = tuple(grid.text(one.end + step) for step in range(horizon))
    return SourceRow(name, {"inputs": inputs, "targets": targets}, steps=steps)


def in_units(raw: Mapping[str, Tensor], decoded: Tensor) -> Tensor:
    """Decoded quantiles in the unit of each series."""
    location, scale = raw["targets"][:, -2].double(), raw["targets"][:, -1].double()
    return decoded.double() * scale[:, None, None] + location[:, None, None]


def _takes(inputs: object) -> bool:
    return isinstance(inputs, SeriesTable | SeriesWindows)


SERIES = Modality(
    name=NAME,
    noun="window",
    feeds=frozenset({"numbers", "series"}),
    takes=_takes,
    divide=lambda samples, options, holdout: divide_series(samples, options.series, holdout),
    read=read,
    prepare=prepare,
    gather=gather,
    collate=collate,
    input_shape=lambda row: row["inputs"].shape,
    restore=restore,
    read_source=read_source,
    recipe=forecast,
    size=lambda facts: f"{count(facts.lags, facts.interval)}",
    describe=lambda facts: {
        "Series": count(facts.series),
        "Past": count(facts.lags, facts.interval),
        "Forecast": count(facts.horizon, facts.interval),
        "Season": f"{facts.season:,}" if facts.season > 1 else "none",
    },
    facts=facts,
    own_targets=lambda raw: raw["targets"],
    horizon=lambda preprocessing: preprocessing.horizon,
    in_units=in_units,
    implied_keys=implied_keys,
)
