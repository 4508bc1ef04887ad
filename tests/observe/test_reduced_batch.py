"""A sum over the batch inside a loss, and those that belong there."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis.rules.batch_summed_inside_loss import batch_summed_inside_loss
from thalweg.observe import watch

B, D = 8, 5


def run(loss_of, *, batch=B):
    torch.manual_seed(0)
    model = nn.Embedding(20, D)
    watcher = watch(model, torch.optim.SGD(model.parameters(), 0.1))
    for _ in range(3):
        user, item = model(torch.randint(0, 20, (batch,))), torch.randn(batch, D)
        loss = loss_of(user, item)
        model.zero_grad()
        loss.backward()
        watcher.step(loss)
    watcher.close()
    return batch_summed_inside_loss(watcher.history)


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda u, i: -F.logsigmoid(torch.sum(u * i)).mean(),
        lambda u, i: -F.logsigmoid((u * i).sum(1).sum()),
        lambda u, i: F.softplus(-(u * i).sum(1).mean()),
        lambda u, i: -torch.log(torch.sigmoid((u * i).sum())) + 0.01 * u.square().mean(),
    ],
)
def test_a_sum_over_the_batch_inside_a_sigmoid_is_named(loss_of):
    assert run(loss_of).severity == "error"


@pytest.mark.parametrize(
    ("loss_of", "batch"),
    [
        (lambda u, i: -F.logsigmoid((u * i).sum(1)).mean(), B),
        (lambda u, i: F.binary_cross_entropy_with_logits((u * i).sum(1), torch.ones(B)), B),
        (lambda u, i: -F.logsigmoid((u * i).sum()), 1),  # a batch of one
        (lambda u, i: (u - i).square().mean().sqrt(), B),
        (lambda u, i: torch.log((u * i).sum(1).exp().mean()), B),
        (lambda u, i: -F.logsigmoid((u * i).sum(0)).mean(), B),
    ],
)
def test_other_reductions_pass(loss_of, batch):
    assert run(loss_of, batch=batch) is None
