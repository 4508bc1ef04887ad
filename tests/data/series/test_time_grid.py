"""Time stamps as people write them lie on an equally spaced grid."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest

from thalweg.data.series.time_grid import find_grid, restore_grid

DAYS = [date(2020, 1, 1) + timedelta(days=n) for n in range(40)]
MONTHS = [date(2019 + n // 12, n % 12 + 1, 1) for n in range(30)]
GERMAN = ["Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September"]
GERMAN += ["Oktober", "November", "Dezember"]

CASES = {  # name → stamps, interval, the stamp after the last one
    "iso": ([day.isoformat() for day in DAYS], "day", "2020-02-10"),
    "german": ([f"{day:%d.%m.%Y}" for day in DAYS], "day", "10.02.2020"),
    "american": ([f"{day:%m/%d/%Y}" for day in DAYS], "day", "02/10/2020"),
    "months, day first": ([f"{day:%d/%m/%Y}" for day in MONTHS], "month", "01/07/2021"),
    "months": ([f"{day:%Y-%m}" for day in MONTHS], "month", "2021-07"),
    "months by name": ([f"{day:%b %Y}" for day in MONTHS], "month", "Jul 2021"),
    "German months": ([f"{GERMAN[d.month - 1]} {d.year}" for d in MONTHS], "month", "July 2021"),
    "quarters": ([f"{2000 + n // 4}Q{n % 4 + 1}" for n in range(20)], "quarter", "2005Q1"),
    "years": ([str(1950 + n) for n in range(20)], "year", "1970"),
    "decimal years": ([f"{1949 + n / 12:.4f}" for n in range(30)], "month", "1951.5"),
    "digits": ([f"{day:%Y%m%d}" for day in DAYS], "day", "20200210"),
    "steps": ([str(n) for n in range(5, 30)], "1", "30"),
    "tenths": ([f"{n / 10:.1f}" for n in range(30)], "0.1", "3"),
    "epoch": ([str(1_600_000_200 + 900 * n) for n in range(30)], "15 minutes", "1600027200"),
    "hours": (
        [(datetime(2020, 1, 1) + timedelta(hours=n)).isoformat(" ") for n in range(30)],
        "hour",
        "2020-01-02 06:00:00",
    ),
    "jitter": (
        [f"{datetime(2020, 1, 1) + timedelta(minutes=5 * n, seconds=n % 7)}" for n in range(30)],
        "5 minutes",
        "2020-01-01 02:30:00",
    ),
    "weekdays": ([d.isoformat() for d in DAYS if d.weekday() < 5], "weekday", "2020-02-10"),
    "month ends": (
        [f"{np.datetime64(f'{d:%Y-%m}') + 1 - np.timedelta64(1, 'D')}" for d in MONTHS],
        "month",
        "2021-07-31",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_stamps_are_read_and_written_alike(name):
    stamps, interval, after = CASES[name]
    grid = find_grid(stamps)
    assert grid is not None
    assert grid.interval == interval
    assert restore_grid(grid.to_dict()) == grid
    assert grid.text(len(stamps)) == after
    if name not in ("German months", "jitter", "decimal years", "tenths", "hours"):
        assert grid.text(0) == stamps[0]


@pytest.mark.parametrize(
    "stamps",
    [
        ["2020-01-01", "2020-01-03", "2020-02-20", "2020-03-01", "2021-05-01", "2021-05-02"],
        ["red", "green", "blue", "black", "white"],
        ["1", "4", "9", "16", "25", "36", "49"],
        ["2020-01-01"] * 9,
        ["12:30", "13:30", "14:30", "15:30", "16:30"],
    ],
    ids=["irregular", "words", "squares", "one time", "times of day"],
)
def test_what_is_not_equally_spaced_has_no_grid(stamps):
    assert find_grid(stamps) is None


def test_stamps_of_several_series_are_spaced_within_each():
    stamps = [day.isoformat() for day in DAYS[:10]] * 2
    assert find_grid(stamps, groups=["a"] * 10 + ["b"] * 10).interval == "day"
