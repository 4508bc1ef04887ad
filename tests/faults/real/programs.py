"""Programs that people asked about, built anew in PyTorch from the facts of their questions.

Each has the program as asked and as repaired, and the rules that name one of the recorded causes.
The numbers are Stack Overflow question ids, or as stated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from sklearn.datasets import load_iris, make_multilabel_classification
from torch import nn
from torch.nn import functional as F


@dataclass
class Real:
    make: Callable  # (fixed) -> model, data, loss_fn, optimizer, epochs, batch, classes
    names: tuple[str, ...]
    good: Callable  # (metric) -> whether this is a repaired program's result


def dense(*sizes, act=nn.Sigmoid, last=None, std=None):
    parts = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        layer = nn.Linear(a, b)
        if std:
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        parts.append(layer)
        if i < len(sizes) - 2:
            parts.append(act())
    return nn.Sequential(*parts, *([last] if last else []))


def sgd(lr, **about):
    return lambda weights: torch.optim.SGD(weights, lr=lr, **about)


def adam(lr):
    return lambda weights: torch.optim.Adam(weights, lr=lr)


def rmsprop(lr):
    return lambda weights: torch.optim.RMSprop(weights, lr=lr, alpha=0.9)


def accuracy(logits, targets):
    if targets.is_floating_point():
        threshold = 0.5 if float(logits.min()) >= 0 and float(logits.max()) <= 1 else 0.0
        return float(((logits > threshold) == (targets > 0.5)).float().mean())
    return float((logits.argmax(1) == targets).float().mean())


def error(outputs, targets):
    return float((outputs - targets).square().mean())


def permutation(fixed):  # 39217567
    bits = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).float()
    targets = bits[torch.randperm(256)]
    if fixed:
        model = dense(8, 256, 256, 8, act=nn.ReLU, last=nn.Sigmoid())
        return model, (bits, targets), F.mse_loss, adam(3e-3), 300, 50, accuracy
    model = dense(8, 8, 8, 8, last=nn.Sigmoid(), std=0.05)
    return model, (bits, targets), F.mse_loss, sgd(0.01), 1000, 50, accuracy


def five_times(fixed):  # 51181393
    x = torch.linspace(1, 2, 100)[:, None]
    return nn.Linear(1, 1), (x, 5 * x), F.mse_loss, rmsprop(0.1 if fixed else 1e-3), 200, 32, error


class Polynomial(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return self.weights[0] * x**2 + self.weights[1] * x + self.weights[2]


def polynomial(fixed):  # 46577203
    x = torch.arange(4.0)[:, None]
    loss = nn.MSELoss(reduction="mean" if fixed else "sum")
    lr = 0.01
    return Polynomial(), (x, x**2), loss, sgd(lr), 6000 if fixed else 300, 4, error


def threshold(fixed):  # 45442843
    x = torch.rand(10_000, 1) * 24_985 + 15
    targets = (x > 12_500).float()
    if fixed:
        model = dense(1, 8, 1, act=nn.ReLU)
        x = (x - x.mean()) / x.std()
        loss = F.binary_cross_entropy_with_logits
        return model, (x, targets), loss, adam(0.01), 10, 200, accuracy
    model = dense(1, 1, 1, last=nn.Softmax(dim=1))
    return model, (x, targets), F.l1_loss, rmsprop(1e-3), 20, 200, accuracy


def parabola(fixed):  # 48221692
    x = torch.linspace(-10, 10, 201)[:, None]
    model = dense(1, 5, 1, last=None if fixed else nn.Sigmoid())
    return model, (x, x**2 + 3), F.mse_loss, sgd(0.01 if not fixed else 5e-3), 1000, 201, error


def two_squares(fixed):  # 50306988
    x = torch.cat([torch.rand(100, 2) * 0.2 + 0.2, torch.rand(100, 2) * 0.2 + 0.5])
    targets = torch.arange(200) // 100
    epochs, lr = (60, 0.05) if fixed else (5, 1e-3)
    return dense(2, 2, 2), (x, targets), F.cross_entropy, adam(lr), epochs, 32, accuracy


def exclusive_or(fixed):  # 31556268
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    targets = (x.sum(1, keepdim=True) == 1).float()
    model = dense(2, 4, 1, last=nn.Sigmoid())
    if fixed:
        return model, (x, targets), F.binary_cross_entropy, adam(0.05), 800, 4, accuracy
    step = sgd(0.05, momentum=0.11, nesterov=True)
    return model, (x, targets), F.l1_loss, step, 1000, 4, accuracy


def iris(fixed):  # 51930566
    x, targets = load_iris(return_X_y=True)
    x, targets = torch.tensor(x).float(), torch.tensor(targets)
    if fixed:
        return (
            dense(4, 16, 3, act=nn.ReLU),
            (x, targets),
            F.cross_entropy,
            adam(0.01),
            50,
            5,
            accuracy,
        )
    model = dense(4, 4, 3, act=nn.ReLU, last=nn.Sigmoid(), std=0.05)
    return model, (x, targets), F.cross_entropy, adam(1e-3), 50, 5, accuracy


def several_labels(fixed):  # 38648195
    x, y = make_multilabel_classification(4000, n_classes=3, random_state=0)
    x, y = torch.tensor(x).float(), torch.tensor(y).float()
    if fixed:
        x = (x - x.mean(0)) / x.std(0)
        model = dense(20, 40, 3, act=nn.ReLU)
        return model, (x, y), F.binary_cross_entropy_with_logits, adam(3e-3), 20, 20, accuracy
    model = nn.Sequential(
        nn.Linear(20, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 20), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(20, 3), nn.Softmax(dim=1),
    )  # fmt: skip
    return model, (x, y), F.mse_loss, sgd(0.01), 20, 20, accuracy


def raw_parabola(fixed):  # stats.stackexchange 418955
    x = torch.linspace(-99, 99, 199)[:, None]
    y = x**2 + 3
    x = (x - x.mean()) / x.std()
    if fixed:
        y = (y - y.mean()) / y.std()
        return dense(1, 32, 1, act=nn.Tanh), (x, y), F.mse_loss, adam(0.01), 100, 32, error
    return dense(1, 1, 1, act=nn.Identity), (x, y), F.mse_loss, sgd(0.01), 60, 32, error


def straight_line(fixed):  # 43636736
    x = torch.arange(100.0)[:, None]
    y = 2 * x + 4 + 10 * torch.rand(100, 1)
    if fixed:
        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    loss = lambda outputs, targets: F.mse_loss(outputs, targets) / 2  # noqa: E731
    return model, (x, y), loss, sgd(0.5), 60, 100, error


LOW = ("learning-rate-too-low", "stopped-too-early")
HIGH = ("learning-rate-too-high", "loss-not-finite")
A = {
    "39217567": Real(
        permutation,
        ("vanishing-gradients", "initialisation-scale", "underfitting", "learning-rate-too-low"),
        lambda m: m > 0.9,
    ),
    "51181393": Real(five_times, LOW, lambda m: m < 0.1),
    "46577203": Real(polynomial, (*HIGH, "loss-summed-over-batch"), lambda m: m < 0.01),
    "45442843": Real(
        threshold,
        ("softmax-over-one-unit", "loss-does-not-fit-task", "unscaled-inputs"),
        lambda m: m > 0.95,
    ),
    "48221692": Real(
        parabola,
        ("output-cannot-reach-targets", "saturated-activations", "unscaled-targets"),
        lambda m: m < 400,
    ),
    "50306988": Real(two_squares, LOW, lambda m: m > 0.95),
    "31556268": Real(
        exclusive_or, (*LOW, "loss-does-not-fit-task", "saturated-activations"), lambda m: m > 0.9
    ),
    "51930566": Real(
        iris,
        ("logits-squashed-twice", "loss-does-not-fit-task", "initialisation-scale"),
        lambda m: m > 0.9,
    ),
    "38648195": Real(
        several_labels,
        (
            "softmax-for-many-labels",
            "loss-does-not-fit-task",
            "unscaled-inputs",
            "over-regularised",
        ),
        lambda m: m > 0.8,
    ),
    "stats-418955": Real(raw_parabola, ("unscaled-targets", *HIGH), lambda m: m < 0.3),
    "43636736": Real(straight_line, ("unscaled-inputs", *HIGH), lambda m: m < 0.3),
}
