"""What is a series and what a table, and what strangers' files of series hold."""

import numpy as np
import pytest

from thalweg.data.series.divide_series import SeriesTable
from thalweg.data.series.options import SeriesOptions
from thalweg.data.sources import samples_at
from thalweg.errors import DataError, UnknownNameError

DAYS = [f"{day}" for day in np.datetime64("2021-01-01") + np.arange(60)]
ROWS = range(60)


@pytest.fixture
def write(tmp_path):
    def write(header, rows, name="data.csv"):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def series_of(path, **options):
    samples = samples_at(path, target=options.pop("target", ""), series=SeriesOptions(**options))
    assert isinstance(samples.inputs, SeriesTable)
    return samples


SERIES = {  # beyond doubt, without a word: header, rows, names of the series
    "a date and a value": ("date,sales", [f"{d},{n % 7}" for n, d in enumerate(DAYS)], ["sales"]),
    "row numbers beside": (
        ",time,gas",
        [f"{n + 1},{1960 + n / 4:.2f},{n % 4}" for n in ROWS],
        ["gas"],
    ),
    "year and month": (
        "Year,Month,Sales",
        [f"{2000 + n // 12},{n % 12 + 1},{n % 5}" for n in ROWS],
        ["Sales"],
    ),
    "the latest first": ("date,y", [f"{d},{n}" for n, d in enumerate(reversed(DAYS))], ["y"]),
    "long": (
        "unique_id,ds,y",
        [f"{name},{d},{n % 7}" for name in ("a", "b") for n, d in enumerate(DAYS)],
        ["a", "b"],
    ),
    "German": (
        "Datum;Umsatz",
        [f"{d[8:]}.{d[5:7]}.{d[:4]};1.{n:03},50" for n, d in enumerate(DAYS)],
        ["Umsatz"],
    ),
}


@pytest.mark.parametrize("name", SERIES)
def test_a_series_beyond_doubt_is_one_without_a_word(write, name):
    header, rows, names = SERIES[name]
    samples = series_of(write(header, rows))
    assert [one.name for one in samples.inputs.series] == names
    assert all(len(one.values) == 60 for one in samples.inputs.series)
    assert any("--data.time none reads it as a table" in note for note in samples.notes)


TABLES = {
    "a date among features": ("date,rain,cars", [f"{d},{n % 3},{n}" for n, d in enumerate(DAYS)]),
    "events": ("date,amount", [f"{d},{n}" for n, d in enumerate(DAYS * 2)]),
    "irregular dates": ("date,price", [f"{DAYS[n * n % 60]},{n}" for n in range(30)]),
    "years of cars": ("year,price", [f"{1990 + n * n % 29},{n}" for n in ROWS]),
    "x and y": ("x,y", [f"{n},{n * n}" for n in ROWS]),
    "a class": ("date,weather", [f"{d},{'sun' if n % 2 else 'rain'}" for n, d in enumerate(DAYS)]),
    "few rows": ("date,y", [f"{d},{n}" for n, d in enumerate(DAYS[:8])]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_stays_a_table(write, name):
    samples = samples_at(write(*TABLES[name]))
    assert isinstance(samples.inputs, np.ndarray)


def test_a_series_is_read_as_a_table_where_the_user_says_so(write):
    path = write(*SERIES["a date and a value"][:2])
    samples = samples_at(path, series=SeriesOptions(time="none"))
    assert isinstance(samples.inputs, np.ndarray)


def test_a_wide_table_has_a_series_for_each_column_of_numbers(write):
    path = write("date,a,b,kind", [f"{d},{n},{2 * n},x" for n, d in enumerate(DAYS)])
    assert [one.name for one in series_of(path, time="date").inputs.series] == ["a", "b"]
    samples = series_of(path, time="date", target="b")
    assert samples.inputs.series[0].values.tolist() == [2.0 * n for n in ROWS]
    assert any(
        "columns that are not forecast are left out: 'a', 'kind'" in n for n in samples.notes
    )


def test_two_columns_of_numbers_name_a_series_together(write):
    rows = [f"{d},{s},{i},{n}" for s in (1, 2) for i in (7, 8) for n, d in enumerate(DAYS)]
    samples = series_of(write("date,store,item,sales", rows), horizon=7)
    assert [one.name for one in samples.inputs.series] == ["1 · 7", "1 · 8", "2 · 7", "2 · 8"]


def test_rows_out_of_order_are_sorted_and_said(write):
    rows = [f"{d},{n}" for n, d in enumerate(DAYS)]
    samples = series_of(write("date,y", [*rows[30:], *rows[:30]]))
    assert samples.inputs.series[0].values.tolist() == list(map(float, ROWS))
    assert any("1 row stood after a later time: sorted by time" in note for note in samples.notes)


def test_copies_are_left_out_and_contradictions_refused(write):
    rows = [f"{d},{n}" for n, d in enumerate(DAYS)]
    samples = series_of(write("date,y", [*rows, rows[5]]))
    assert any("1 row repeat" in note for note in samples.notes)
    with pytest.raises(DataError, match="two values for the same time") as caught:
        series_of(write("date,y", [*rows, f"{DAYS[5]},99"]))
    assert "'2021-01-06' in rows 7 and 62: 5 and 99" in caught.value.seen


def test_missing_rows_and_cells_are_gaps(write):
    rows = [f"{d},{'' if n == 9 else n}" for n, d in enumerate(DAYS) if n not in (20, 21)]
    values = series_of(write("date,y", rows)).inputs.series[0].values
    assert np.flatnonzero(np.isnan(values)).tolist() == [9, 20, 21]
    assert len(values) == 60


@pytest.mark.parametrize(
    ("header", "rows", "options", "problem", "seen"),
    [
        (
            "date,y",
            [f"{DAYS[n * n % 60]},{n}" for n in range(8)],
            {"time": "date"},
            "not equally spaced",
            "intervals from",
        ),
        ("a,b", [f"x{n},{n}" for n in ROWS], {"horizon": 3}, "no column of time", "'a', 'b'"),
        ("date,y", [f"{d},x{d}" for d in DAYS], {"horizon": 3}, "no column of numbers", "'y'"),
        (
            "date,y",
            [f"{d if n != 7 else 'soon'},{n}" for n, d in enumerate(DAYS)],
            {"time": "date"},
            "no time stamps of one form",
            "'soon' in row 9",
        ),
    ],
    ids=["irregular", "no time", "no numbers", "a word"],
)
def test_what_is_no_series_is_refused_where_one_is_asked_for(
    write, header, rows, options, problem, seen
):
    with pytest.raises(DataError, match=problem) as caught:
        series_of(write(header, rows), **options)
    assert seen in caught.value.seen
    assert caught.value.fix


def test_an_unknown_column_is_refused_with_the_nearest(write):
    with pytest.raises(UnknownNameError, match="dat"):
        series_of(write(*SERIES["a date and a value"][:2]), time="dat")
