"""Weights behind round, sign or floor are named; estimators that let gradient through pass."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch

RULE = "gradient-rounded-away"


class Net(nn.Module):
    """A first layer and a head, with a function between them and one on the first's weights."""

    def __init__(self, between=torch.tanh, of_weight=None, kind="mlp"):
        super().__init__()
        conv = kind == "conv"
        self.first = nn.Conv1d(1, 6, 3, padding=1) if conv else nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)
        self.between, self.of_weight, self.kind = between, of_weight, kind

    def forward(self, inputs):
        weight = self.first.weight if self.of_weight is None else self.of_weight(self.first.weight)
        if self.kind == "conv":
            hidden = F.conv1d(inputs[:, None], weight, self.first.bias, padding=1).mean(2)
        else:
            hidden = F.linear(inputs, weight, self.first.bias)
        return self.head(self.between(hidden))


def finding(model, *, loss_fn=F.cross_entropy, extra=None):
    torch.manual_seed(0)
    inputs, targets = torch.randn(16, 5), torch.randint(3, (16,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer, diagnose=diagnose)
    for _ in range(8):
        optimizer.zero_grad()
        if extra is not None:
            extra(model, inputs).backward()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    return next((f for f in watcher.diagnose().findings if f.rule == RULE), None)


def quantised(weight):
    return (weight * 8).round() / 8


def floored(weight):
    return torch.div(weight, 0.1, rounding_mode="floor") * 0.1


FAULTY: dict[str, dict[str, Any]] = {
    "rounded activations": {"between": lambda h: (4 * h).round() / 4},
    "signs of activations": {"between": torch.sign},
    "spikes": {"between": lambda h: h.sigmoid().ceil()},
    "rounded weights": {"of_weight": quantised},
    "binary weights": {"of_weight": torch.sign},
    "divided with rounding": {"of_weight": floored},
}


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", FAULTY)
def test_weights_behind_a_step_are_named(name, kind):
    result = finding(Net(**FAULTY[name], kind=kind))
    assert result is not None
    assert result.severity == "error"
    assert result.where == "first.weight"


class SurrogateSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return (inputs > 0).float()

    @staticmethod
    def backward(ctx, gradient):
        (inputs,) = ctx.saved_tensors
        return gradient / (1 + inputs.abs()) ** 2


def straight_through(x):
    return x + (x.round() - x).detach()


SOUND: dict[str, dict[str, Any]] = {
    "plain": {},
    "straight through": {"between": straight_through, "of_weight": straight_through},
    "surrogate spikes": {"between": SurrogateSpike.apply},
    "rounded beside the values": {"between": lambda h: h.tanh() + 0.1 * h.round()},
    "fractional part": {"between": lambda h: h - h.floor()},
    "sign and size": {"between": lambda h: h.sign() * h.abs().sqrt()},
    "rounded without gradient": {"between": lambda h: h * h.detach().round().clamp(1, 2)},
}


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", SOUND)
def test_gradient_that_has_another_way_passes(name, kind):
    assert finding(Net(**SOUND[name], kind=kind)) is None


def test_weights_that_another_loss_trains_pass():
    other = lambda net, inputs: net.first.weight.square().sum() + net.first.bias.square().sum()  # noqa: E731
    assert finding(Net(between=torch.sign), extra=other) is None


def test_a_zero_initialised_head_passes():
    model = Net()
    nn.init.zeros_(model.head.weight)
    assert finding(model) is None


def test_frozen_weights_behind_a_step_pass():
    model = Net(between=torch.sign)
    model.first.requires_grad_(False)
    assert finding(model) is None
