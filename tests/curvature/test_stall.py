"""A loss that stands still for three different reasons, and what moves it again."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.curvature import stall


def ravine(scale=10.0):
    """Least squares on two features of unequal scale: λ = 2 and 2·scale²; (1, 1) solves it."""
    inputs = torch.tensor([[1.0, scale], [1.0, -scale], [-1.0, scale], [-1.0, -scale]])
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.3]]))
    return model, inputs, inputs.sum(1, keepdim=True)


def descend(model, inputs, targets, *, lr, steps, optimizer=torch.optim.SGD, **settings):
    made = optimizer(model.parameters(), lr=lr, **settings)
    losses, norms = [], []
    for _ in range(steps):
        made.zero_grad()
        loss = F.mse_loss(model(inputs), targets)
        loss.backward()
        losses.append(float(loss.detach()))
        norms.append(float(torch.cat([w.grad.flatten() for w in model.parameters()]).norm()))
        made.step()
    return made, losses, norms


def found(model, made, inputs, targets):
    return stall(model, made, loss_fn=F.mse_loss, batches=[(inputs, targets)])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_oscillation_in_a_ravine_is_no_critical_point(momentum):
    model, inputs, targets = ravine()
    edge = (2 + 2 * momentum) / 200
    made, losses, norms = descend(
        model, inputs, targets, lr=edge * 0.9999, steps=200, momentum=momentum
    )
    assert min(losses[-20:]) > 0.5 * losses[0]  # it stalls ...
    assert norms[-1] > 0.5 * norms[0]  # ... and the gradient is not small
    seen = found(model, made, inputs, targets)
    assert seen.verdict == "oscillation"
    assert seen.ratio == pytest.approx(1, abs=0.01)
    _, lower, _ = descend(model, inputs, targets, lr=edge / 8, steps=50, momentum=momentum)
    assert lower[-1] < 0.1 * losses[-1]  # what the verdict promises


def test_a_plateau_wants_larger_steps():
    model, inputs, targets = ravine()
    made, losses, norms = descend(model, inputs, targets, lr=1e-7, steps=50)
    assert losses[-1] > 0.99 * losses[0]
    assert norms[-1] > 0.99 * norms[0]
    assert found(model, made, inputs, targets).verdict == "plateau"
    _, faster, _ = descend(model, inputs, targets, lr=0.5 / 200, steps=50)
    assert faster[-1] < 0.1 * losses[-1]


def test_at_a_critical_point_the_gradient_is_gone():
    model, inputs, targets = ravine()
    targets = targets + torch.tensor([[1.0], [-1.0], [-1.0], [1.0]])  # not to be fitted: loss 1
    made, losses, norms = descend(model, inputs, targets, lr=1 / 200, steps=3000)
    assert losses[-1] == pytest.approx(1, abs=1e-4)
    assert norms[-1] < 1e-3 * norms[0]
    assert found(model, made, inputs, targets).verdict == "critical-point"


def test_adam_is_judged_in_its_own_scaling():
    model, inputs, targets = ravine()
    made, losses, _ = descend(model, inputs, targets, lr=1e-5, steps=50, optimizer=torch.optim.Adam)
    assert losses[-1] > 0.99 * losses[0]
    assert found(model, made, inputs, targets).verdict == "plateau"


def test_a_gradient_of_nothing():
    model, inputs, _ = ravine()
    made = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = found(model, made, inputs, model(inputs).detach())
    assert seen.verdict == "critical-point"
    assert seen.gain == 0
