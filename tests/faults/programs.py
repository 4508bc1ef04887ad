"""Small real training programs: four architectures on scans of digits, one regression.

A program is what a user would write, with its decisions as fields, so that a fault is a change of
one of them. Nothing here knows thalweg but `run`, which adds the two lines.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from thalweg.diagnosis import diagnose
from thalweg.observe import watch

BASES = ("mlp", "cnn", "transformer", "gru")


@dataclass
class Program:
    base: str
    seed: int
    model: nn.Module
    train: tuple[torch.Tensor, torch.Tensor]
    val: tuple[torch.Tensor, torch.Tensor]
    loss_fn: Callable = F.cross_entropy
    optimizer: Callable = torch.optim.AdamW
    lr: float = 2e-3
    epochs: int = 10
    batch_size: int = 32
    num_classes: int | None = 10
    weights: Callable = lambda model: list(model.parameters())
    scheduler: Callable | None = None
    scheduler_per_step: bool = True
    shuffle: bool = True
    zero_grad: str = "before"  # "before" backward, "after" the step, "between" (fault), "never"
    train_mode: bool = True
    eval_mode: bool = True
    accumulate: int = 1
    clip: float = 0.0
    augment: Callable | None = None
    drop_last: bool = False
    told: tuple[str, ...] = ("loss_fn", "train", "val", "num_classes")
    extra: dict = field(default_factory=dict)


@cache
def digits():
    inputs, targets = load_digits(return_X_y=True)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    inputs = torch.tensor(inputs / 16, dtype=torch.float32)[order]
    inputs = (inputs - inputs.mean()) / inputs.std()
    return inputs, torch.tensor(targets)[order]


@cache
def diabetes():
    inputs, targets = load_diabetes(return_X_y=True)
    inputs, targets = torch.tensor(inputs).float(), torch.tensor(targets).float()
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    return inputs, ((targets - targets.mean()) / targets.std())[:, None]


def split(data, val=400):
    inputs, targets = data
    return (inputs[val:].clone(), targets[val:].clone()), (
        inputs[:val].clone(),
        targets[:val].clone(),
    )


class Transformer(nn.Module):
    """Eight rows of a scan as eight tokens."""

    def __init__(self, dim=32, outputs=10):
        super().__init__()
        self.embed = nn.Linear(8, dim)
        self.position = nn.Parameter(torch.randn(1, 8, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            dim, 4, 64, dropout=0.1, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, outputs)

    def forward(self, inputs):
        tokens = self.embed(inputs.view(-1, 8, 8)) + self.position
        return self.head(self.norm(self.encoder(tokens).mean(1)))


class Recurrent(nn.Module):
    """Eight rows of a scan as eight time steps."""

    def __init__(self, dim=48, outputs=10):
        super().__init__()
        self.gru = nn.GRU(8, dim, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(dim, outputs)

    def forward(self, inputs):
        return self.head(self.drop(self.gru(inputs.view(-1, 8, 8))[0][:, -1]))


def mlp(inputs=64, outputs=10):
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, outputs),
    )  # fmt: skip


def cnn(outputs=10):
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, outputs),
    )  # fmt: skip


class Then(nn.Module):
    """A model and something after it."""

    def __init__(self, model, function):
        super().__init__()
        self.model, self.function = model, function

    def forward(self, inputs):
        return self.function(self.model(inputs))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "transformer": Transformer,
    "gru": Recurrent,
}


def program(base, seed=0):
    """A sound program."""
    torch.manual_seed(seed)
    if base == "regression":
        train, val = split(diabetes(), 110)
        return Program(
            base, seed, mlp(10, 1), train, val, loss_fn=F.mse_loss, num_classes=None, epochs=30
        )
    train, val = split(digits())
    return Program(base, seed, MODELS[base](), train, val)


def run(p, *, watched=True, listen=None):
    """Train; return the diagnosis (None if unwatched) and the validation metric.

    `listen(model, optimizer, program)` may make another listener than our watcher.
    """
    torch.manual_seed(p.seed)
    loader = DataLoader(
        TensorDataset(*p.train), p.batch_size, shuffle=p.shuffle, drop_last=p.drop_last
    )
    val = DataLoader(TensorDataset(*p.val), 256)
    optimizer = p.optimizer(p.weights(p.model), lr=p.lr)
    scheduler = p.scheduler(optimizer) if p.scheduler else None
    about = {"loss_fn": p.loss_fn, "train": loader, "val": val, "num_classes": p.num_classes}
    watcher = None
    if listen:
        watcher = listen(p.model, optimizer, p)
    elif watched:
        about = {name: about[name] for name in p.told}
        watcher = watch(p.model, optimizer, diagnose=diagnose, **about)
    metric = float("nan")
    for _ in range(p.epochs):
        p.model.train(p.train_mode)
        _epoch(p, loader, optimizer, scheduler, watcher)
        if scheduler and not p.scheduler_per_step:
            scheduler.step()
        metric = _validate(p, val, watcher)
    return (watcher.diagnose() if watcher else None), metric


def _epoch(p, loader, optimizer, scheduler, watcher):
    for index, batch in enumerate(loader):
        inputs, targets = p.augment(*batch) if p.augment else batch
        loss = p.loss_fn(p.model(inputs), targets)
        if p.zero_grad == "before" and index % p.accumulate == 0:
            optimizer.zero_grad()
        if loss.requires_grad:
            (loss / p.accumulate).backward()
        if p.zero_grad == "between":
            optimizer.zero_grad()
        if (index + 1) % p.accumulate:
            continue
        if p.clip:
            nn.utils.clip_grad_norm_(p.model.parameters(), p.clip)
        optimizer.step()
        if p.zero_grad == "after":
            optimizer.zero_grad()
        if scheduler and p.scheduler_per_step:
            scheduler.step()
        if watcher:
            watcher.step(loss)


def _validate(p, val, watcher):
    p.model.train(not p.eval_mode)
    with torch.no_grad():
        logits = torch.cat([p.model(inputs) for inputs, _ in val])
        targets = p.val[1]
        loss = float(p.loss_fn(logits, targets))
    if p.num_classes is None or targets.is_floating_point():
        metric = 1 - float((logits - targets).square().mean() / targets.var())
        named = {"val_loss": loss}
    else:
        metric = float((logits.argmax(1) == targets).float().mean())
        named = {"val_loss": loss, "val_accuracy": metric}
    if watcher:
        watcher.log(**named)
    return metric
