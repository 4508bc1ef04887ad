"""Losses that cannot be negative, and those that may."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch

CLASSES = 4


def soft():
    return torch.rand(12, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1)


def ctc(blank_is_a_symbol):
    def loss_fn(scores):
        steps = scores.reshape(3, 4, CLASSES).transpose(0, 1).log_softmax(-1)
        steps = steps if not blank_is_a_symbol else steps + 1.5  # no probabilities
        targets = torch.tensor([[1, 2], [2, 3], [3, 1]])
        return F.ctc_loss(steps, targets, torch.full((3,), 4), torch.full((3,), 2))

    return loss_fn


FAULTY = {
    "binary targets beyond 1": lambda s: F.binary_cross_entropy_with_logits(s + 3, 3 * soft() + 1),
    "a likelihood of scores": lambda s: F.nll_loss(s + 5, torch.arange(12) % CLASSES),
    "steps that are no log-probabilities": ctc(True),
}
SOUND = {
    "a divergence": lambda s: F.kl_div(s.log_softmax(1), soft(), reduction="batchmean"),
    "cross-entropy": lambda s: F.cross_entropy(s, torch.arange(12) % CLASSES),
    "a sequence": ctc(False),
    "a player that wants a high loss": lambda s: -F.binary_cross_entropy_with_logits(s, soft()),
    "a bonus for entropy": lambda s: (
        F.cross_entropy(s, torch.arange(12) % CLASSES)
        + 9 * (s.softmax(1) * s.log_softmax(1)).sum(1).mean()
    ),
    "a density": lambda s: -torch.distributions.Normal(0.0, 0.01).log_prob(0.001 * s).mean(),
}


def named(loss_fn):
    torch.manual_seed(0)
    model = nn.Linear(6, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for _ in range(4):
        loss = loss_fn(model(torch.randn(12, 6)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    return [one.rule for one in diagnose(watcher.history).causes]


@pytest.mark.parametrize("name", FAULTY)
def test_a_loss_below_zero_is_impossible(name):
    assert "impossible-loss" in named(FAULTY[name])


@pytest.mark.parametrize("name", SOUND)
def test_other_losses_pass(name):
    assert "impossible-loss" not in named(SOUND[name])
