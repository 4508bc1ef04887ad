"""Two passes of one step that a loss compares: the same view twice is named, others are not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch

RULE = "identical-passes"
SAMPLES = 12


def mlp(dropout=0.0):
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4))


def conv():
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 4)
    )


def normalised():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def finding(loss_fn, model, steps=8):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    watcher = watch(model, optimizer, diagnose=diagnose)
    for _ in range(steps):
        loss = loss_fn(model, torch.randn(SAMPLES, 6))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    return next((f for f in watcher.diagnose().findings if f.rule == RULE), None)


def noisy(inputs):
    return inputs + 0.3 * torch.randn_like(inputs)


def nt_xent(a, b):
    both = F.normalize(torch.cat([a, b]), dim=1)
    scores = (both @ both.T / 0.2).masked_fill(torch.eye(len(both), dtype=torch.bool), -1e9)
    return F.cross_entropy(scores, torch.arange(len(both)).roll(len(a)))


def info_nce(a, b):
    scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    return F.cross_entropy(scores / 0.2, torch.arange(len(a)))


def variance_and_agreement(a, b):
    return F.mse_loss(a, b) + F.relu(1 - a.std(0)).mean() + F.relu(1 - b.std(0)).mean()


def divergence(a, b):
    agreement = F.kl_div(a.log_softmax(1), b.softmax(1), reduction="batchmean")
    targets = torch.zeros(len(a), dtype=torch.long)
    return F.cross_entropy(a, targets) + F.cross_entropy(b, targets) + agreement


def contrastive(a, b):
    distance = (a - b).pow(2).sum(1).add(1e-6).sqrt()
    return F.relu(0.5 - distance).square().mean() + distance.mean()


COMPARISONS = [nt_xent, info_nce, variance_and_agreement, divergence, contrastive]


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("build", [mlp, conv])
def test_the_same_view_twice_is_named(compare, build):
    def loss_fn(model, inputs):
        view = noisy(inputs)
        return compare(model(view), model(view))

    result = finding(loss_fn, build())
    assert result is not None
    assert result.severity == "error"


def test_batch_norm_in_training_gives_the_same_outputs_too():
    assert finding(lambda model, x: nt_xent(model(x), model(x)), normalised()) is not None


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("build", [mlp, normalised])
def test_two_views_pass(compare, build):
    loss_fn = lambda model, x: compare(model(noisy(x)), model(noisy(x)))  # noqa: E731
    assert finding(loss_fn, build()) is None


def two_losses(model, inputs):
    targets = torch.zeros(SAMPLES, dtype=torch.long)
    return F.cross_entropy(model(inputs), targets) + model(inputs).square().mean()


def losses_of_samples(model, inputs):
    entropies = F.cross_entropy(model(inputs), torch.zeros(SAMPLES).long(), reduction="none")
    return (entropies - model(inputs).square().sum(1)).mean()


def entropy_of_two_calls(model, inputs):
    return (model(inputs).softmax(1) * model(inputs).log_softmax(1)).sum(1).mean()


def detached_target(model, inputs):
    with torch.no_grad():
        target = model(inputs)
    return F.mse_loss(model(noisy(inputs)), target)


def accumulated(model, inputs):
    F.mse_loss(model(inputs), inputs[:, :4]).backward()
    return F.mse_loss(model(inputs), inputs[:, :4])


def rolled_out(model, inputs):
    first = model(inputs)
    second = model(torch.cat([first, inputs[:, :2]], 1))
    return F.mse_loss(torch.stack([first, second]), torch.zeros(2, SAMPLES, 4))


def triplets(model, inputs):
    anchor, positive, negative = model(inputs), model(noisy(inputs)), model(inputs.flip(0))
    return F.triplet_margin_loss(anchor, positive, negative)


SOUND = [
    two_losses, losses_of_samples, entropy_of_two_calls, detached_target, accumulated, rolled_out,
    triplets,
]  # fmt: skip


@pytest.mark.parametrize("loss_fn", SOUND)
def test_passes_that_are_not_the_same_view_compared_pass(loss_fn):
    assert finding(loss_fn, mlp()) is None


def test_dropout_as_the_only_difference_passes():
    assert finding(lambda model, x: divergence(model(x), model(x)), mlp(dropout=0.5)) is None


def test_a_constant_model_passes():
    model = mlp()
    nn.init.zeros_(model[-1].weight)
    model[-1].weight.requires_grad_(False)
    assert finding(lambda net, x: nt_xent(net(noisy(x)), net(noisy(x))), model) is None
