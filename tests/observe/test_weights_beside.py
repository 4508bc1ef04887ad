"""Weights that no optimizer holds: left out, or trained by something else."""

import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis.rules.weights_not_in_optimizer import weights_not_in_optimizer
from thalweg.observe import watch
from thalweg.record.quantities import CHANGED_BESIDE


def train(model, optimizer, *, after_step):
    watcher = watch(model, optimizer)
    for _ in range(8):
        loss = F.cross_entropy(
            model(torch.randn(8, 4, dtype=next(model.parameters()).dtype)).float(),
            torch.arange(8) % 3,
        )
        model.zero_grad()
        loss.backward()
        after_step()
        watcher.step(loss)
    watcher.close()
    return watcher.history


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_a_model_trained_through_copies_of_higher_precision_passes():
    model = layers().bfloat16()
    masters = [weight.detach().float().clone().requires_grad_() for weight in model.parameters()]
    optimizer = torch.optim.AdamW(masters, 0.01)

    def update():
        for master, weight in zip(masters, model.parameters(), strict=True):
            master.grad = weight.grad.float()
        optimizer.step()
        with torch.no_grad():
            for master, weight in zip(masters, model.parameters(), strict=True):
                weight.copy_(master)

    history = train(model, optimizer, after_step=update)
    assert set(history.by_place(CHANGED_BESIDE)) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert weights_not_in_optimizer(history) is None


def test_an_optimizer_of_another_copy_is_named():
    model, other = layers(), layers()
    optimizer = torch.optim.SGD(other.parameters(), 0.1)
    finding = weights_not_in_optimizer(train(model, optimizer, after_step=optimizer.step))
    assert finding is not None
    assert finding.severity == "error"


def test_a_part_that_is_left_out_is_named_and_the_rest_is_not_looked_at():
    model = layers()
    optimizer = torch.optim.SGD(model[2].parameters(), 0.1)
    history = train(model, optimizer, after_step=optimizer.step)
    assert history.by_place(CHANGED_BESIDE) == {"0.weight": {7: 0.0}, "0.bias": {7: 0.0}}
    finding = weights_not_in_optimizer(history)
    assert finding is not None
    assert finding.evidence["left out"] == 2
