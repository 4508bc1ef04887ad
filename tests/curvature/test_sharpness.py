from typing import Any

import numpy as np
import pytest
import torch
from curvature import subjects
from torch import nn
from torch.nn import functional as F

from thalweg.curvature import (
    Surface,
    adam_threshold,
    edge_of_stability,
    sgd_threshold,
    sharpness,
    worst_case,
)
from thalweg.errors import UsageError


class Bowl(nn.Module):
    """Loss ½ Σ hᵢwᵢ²: the Hessian is diag(h), everywhere."""

    def __init__(self, curvatures):
        super().__init__()
        self.h = torch.tensor(curvatures, dtype=torch.float64)
        self.w = nn.Parameter(torch.ones_like(self.h))

    def forward(self, _):
        return (self.h * self.w**2).sum() / 2


def bowl_loss(outputs, _):
    return outputs


EMPTY = [(torch.zeros(1), torch.zeros(1))]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("off", "diverges"), [(0.98, False), (1.02, True)])
def test_the_threshold_is_where_sgd_begins_to_diverge(momentum, nesterov, off, diverges):
    """Torch's own SGD on a bowl whose curvature is just below or above the threshold."""
    if nesterov and not momentum:
        pytest.skip("torch has no such SGD")
    curvature = off * sgd_threshold(0.1, momentum=momentum, nesterov=nesterov)
    model = Bowl([curvature])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, nesterov=nesterov)
    found = edge_of_stability(model, optimizer, loss_fn=bowl_loss, batches=EMPTY)
    assert found.ratio == pytest.approx(off, rel=1e-6)
    for _ in range(600):
        optimizer.zero_grad()
        model(None).backward()
        optimizer.step()
    assert (float(model.w.detach().abs()) > 1.01) == diverges


def test_adam_is_measured_in_its_own_scaling():
    model = Bowl([1.0, 10.0, 100.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=0.0)
    with pytest.raises(UsageError, match="no state yet"):
        edge_of_stability(model, optimizer, loss_fn=bowl_loss, batches=EMPTY)
    model(None).backward()
    optimizer.step()
    found = edge_of_stability(model, optimizer, loss_fn=bowl_loss, batches=EMPTY)
    assert found.threshold == pytest.approx(38 / 1e-3)
    assert found.threshold == adam_threshold(1e-3, 0.9)
    # after one step √v̂ = |g| = h·1, so P = (1 − β₁)·h and every preconditioned curvature is 10
    assert found.sharpness == pytest.approx(10, rel=1e-6)


def test_groups_with_their_own_lr_and_coupled_decay():
    model: Any = Bowl([4.0, 1.0])
    other = nn.Parameter(torch.ones(1, dtype=torch.float64))
    model.register_parameter("other", other)
    groups = [{"params": [model.w], "lr": 0.1}, {"params": [other], "lr": 0.4}]
    optimizer = torch.optim.SGD(groups, weight_decay=0.5)

    def loss_fn(outputs, _):
        return outputs + 3 * model.other.square().sum() / 2

    found = edge_of_stability(model, optimizer, loss_fn=loss_fn, batches=EMPTY)
    assert found.sharpness == pytest.approx(3 * 4 + 0.5, rel=1e-6)  # 3 at four times the lr


def test_an_optimizer_without_a_known_threshold_is_named():
    model = Bowl([1.0])
    optimizer = torch.optim.Rprop(model.parameters())
    with pytest.raises(UsageError, match="Rprop"):
        edge_of_stability(model, optimizer, loss_fn=bowl_loss, batches=EMPTY)


def test_warm_started_sharpness():
    model, inputs, targets = subjects.built(subjects.convolutional)
    cold = sharpness(model, F.cross_entropy, [(inputs, targets)], tolerance=1e-4)
    warm = sharpness(model, F.cross_entropy, [(inputs, targets)], start=cold.vector, tolerance=1e-4)
    model.train()
    truth = float(torch.linalg.eigvalsh(subjects.written_out(model, [(inputs, targets)]))[-1])
    assert cold.value == pytest.approx(truth, rel=1e-4)
    assert warm.value == pytest.approx(truth, rel=1e-4)
    assert warm.products < cold.products


def test_the_worst_case_on_a_bowl_at_its_bottom():
    """½λmaxρ²; relative to the weights nothing can change where they are zero."""
    model = Bowl([1.0, 10.0])
    with torch.no_grad():
        model.w.zero_()
    with Surface(model, bowl_loss, EMPTY) as surface:
        assert worst_case(surface, radius=0.2).rise == pytest.approx(0.5 * 10 * 0.04, rel=1e-6)
        assert worst_case(surface, radius=0.2, adaptive=True).rise == 0


def test_adaptive_sharpness_does_not_change_when_layers_trade_scale():
    torch.manual_seed(0)
    first, last = nn.Linear(4, 8, bias=False), nn.Linear(8, 1, bias=False)
    model = nn.Sequential(first, nn.ReLU(), last).double()
    batch = (torch.randn(32, 4).double(), torch.randn(32, 1).double())
    rises = {}
    for scale in (1.0, 5.0):
        with torch.no_grad():
            first.weight.mul_(scale)
            last.weight.div_(scale)
        with Surface(model, F.mse_loss, [batch]) as surface:
            for adaptive in (False, True):
                found = worst_case(surface, adaptive=adaptive)
                rises.setdefault(adaptive, []).append(found.rise)
    assert rises[True][1] == pytest.approx(rises[True][0], rel=0.02)
    assert rises[False][1] > 3 * rises[False][0]


def test_no_ascent_in_the_ball_was_missed():
    model, inputs, targets = subjects.built(subjects.mlp)
    with Surface(model, F.cross_entropy, [(inputs, targets)]) as surface:
        found = worst_case(surface, radius=0.3)
        point, generator = surface.point, torch.Generator().manual_seed(0)
        rises = []
        for _ in range(300):
            d = torch.randn(surface.size, generator=generator, dtype=torch.float64)
            rises.append(surface.loss_at(point + 0.3 * d / d.norm()) - found.loss)
    assert found.rise >= np.max(rises)
