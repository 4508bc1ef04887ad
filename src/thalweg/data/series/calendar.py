"""Places in the calendar, as sine and cosine: what is known of the time to be forecast."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from thalweg.data.series.time_grid import DAY, TimeGrid

LEAST_ROUNDS = 2  # of a period in the training part, for the network to learn it
_PERIODS = {"hour of day": DAY, "day of week": 7 * DAY, "day of year": 365.2425 * DAY}  # s
_MONDAY = 4 * DAY  # after the first of January 1970, a Thursday


def calendar_names(grid: TimeGrid, count: int) -> tuple[str, ...]:
    """The periods that so many steps go round often enough, and that have steps within them."""
    moments = grid.moments(0, 2)
    if moments is None:
        return ()
    step = float((moments[1] - moments[0]) / np.timedelta64(1, "s"))
    step = DAY if grid.kind == "weekdays" else step
    return tuple(
        name
        for name, period in _PERIODS.items()
        if 2 * step <= period and count * step >= LEAST_ROUNDS * period
    )


def calendar_features(
    grid: TimeGrid, first: int, count: int, *, names: Sequence[str]
) -> Float32[np.ndarray, "time feature"]:
    """Sine and cosine of each period at consecutive positions of the grid."""
    moments = grid.moments(first, count) if names else None
    if moments is None:
        return np.zeros((count, 0), dtype=np.float32)
    at = np.array(moments, dtype="datetime64[us]")
    seconds = at.astype(np.float64) / 1e6
    years = at.astype("datetime64[Y]").astype("datetime64[us]").astype(np.float64) / 1e6
    columns = []
    for name in names:
        since = {"day of year": seconds - years, "day of week": seconds - _MONDAY}.get(
            name, seconds
        )
        angle = 2 * np.pi * since / _PERIODS[name]
        columns += [np.sin(angle), np.cos(angle)]
    return np.stack(columns, axis=1).astype(np.float32)
