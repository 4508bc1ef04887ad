"""Hand-written batch norms that compute something else in eval mode, beside sound layers."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import OWN_NORM_GAP, OWN_NORM_STORES


class Norm(nn.Module):
    """A batch norm by hand, over all dimensions but the second."""

    momentum, start = 0.1, 1.0
    mean: Tensor
    var: Tensor

    def __init__(self, channels):
        super().__init__()
        self.scale, self.offset = (
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.zeros(channels)),
        )
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.full((channels,), self.start))

    def store(self, mean, var):
        self.mean.lerp_(mean.detach(), self.momentum)
        self.var.lerp_(var.detach(), self.momentum)

    def deviation(self, var):
        return (var + 1e-5).sqrt()

    def forward(self, x):
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean, var = self.mean, self.var
        deviation = self.deviation(var)
        if self.training:
            dims = [d for d in range(x.ndim) if d != 1]
            mean, var = x.mean(dims), x.var(dims, unbiased=False)
            self.store(mean, var)
            deviation = (var + 1e-5).sqrt()
        x = (x - mean.view(shape)) / deviation.view(shape)
        return self.scale.view(shape) * x + self.offset.view(shape)


class NeverStored(Norm):
    def store(self, mean, var):
        mean = 0.9 * self.mean + 0.1 * mean
        var = 0.9 * self.var + 0.1 * var


class StoredInCopies(Norm):
    def store(self, mean, var):
        self.mean.clone().lerp_(mean.detach(), 0.1)
        self.var.clone().lerp_(var.detach(), 0.1)


class FromZero(NeverStored):
    start = 0.0


class Slow(Norm):
    momentum = 1e-4


class DividesByVariance(Norm):
    def deviation(self, var):
        return var + 1e-5


class Rebound(Norm):
    """It stores new tensors in place of the old ones."""

    def store(self, mean, var):
        self.mean = 0.9 * self.mean + 0.1 * mean.detach()
        self.var = 0.9 * self.var + 0.1 * var.detach()


class Plain(nn.Module):
    """Its statistics are plain attributes."""

    def __init__(self, channels):
        super().__init__()
        self.mean, self.var = torch.zeros(channels), torch.ones(channels)

    forward, store, deviation = Rebound.forward, Rebound.store, Norm.deviation
    scale, offset = torch.ones(8), torch.zeros(8)


class FrozenNorm(NeverStored):
    """Loaded statistics, which train mode does not change."""

    def train(self, mode=True):
        return super().train(False)


class LayerNorm(Norm):
    def forward(self, x):
        return F.layer_norm(x, x.shape[1:])


class Dropout(nn.Module):
    shares: Tensor

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("shares", torch.full((channels,), 0.5))

    def forward(self, x):
        if not self.training:
            return x
        shares = self.shares.view((1, -1) + (1,) * (x.ndim - 2))
        return x * (torch.rand_like(x) < shares) / shares


class Spread(Norm):
    """It takes the batch's statistics in both modes."""

    def forward(self, x):
        return x / (x.std(0, keepdim=True) + 1e-5)


def convnet(norm):
    return nn.Sequential(
        nn.Conv2d(2, 8, 3),
        norm(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1),
        norm(8),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


def perceptron(norm):
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 8), norm(8), nn.ReLU(), nn.Linear(8, 3))


def scaled(model, *, scale=1.0, offset=0.0):
    """The same with other inputs of its norm."""
    with torch.no_grad():
        model[1].weight *= scale
        model[1].bias += offset
    return model


def train(model, *, steps=24):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for _ in range(steps):
        inputs = 3 * torch.randn(16, 2, 4, 4) + 2
        loss = F.cross_entropy(model(inputs), inputs.mean((1, 2, 3)).gt(2).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    return watcher.history


def findings(history):
    return [one for one in diagnose(history).findings if one.rule == "own-norm-differs-in-eval"]


FAULTY: dict[str, Any] = {
    "convolutions, never stored": (lambda: convnet(NeverStored), "stores no statistics"),
    "perceptron, stored in copies": (lambda: perceptron(StoredInCopies), "stores no statistics"),
    "perceptron, from zero": (lambda: perceptron(FromZero), "stores no statistics"),
    "perceptron, slow": (lambda: scaled(perceptron(Slow), offset=20.0), "are not those"),
    "perceptron, another formula": (
        lambda: scaled(perceptron(DividesByVariance), scale=0.05),
        "or their formula",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_another_network_in_eval_mode_is_named(name):
    build, text = FAULTY[name]
    torch.manual_seed(0)
    assert [text in one.summary for one in findings(train(build()))] == [True]


@pytest.mark.parametrize("norm", [Norm, Rebound, Plain, FrozenNorm, LayerNorm, Dropout, Spread])
def test_sound_layers_pass(norm):
    torch.manual_seed(0)
    assert not findings(train(perceptron(norm)))


def test_sound_convolutions_pass():
    torch.manual_seed(0)
    assert not findings(train(convnet(Norm)))


def test_the_difference_is_that_of_the_formula():
    """Never stored, mean 0 and variance 1 make the layer the identity in eval mode."""
    torch.manual_seed(0)
    history = train(perceptron(NeverStored))
    assert history.last(OWN_NORM_STORES, "2") == 0
    assert history.last(OWN_NORM_GAP, "2") > 0.5
