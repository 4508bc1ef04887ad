"""The learning-rate range test."""

from itertools import cycle, repeat
from math import isnan

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.data import Batch
from thalweg.training.lr_range import lr_range, running_average, suggested_lr


def bowl(curvature):
    """½ · curvature · w²: gradient descent diverges above 2 / curvature."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    batch = Batch(torch.full((1, 1), curvature**0.5), torch.zeros(1, 1))
    return model, [batch] * 100, lambda outputs, targets: (outputs - targets).square().mean() / 2


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr=lr)


@pytest.mark.parametrize("curvature", [0.5, 10.0, 200.0])
def test_the_suggestion_scales_with_the_steepness(curvature):
    model, (batch, *_), loss_fn = bowl(curvature)
    noisy = cycle([batch, Batch(batch.inputs, batch.targets + 0.5)])  # no batch is quite the mean
    found = lr_range(model, noisy, loss_fn, optimizer=sgd, high=100.0)
    assert 0.02 / curvature < found.suggestion < 2 / curvature
    assert len(found.losses) < 100  # it broke, and the test ended there


def test_nothing_of_the_run_is_disturbed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = Batch(torch.randn(16, 4), torch.arange(16) % 3)
    state = torch.get_rng_state()
    lr_range(model, repeat(batch), F.cross_entropy, optimizer=sgd, steps=20)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(weight.grad is None for weight in model.parameters())


def test_rates_rise_by_a_constant_factor_and_losses_are_those_of_a_loop():
    model, batches, loss_fn = bowl(1.0)
    found = lr_range(model, iter(batches), loss_fn, optimizer=sgd, low=1e-4, high=0.1, steps=30)
    ratios = [b / a for a, b in zip(found.lrs, found.lrs[1:], strict=False)]
    assert ratios == pytest.approx([1000 ** (1 / 30)] * 29)
    weight, expected = 1.0, []
    for rate in found.lrs:
        expected.append(weight**2 / 2)
        weight -= rate * weight
    assert found.losses == pytest.approx(expected, rel=1e-4)


def test_smoothing_keeps_a_constant_and_an_unfallen_loss_suggests_nothing():
    assert running_average((2.0, 2.0, 2.0)) == pytest.approx((2, 2, 2))
    assert isnan(suggested_lr((0.1, 1.0), (1.0, 2.0)))
    assert isnan(suggested_lr((), ()))
