"""The table of people's own programs, and how one is trained, watched and judged."""

from typing import Any

import torch
from faults.real.programs import A, Real
from faults.real.questions import CAUSES, B, C, Setup
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from thalweg.diagnosis import diagnose
from thalweg.observe import watch


def better(limit):
    """Whether a metric is one of a repaired program: "> 0.9", "< 0.05"."""
    sign, bound = limit.split()
    return lambda metric: metric > float(bound) if sign == ">" else metric < float(bound)


def real(make, codes, limit):
    names = dict.fromkeys(name for code in codes for name in CAUSES[code])
    return Real(make, tuple(names), better(limit))


TIERS = {
    "A": A,
    "B": {name: real(*entry) for name, entry in B.items()},
    "C": {name: real(*entry) for name, entry in C.items()},
}
REAL = {name: program for tier in TIERS.values() for name, program in tier.items()}


def setup(name, *, fixed, seed=0):
    """The program, drawn with that seed."""
    torch.manual_seed(seed)
    made = REAL[name].make(fixed)
    if isinstance(made, Setup):
        return made
    model, data, loss_fn, optimizer, epochs, batch, measure = made
    return Setup(model, data, loss_fn, optimizer, epochs, batch, measure)


def run(name, *, fixed, seed=0, listen=None):
    """Train the program as asked or as repaired; its diagnosis and its metric."""
    p = setup(name, fixed=fixed, seed=seed)
    optimizer = p.optimizer(p.model.parameters())
    loader = DataLoader(TensorDataset(*p.data), p.batch, shuffle=p.shuffle)
    told: dict[str, Any] = {"val": DataLoader(TensorDataset(*p.held), 256)} if p.held else {}
    if listen:
        watcher = listen(p.model, optimizer, p)
    else:
        told |= {"loss_fn": p.loss_fn, "train": loader}
        watcher = watch(p.model, optimizer, diagnose=diagnose, **told)
    for _ in range(p.epochs):
        p.model.train()
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = p.loss_fn(p.model(inputs), targets)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(inputs, targets))
        if p.held:
            validate(p, watcher)
    p.model.eval()
    judged = p.held if getattr(p.measure, "on_held", False) else p.data
    with torch.no_grad():
        metric = p.measure(p.model(judged[0]), judged[1])
    return watcher.diagnose(), metric


def validate(p, watcher):
    p.model.eval()
    with torch.no_grad():
        logits = p.model(p.held[0])
        right = (logits.argmax(1) == p.held[1]).float().mean()
        watcher.log(val_loss=F.cross_entropy(logits, p.held[1]), val_accuracy=right)
