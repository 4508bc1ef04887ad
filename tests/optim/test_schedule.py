import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import UsageError
from thalweg.optim import SCHEDULES

shares = st.floats(0, 0.99)
progress = st.floats(0, 1)


@pytest.mark.parametrize("name", SCHEDULES)
@given(warmup=shares, at=progress)
def test_factors_stay_within_zero_and_one(name, warmup, at):
    assert 0 <= SCHEDULES[name](warmup)(at) <= 1


@pytest.mark.parametrize("name", SCHEDULES)
@given(warmup=shares, at=st.tuples(progress, progress))
def test_no_schedule_rises_after_its_warmup(name, warmup, at):
    factor = SCHEDULES[name](warmup)
    early, late = sorted(max(point, warmup) for point in at)
    assert factor(late) <= factor(early)


@pytest.mark.parametrize(
    ("name", "warmup", "expected"),
    [
        ("constant", 0.0, {0: 1, 0.5: 1, 1: 1}),
        ("constant", 0.2, {0: 0, 0.1: 0.5, 0.2: 1, 1: 1}),
        ("warmup_linear", 0.0, {0: 1, 0.25: 0.75, 1: 0}),
        ("warmup_linear", 0.2, {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0}),
        ("cosine", 0.0, {0: 1, 0.5: 0.5, 1: 0}),
        ("cosine", 0.2, {0: 0, 0.2: 1, 0.4: 0.5 + 0.5 * 0.5**0.5, 0.6: 0.5, 1: 0}),
        ("step", 0.0, {0: 1, 0.49: 1, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 1: 0.01}),
        ("step", 0.1, {0: 0, 0.05: 0.5, 0.1: 1, 0.5: 0.1, 1: 0.01}),
    ],
)
def test_values_at_the_ends_and_the_corners(name, warmup, expected):
    factor = SCHEDULES[name](warmup)
    assert {at: factor(float(at)) for at in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("warmup", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warmup_that_is_no_share_is_refused(name, warmup):
    with pytest.raises(UsageError, match="share of the training"):
        SCHEDULES[name](warmup)
