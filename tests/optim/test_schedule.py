from math import cos, pi

import pytest
import torch
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
        ("quarter_cosine", 0.0, {0: 1, 0.5: 0.5**0.5, 2 / 3: 0.5, 1: 0}),
        ("one_cycle", 0.3, {0: 0.04, 0.15: 0.52, 0.3: 1, 0.65: 0.500002, 1: 4e-6}),
        ("warmup_stable_decay", 0.1, {0: 0, 0.05: 0.5, 0.1: 1, 0.8: 1, 0.85: 0.5, 1: 0}),
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


def torchs_factors(scheduler_type, steps, **settings):
    """PyTorch's own schedule of a peak of 1, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = scheduler_type(optimizer, **settings)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


def test_half_cosine_is_pytorchs_and_the_quarter_is_another():
    """A note maps the epochs to (0, π/2), a quarter of a period."""
    found = torchs_factors(torch.optim.lr_scheduler.CosineAnnealingLR, 21, T_max=20)
    half, quarter = SCHEDULES["cosine"](0.0), SCHEDULES["quarter_cosine"](0.0)
    assert [half(step / 20) for step in range(21)] == pytest.approx(found)
    assert [quarter(step / 20) for step in range(21)] == pytest.approx(
        [cos(pi / 2 * step / 20) for step in range(21)]
    )
    assert quarter(0.5) - half(0.5) == pytest.approx(0.2071, abs=1e-4)


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_one_cycle_is_pytorchs():
    """PyTorch's first phase ends at step 0.3 · total − 1."""
    total = 51
    found = torchs_factors(
        torch.optim.lr_scheduler.OneCycleLR, total - 1, max_lr=1.0, total_steps=total
    )
    factor = SCHEDULES["one_cycle"]((0.3 * total - 1) / (total - 1))
    assert [factor(step / (total - 1)) for step in range(total - 1)] == pytest.approx(found)


def test_warmup_and_linear_decay_are_pytorchs():
    found = torchs_factors(
        torch.optim.lr_scheduler.LinearLR, 11, start_factor=1.0, end_factor=0.0, total_iters=10
    )
    linear = SCHEDULES["warmup_linear"](0.0)
    assert [linear(step / 10) for step in range(11)] == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "warmup", "settings", "expected"),
    [
        ("warmup_linear", 0.0, {"floor": 0.1}, {0: 1, 0.5: 0.55, 1: 0.1}),
        ("cosine", 0.0, {"floor": 0.2}, {0: 1, 0.5: 0.6, 1: 0.2}),
        (
            "step",
            0.0,
            {"factor": 0.5, "first": 0.2, "every": 0.4},
            {0.1: 1, 0.3: 0.5, 0.7: 0.25, 1: 0.25},
        ),
        ("one_cycle", 0.5, {"start": 0.1, "end": 0.01}, {0: 0.1, 0.25: 0.55, 0.5: 1, 1: 0.01}),
        ("warmup_stable_decay", 0.0, {"decay": 0.5}, {0.4: 1, 0.625: 0.5, 1: 0}),
    ],
)
def test_settings_change_the_corners(name, warmup, settings, expected):
    factor = SCHEDULES[name](warmup, **settings)
    assert {at: factor(float(at)) for at in expected} == pytest.approx(expected, abs=1e-12)


def test_a_step_every_k_epochs_is_pytorchs():
    """Ten epochs, ×0.3 after every third."""
    settings = {"factor": 0.3, "first": 0.3, "every": 0.3}
    factor = SCHEDULES["step"](0.0, **settings)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.3)
    for epoch in range(10):
        assert factor((epoch + 0.5) / 10) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
