"""Options of reading a table as series, and of dividing them into windows."""

from typing import NamedTuple

from thalweg.errors import UsageError

NO_TIME = "none"  # as the time column: the table is no series
LONGEST = 10_000  # steps of a horizon, a season or a window


class SeriesOptions(NamedTuple):
    """The user's options of series; "" and 0 are chosen from the data."""

    time: str = ""  # column of time stamps, or columns such as "year,month"
    series: str = ""  # column that names the series of a row, or several
    horizon: int = 0  # steps to forecast
    lags: int = 0  # past steps that the network sees
    season: int = 0  # steps after which the series repeats; 1: none
    is_forecast: bool = False  # the task is named

    @property
    def is_asked(self) -> bool:
        """Return whether the user wants a forecast, whatever the file looks like."""
        return self.time != NO_TIME and self != SeriesOptions()

    def check(self) -> None:
        """Raise UsageError for impossible values."""
        for name in ("horizon", "lags", "season"):
            value = getattr(self, name)
            if value > LONGEST:
                raise UsageError(
                    f"data.{name} cannot be {value:,}", fix=f"1 to {LONGEST:,}, or 0: chosen"
                )
        others = self._replace(time="") != SeriesOptions()
        if self.time == NO_TIME and others:
            names = [n for n in ("series", "horizon", "lags", "season") if getattr(self, n)]
            raise UsageError(
                "a table without time has no forecast",
                seen=f"data.time = none, {', '.join(f'data.{n}' for n in names) or 'a forecast'}",
                fix="data.time = the column of time stamps, or leave the others out",
            )
