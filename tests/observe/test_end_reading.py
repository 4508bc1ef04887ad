"""The look at a model when training is over: in the user's precision, no pass made twice."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg.observe import watch
from thalweg.record.quantities import EVAL_MODE_LOSS, INSTRUMENT_FAILED
from thalweg.tasks.regression import regression

PASSES = []  # (samples, training, type of the products), of the model and its copies


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, inputs):
        logits = self.layers(inputs)
        PASSES.append((len(inputs), self.training, logits.dtype))
        return logits


def loader(seed):
    chance = torch.Generator().manual_seed(seed)
    inputs = torch.randn(192, 6, generator=chance)
    return DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), batch_size=32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_each_sample_is_asked_once_a_mode_and_in_the_loops_precision(dtype):
    torch.manual_seed(0)
    model, train = Net(), loader(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer, loss_fn=F.cross_entropy, train=train, val=loader(1))
    for inputs, targets in train:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    PASSES.clear()
    watcher.close()
    assert {seen[2] for seen in PASSES} == {dtype}
    asked = sum(count for count, training, _ in PASSES if not training)
    assert asked == 2 * 128 + 5 * 5  # of either split; and five passes of five changed samples
    assert sum(count for count, training, _ in PASSES if training) == 128
    assert watcher.history.by_place(EVAL_MODE_LOSS)


@pytest.mark.parametrize("validates", [True, False])
def test_a_training_that_ends_with_small_images_is_asked_at_the_size_of_validation(validates):
    """Progressive resizing: that the model takes larger images is known once it was given some."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    images, targets = torch.randn(192, 3, 12, 12), torch.arange(192) % 2
    whole = DataLoader(TensorDataset(images, targets), batch_size=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer, loss_fn=F.cross_entropy, train=whole, val=whole)
    for inputs, wanted in whole:
        loss = F.cross_entropy(model(inputs[:, :, ::2, ::2]), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    if validates:
        with torch.no_grad():
            model(images)
    watcher.close()
    assert bool(watcher.history.by_place(EVAL_MODE_LOSS)) == validates


def test_a_loss_that_squeezes_its_outputs_itself_is_evaluated():
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    inputs = torch.randn(64, 6)
    train = [(part, part.sum(1)) for part in inputs.split(16)]
    loss_fn = regression(target_mean=0.0, target_std=2.0).loss_fn
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watcher = watch(model, optimizer, loss_fn=loss_fn, train=train)
    for part, targets in train:
        loss = loss_fn(model(part), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    assert INSTRUMENT_FAILED not in watcher.history
    with torch.no_grad():
        expected = loss_fn(model(inputs), inputs.sum(1))
    assert watcher.history.last(EVAL_MODE_LOSS) == pytest.approx(float(expected), rel=1e-5)
