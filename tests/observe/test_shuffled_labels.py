"""Labels in another order than the inputs that the loader gave them with."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import ACCURACY, LABELS_SHUFFLED

CLASSES = 5


def train(change, steps=12):
    """Train on batches of new samples; `change(inputs, labels)` is what reaches model and loss."""
    torch.manual_seed(0)
    model = nn.Linear(6, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    for _ in range(steps):
        batch = torch.randn(20, 6), torch.randint(0, CLASSES, (20,))
        inputs, labels = change(*batch)
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=batch)
    return watcher.history


def permuted(one):
    return one[torch.randperm(len(one))]


def both(inputs, labels):
    order = torch.randperm(len(inputs))
    return inputs[order], labels[order]


GUILTY = {
    "labels": lambda inputs, labels: (inputs, permuted(labels)),
    "inputs": lambda inputs, labels: (permuted(inputs), labels),
    "labels by one": lambda inputs, labels: (inputs, labels.roll(1)),
}


@pytest.mark.parametrize("name", GUILTY)
def test_an_order_of_their_own_is_named(name):
    history = train(GUILTY[name])
    assert diagnose(history).headline.rule == "labels-shuffled"


@pytest.mark.parametrize("change", [lambda *batch: batch, both], ids=["as drawn", "both"])
def test_labels_that_follow_their_inputs_pass(change):
    history = train(change)
    assert set(history.series(LABELS_SHUFFLED).values()) == {0.0}
    assert "labels-shuffled" in diagnose(history).passed


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x, (y + 1) % CLASSES),
        lambda x, y: (x + 0.1 * torch.randn_like(x), permuted(y)),
    ],
    ids=["renamed labels", "changed inputs"],
)
def test_what_cannot_be_told_is_not_checked(change):
    history = train(change)
    assert "labels-shuffled" in diagnose(history).not_checked


def test_an_autoencoder_beside_labels_has_no_accuracy():
    torch.manual_seed(0)
    encoder = nn.Linear(6, 2)
    model = nn.Sequential(encoder, nn.Linear(2, 6), nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    for _ in range(4):
        inputs, labels = torch.rand(20, 6), torch.randint(0, CLASSES, (20,))
        loss = F.binary_cross_entropy(model(inputs), inputs) + 0.1 * encoder.weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=(None, labels))
    assert ACCURACY not in watcher.history
