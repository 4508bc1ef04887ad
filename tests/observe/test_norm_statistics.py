"""Running statistics of batch norms beside those of real batches."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.diagnosis.rules.batch_norm_shared import batch_norm_shared
from thalweg.observe import watch
from thalweg.record.quantities import MODE_GAP, NORM_GAP, NORM_MOMENTUM, NORM_NOISE

RULES = ("batch-norm-momentum-inverted", "batch-norm-statistics-stale")


def images(samples, offset=0.0):
    """Images with an offset each, which makes the mean of a small batch uncertain."""
    levels = torch.randn(samples, 1, 1, 1)
    return torch.randn(samples, 2, 4, 4) + levels + offset


def convnet(**options):
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8, **options), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    )


def perceptron(**options):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(32, 16), nn.BatchNorm1d(16, **options), nn.ReLU(), nn.Linear(16, 3)
    )


def residual(**options):
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, bias=False),
        nn.BatchNorm2d(8, **options),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1, bias=False),
        nn.BatchNorm2d(8, **options),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def train(model, *, steps=40, samples=8, offset=0.0, before=None, passes=1):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for step in range(steps):
        for _ in range(passes):
            inputs = images(samples, offset)
            loss = F.cross_entropy(model(inputs), inputs.mean((1, 2, 3)).gt(offset).long())
        if before is not None:
            before(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    return watcher.history


def findings(history):
    return [(f.rule, f.severity) for f in diagnose(history).findings if f.rule in RULES]


@pytest.mark.parametrize("build", [convnet, perceptron, residual])
def test_a_momentum_of_keras_is_named(build):
    torch.manual_seed(0)
    history = train(build(momentum=0.99))
    assert findings(history) == [("batch-norm-momentum-inverted", "warning")]


def test_it_is_a_note_where_a_batch_shows_its_mean_well():
    torch.manual_seed(0)
    history = train(perceptron(momentum=0.99), samples=1200, steps=5)
    assert findings(history) == [("batch-norm-momentum-inverted", "note")]


@pytest.mark.parametrize("build", [convnet, perceptron, residual])
def test_statistics_that_never_move_are_named(build):
    torch.manual_seed(0)
    history = train(build(momentum=0.0))
    assert findings(history) == [("batch-norm-statistics-stale", "warning")]


@pytest.mark.parametrize("build", [convnet, residual])
def test_statistics_of_other_data_are_named(build):
    """A momentum so small that they do not leave what they were before."""
    torch.manual_seed(0)
    model = build(momentum=1e-4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 5.0
    history = train(model)
    assert findings(history) == [("batch-norm-statistics-stale", "warning")]


@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"momentum": 1.0}, {"track_running_stats": False}]
)
@pytest.mark.parametrize("build", [convnet, perceptron, residual])
def test_sound_statistics_pass(build, options):
    torch.manual_seed(0)
    assert findings(train(build(**options), offset=3.0)) == []


def test_two_kinds_of_batches_in_one_update_pass():
    torch.manual_seed(0)
    model = convnet()
    history = train(model, before=lambda _: model(images(8, offset=30.0)))
    assert findings(history) == []


def test_frozen_statistics_of_a_pretrained_model_pass():
    torch.manual_seed(0)
    model = convnet()
    train(model)
    copy = deepcopy(model).eval()
    assert findings(train(copy)) == []


def test_the_numbers_agree_with_their_definition():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    watcher = watch(model, optimizer)
    inputs = torch.randn(16, 3) * torch.tensor([1.0, 2.0, 4.0]) + 1
    for _ in range(2):
        loss = F.cross_entropy(model(inputs), torch.zeros(16, dtype=torch.long))
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    history, mean, std = watcher.history, inputs.mean(0), inputs.std(0)
    gap = ((1 - 0.9**2) * mean - mean).abs() / std
    assert history.last(NORM_GAP, "0") == pytest.approx(float(gap.median()), rel=1e-4)
    assert history.last(NORM_NOISE, "0") == pytest.approx(1 / 4, rel=1e-4)
    assert history.last(NORM_MOMENTUM, "0") == 0.1
    with torch.no_grad():
        evaluated, trained = model.eval()(inputs), model.train()(inputs)
    spread = (trained - trained.mean(0)).square().mean().sqrt()
    difference = (evaluated - trained).square().mean().sqrt() / spread
    assert history.last(MODE_GAP) == pytest.approx(float(difference), rel=1e-4)


class Blocks(nn.Module):
    """Convolutions with a batch norm each, or one for all; or one for two views of an image."""

    def __init__(self, norms):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(1 if i == 0 else 8, 8, 3, padding=1) for i in range(3)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3 if norms == "each" else 1))
        self.head = nn.Linear(8, 3)
        self.views = norms == "views"
        with torch.no_grad():
            for i in range(3):
                self.get_parameter(f"layers.{i}.weight").mul_(3**i)
                self.get_parameter(f"layers.{i}.bias").add_(2 * i)

    def features(self, x):
        for i, layer in enumerate(list(self.layers)[: 1 if self.views else 3]):
            x = F.relu(self.norms[i % len(self.norms)](layer(x)))
        return x.mean((2, 3))

    def forward(self, x):
        if self.views:
            return self.head(self.features(x) + self.features(x.flip(-1)))
        return self.head(self.features(x))


@pytest.mark.parametrize(("norms", "named"), [("one", True), ("each", False), ("views", False)])
def test_a_batch_norm_for_several_places_is_named(norms, named):
    torch.manual_seed(0)
    model = Blocks(norms)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for _ in range(60):
        loss = F.cross_entropy(model(torch.randn(16, 1, 6, 6)), torch.arange(16) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    assert (batch_norm_shared(watcher.history) is not None) == named
