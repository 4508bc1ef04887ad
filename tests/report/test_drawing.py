"""Axes, lines and confusion counts, against independent ones."""

from math import exp, isclose

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from thalweg.record import PredictionRow
from thalweg.report.axis import axis
from thalweg.report.confusion import confusion
from thalweg.report.line import MOST_POINTS, line, spread_line


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=20))
@example([5e-324])  # the smallest number above zero: half of it is zero
@example([-5e-324, 0.0])
@example([5e-324, 2e-308])
@example([1e-290, 1.0000001e-290])
@example([5e-324, 1e-5, 1e12])
@example([1.0, 1.0 + 2**-52])
@example([1e12, 1e12 * (1 + 1.1e-9)])
@example([1e308, -1e308])
def test_an_axis_holds_its_values_between_round_ticks(values):
    y = axis(values, (200.0, 10.0))
    assert all(10 - 1e-6 <= y.at(value) <= 200 + 1e-6 for value in values)
    assert all(y.low - 1e-9 * abs(y.low) <= t <= y.high + 1e-9 * abs(y.high) for t in y.ticks)
    assert 2 <= len(y.ticks) <= 8
    labels = [y.label(tick) for tick in y.ticks]
    assert len(set(labels)) == len(labels)


@given(st.lists(st.floats(-1e308, 1e308), min_size=1, max_size=20))
@example([-4611686018427387904.0])
@example([-3.0, -2.0])
@example([1e18, 7.0])
def test_an_axis_of_shares_is_within_nought_and_one(values):
    y = axis(values, (200.0, 10.0), shares=True)
    assert 0 <= y.low < y.high <= 1
    assert all(10 - 1e-6 <= y.at(value) <= 200 + 1e-6 for value in values)
    assert 2 <= len(y.ticks) <= 8


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.21, 2.3], ["0.0", "0.5", "1.0", "1.5", "2.0"]),
        ([3.0, 3.02], ["3.000", "3.005", "3.010", "3.015", "3.020"]),
        ([0.001, 1000.0], ["0.001", "0.01", "0.1", "1", "10", "100", "1,000"][::2]),
        ([1e-8, 1e-3], ["10⁻⁸", "10⁻⁷", "10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³"]),
        (
            [-4.50014e11, -4.73148e11],
            ["−4.70 × 10¹¹", "−4.65 × 10¹¹", "−4.60 × 10¹¹", "−4.55 × 10¹¹", "−4.50 × 10¹¹"],
        ),
        ([5e-324], ["−0.5", "0.0", "0.5"]),
        ([2000.0, 9000.0], ["0", "2,000", "4,000", "6,000", "8,000"]),
    ],
)
def test_ticks(values, labels):
    y = axis(values, (200.0, 10.0))
    assert [y.label(tick) for tick in y.ticks] == labels


def test_a_short_series_is_drawn_as_it_is():
    drawn = line("loss", "val", {0: 3.0, 5: 2.0, 9: float("nan"), 12: 1.0})
    assert [(p.step, p.value) for p in drawn.points] == [(0, 3.0), (5, 2.0), (12, 1.0)]
    assert drawn.broken_at == (9,)
    assert not drawn.ranged


def test_a_long_series_keeps_its_spikes_and_its_course():
    series = {step: exp(-step / 2000) for step in range(10_000)}
    series[7001] = 50.0
    drawn = line("loss", "train", series)
    assert len(drawn.points) <= MOST_POINTS
    assert max(p.high for p in drawn.points) == 50.0
    assert min(p.low for p in drawn.points) == series[9999]
    calm = [p for p in drawn.points if abs(p.step - 7001) > 600]
    assert all(abs(p.value - exp(-p.step / 2000)) < 0.02 for p in calm)
    assert all(p.low <= p.high for p in drawn.points)


def test_a_spread_is_median_and_range_over_places():
    places = {"a": {0: 1.0, 1: 5.0}, "b": {0: 2.0}, "c": {0: 9.0}}
    assert [tuple(p) for p in spread_line("x", places).points] == [(0, 2, 1, 9), (1, 5, 5, 5)]


names = st.lists(st.sampled_from("abcde"), min_size=30, max_size=30)


@given(names, names)
def test_counts_agree_with_scikit_learn(true, predicted):
    rows = [PredictionRow("val", "x", t, p, 1.0) for t, p in zip(true, predicted, strict=True)]
    matrix = confusion(rows, "abcde")
    options = {"labels": list("abcde")}
    assert matrix.counts == confusion_matrix(true, predicted, **options).tolist()
    recall = recall_score(true, predicted, average=None, zero_division=0, **options)
    precision = precision_score(true, predicted, average=None, zero_division=0, **options)
    for score, r, p in zip(matrix.scores(), recall, precision, strict=True):
        assert isclose(score.recall, r) or not score.samples
        assert isclose(score.precision, p) or score.name not in predicted
