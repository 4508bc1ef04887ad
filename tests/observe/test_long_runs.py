"""A run of any length: memory and the time of a diagnosis are bounded, and the ends are exact."""

import sys
from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.diagnosis import diagnose
from thalweg.diagnosis.evidence import curve, largest_movement
from thalweg.diagnosis.rules.exploding_gradients import _leaps
from thalweg.record import History
from thalweg.record import history as history_module
from thalweg.record import series as series_module
from thalweg.record.quantities import ACCURACY, CHANCE_LOSS, LOSS, UPDATE_RATIO
from thalweg.record.series import CompactSeries

LONG = 16_000
MOST, SUM = 4096, 2**13  # points of a series, and of all: as the limits, but soon reached


@pytest.fixture(autouse=True, scope="module")
def early_limits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_module, "MOST_POINTS", MOST)
        patch.setattr(history_module, "MOST_IN_ALL", SUM)
        patch.setattr(series_module, "SEGMENT", 64)
        yield


def noisy_losses(count=LONG):
    rng = np.random.default_rng(0)
    return 1 / (1 + np.arange(count) / count) + 0.05 * rng.standard_normal(count)


def history_of(losses):
    history = History()
    for step, loss in enumerate(losses):
        history.add(LOSS, step, {"": loss})
    return history


@pytest.fixture(scope="module")
def long_history():
    losses = noisy_losses()
    losses[[777, 10_001, 6_457]] = 9.0, -5.0, nan
    return history_of(losses.tolist())


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(width=32, allow_nan=False)), max_size=60))
def test_a_short_series_is_a_dict_in_the_order_of_steps(points):
    series, expected = CompactSeries(), {}
    for step, number in points:
        series.add(step, number)
        expected[step] = number
    assert series == expected
    assert list(series.items()) == sorted(expected.items())
    assert (list(series), list(series.values())) == (sorted(expected), [*dict(series).values()])
    assert series.get(41) is None
    assert len(series) == len(expected) == series.count


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 7.5, -3.0, nan, inf]), min_size=1, max_size=900),
    st.integers(8, 200),
)
def test_a_thinned_series_is_bounded_and_keeps_the_ends(numbers, most):
    series = CompactSeries(most)
    for step, number in enumerate(numbers):
        series.add(step, number)
        assert len(series) <= most + 1
    assert series.count == len(numbers)
    assert next(iter(series)) == 0
    assert next(reversed(series)) == len(numbers) - 1
    assert all(repr(numbers[step]) == repr(number) for step, number in series.items())


def test_extremes_and_the_step_of_a_nan_outlive_every_thinning(long_history):
    series = long_history.series(LOSS)
    assert (series[777], series[10_001]) == (9.0, -5.0)
    assert isnan(series[6_457])
    assert len(series) <= MOST + 1


def test_points_of_a_thinned_series_are_evenly_spaced():
    history = history_of(noisy_losses().tolist())
    series = history.series(LOSS)
    quarters = np.histogram(list(series), bins=4, range=(0, LONG))[0]
    assert quarters.min() > 0.9 * quarters.max()
    losses = noisy_losses()
    for share in (0.1, 0.5):
        thinned = curve(history, LOSS).tail(share)
        assert thinned.mean() == pytest.approx(losses[-int(LONG * share) :].mean(), abs=5e-3)
        assert thinned.std() == pytest.approx(losses[-int(LONG * share) :].std(), rel=0.2)


def test_rules_count_the_steps_that_were_made(long_history):
    assert long_history.count(LOSS) == LONG
    assert curve(long_history, LOSS).num_steps == pytest.approx(LONG, rel=0.1)
    long_history.add(UPDATE_RATIO, 0, {"w": 1e-6})
    assert largest_movement(long_history) == pytest.approx(LONG * 1e-6, rel=0.1)


def test_every_value_reaches_the_sink():
    received = []
    history = History(sink=lambda _, step, values: received.append((step, values[""])))
    for step in range(5_000):
        history.add(LOSS, step, {"": 1.0})
    assert len(received) == 5_000
    assert len(history.series(LOSS)) <= MOST + 1


def test_many_long_series_share_one_budget():
    history = History()
    for step in range(1000):
        history.add(ACCURACY, step, {str(i): float(step) for i in range(30)})
    every = history.by_place(ACCURACY).values()
    assert sum(map(len, every)) <= SUM * 1.3
    assert history.count(ACCURACY, "7") == 1000
    assert {(one[0], one[999]) for one in every} == {(0.0, 999.0)}


def test_a_long_series_takes_16_bytes_a_point(long_history):
    series = long_history.series(LOSS)
    size = sys.getsizeof(series.step_array) + sys.getsizeof(series.value_array)
    assert size < 20 * len(series) + 1000


def test_a_long_sound_run_has_no_findings_and_a_broken_one_says_where():
    history = history_of(noisy_losses().tolist())
    history.add(CHANCE_LOSS, 0, {"": 1.1})
    assert diagnose(history).headline is None
    broken = history_of([*noisy_losses().tolist(), *[nan] * 500])
    headline = diagnose(broken).headline
    assert headline is not None
    assert headline.rule == "loss-not-finite"
    assert f"{LONG:,}" in headline.summary or str(LONG) in headline.summary


def test_leaps_are_those_of_a_plain_loop():
    def plain(losses, spike, floor):
        count, last = 0, -10
        for i in range(20, len(losses)):
            window = losses[i - 20 : i]
            usual = float(np.median(window))
            robust = 1.4826 * float(np.median(np.abs(window - usual)))
            after = losses[i + 1 : i + 11]
            lasting = len(after) > 4 and float(np.median(after)) > 1.5 * usual
            high = losses[i] > max(spike * usual, usual + 8 * robust, floor)
            if high and lasting and i - last >= 10:
                count, last = count + 1, i
        return count

    rng = np.random.default_rng(0)
    for length in (3, 20, 21, 400):
        losses = np.abs(rng.standard_cauchy(length)) + 0.1
        losses[length // 2 :] *= 4
        for spike in (1.2, 2.0):
            assert _leaps(losses, spike, 0.3) == plain(losses, spike, 0.3)
