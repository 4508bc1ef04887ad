"""A small training on real scans, and what it leaves."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits


@cache
def scans(train=1200):
    """(inputs, targets) of both splits: 8 × 8 handwritten digits, standardised on the first."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    inputs = torch.tensor(digits.data[order], dtype=torch.float32)
    targets = torch.tensor(digits.target[order])
    mean, std = inputs[:train].mean(), inputs[:train].std()
    inputs = (inputs - mean) / std
    return (inputs[:train], targets[:train]), (inputs[1200:], targets[1200:])


def fit(model, data, *, steps, lr, batch=50, loss_fn=F.cross_entropy, momentum=0.0, **options):
    """The losses, one a step; batches in a new order each epoch."""
    torch.manual_seed(options.pop("seed", 0))
    penalty = options.pop("penalty", lambda model: 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, **options)
    inputs, targets = data
    losses, order = [], torch.randperm(len(inputs))
    model.train()
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(inputs))
        chosen, order = order[:batch], order[batch:]
        loss = loss_fn(model(inputs[chosen]), targets[chosen])
        optimizer.zero_grad()
        (loss + penalty(model)).backward()
        optimizer.step()
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            break
    return losses


@torch.no_grad()
def accuracy(model, data):
    inputs, targets = data
    return (model.eval()(inputs).argmax(1) == targets).double().mean().item()


@torch.no_grad()
def loss(model, data):
    inputs, targets = data
    return F.cross_entropy(model.eval()(inputs), targets).item()
