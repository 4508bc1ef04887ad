"""Several labels a sample under one softmax are named; soft and smoothed targets are not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import TRUE_LABELS

NAME, N, K = "cross-entropy-for-many-labels", 96, 6


def multi_hot(rows=N):
    targets = (torch.rand(rows, K, generator=torch.Generator().manual_seed(1)) > 0.6).float()
    targets[:, 0] = (targets.sum(1) == 0).float()
    return targets


def one_hot():
    return F.one_hot(torch.arange(N) % K, K).float()


def run(targets, loss_fn=F.cross_entropy, width=K):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, width))
    inputs = torch.randn(N, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    watcher = watch(model, optimizer)
    for _ in range(12):
        loss = loss_fn(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    return watcher.history


FAULTY = {
    "mean": F.cross_entropy,
    "sum": lambda z, t: F.cross_entropy(z, t, reduction="sum"),
    "by hand": lambda z, t: -(t * z.log_softmax(1)).sum(1).mean(),
}
SOUND = {
    "class numbers": (lambda: one_hot().argmax(1), F.cross_entropy),
    "one-hot": (one_hot, F.cross_entropy),
    "smoothed": (one_hot, lambda z, t: F.cross_entropy(z, t, label_smoothing=0.1)),
    "soft": (lambda: torch.rand(N, K).softmax(1), F.cross_entropy),
    "multi-hot, shared out": (lambda: multi_hot() / multi_hot().sum(1, True), F.cross_entropy),
    "multi-hot, a sigmoid each": (multi_hot, F.binary_cross_entropy_with_logits),
    "weighted classes": (
        lambda: one_hot().argmax(1),
        lambda z, t: F.cross_entropy(z, t, weight=torch.tensor([1.0, 2, 3, 4, 5, 6])),
    ),
}


def findings(history):
    return {finding.rule: finding for finding in diagnose(history).findings}


@pytest.mark.parametrize("name", FAULTY)
def test_several_labels_under_one_softmax_are_named(name):
    history = run(multi_hot(), FAULTY[name])
    assert history.last(TRUE_LABELS) == pytest.approx(float(multi_hot().sum(1).mean()), rel=0.05)
    assert findings(history)[NAME].severity == "error"


@pytest.mark.parametrize("name", SOUND)
def test_other_targets_pass(name):
    targets, loss_fn = SOUND[name]
    assert NAME not in findings(run(targets(), loss_fn))
