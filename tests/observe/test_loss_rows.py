"""A reshape across the classes, before the loss: in several models, and what only looks like it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import CLASSES_CUT

CLASSES = 5


def measured(model, inputs, targets, loss_fn):
    """The share of cut classes, and the headline, after some steps."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    for _ in range(3):
        loss = loss_fn(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    headline = diagnose(watcher.history).headline
    return watcher.history.series(CLASSES_CUT), headline.rule if headline else None


class Reshaped(nn.Module):
    """A model whose forward already gives rows."""

    def __init__(self, body, reshape):
        super().__init__()
        self.body, self.reshape = body, reshape

    def forward(self, inputs):
        return self.reshape(self.body(inputs))


def pixels():
    return nn.Conv2d(1, CLASSES, 3, padding=1), torch.randn(4, 1, 6, 6), (4, 6, 6)


def steps():
    return nn.Conv1d(3, CLASSES, 3, padding=1), torch.randn(4, 3, 9), (4, 9)


@pytest.mark.parametrize("kind", [pixels, steps])
@pytest.mark.parametrize("inside", [False, True])
def test_rows_across_the_classes_are_named(kind, inside):
    torch.manual_seed(0)
    body, inputs, shape = kind()
    targets = torch.randint(CLASSES, shape).flatten()
    rows = lambda scores: scores.view(-1, CLASSES)  # noqa: E731
    model = Reshaped(body, rows) if inside else body
    loss_fn = F.cross_entropy if inside else lambda scores, y: F.cross_entropy(rows(scores), y)
    series, headline = measured(model, inputs, targets, loss_fn)
    assert set(series.values()) == {1.0}
    assert headline == "loss-mixes-classes"


SOUND = {
    "as they are": F.cross_entropy,
    "classes moved last": lambda scores, y: F.cross_entropy(
        scores.movedim(1, -1).reshape(-1, CLASSES), y.flatten()
    ),
    "flattened behind the classes": lambda scores, y: F.cross_entropy(
        scores.flatten(2), y.flatten(1)
    ),
    "one class axis of a sequence": lambda scores, y: F.cross_entropy(
        scores.transpose(1, -1).reshape(-1, CLASSES), y.transpose(1, -1).flatten()
    ),
}


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("kind", [pixels, steps])
def test_rows_of_classes_pass(name, kind):
    body, inputs, shape = kind()
    series, _ = measured(body, inputs, torch.randint(CLASSES, shape), SOUND[name])
    assert 1.0 not in series.values()


def test_a_sequence_whose_scores_end_in_the_classes_passes():
    body, inputs = nn.Linear(3, CLASSES), torch.randn(4, CLASSES, 3)  # as many steps as classes
    targets = torch.randint(CLASSES, (4, CLASSES)).flatten()
    series, _ = measured(
        body, inputs, targets, lambda scores, y: F.cross_entropy(scores.view(-1, CLASSES), y)
    )
    assert set(series.values()) == {0.0}
