"""What every library is given to train: scans of digits, a small sound network, and faults."""

import warnings
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from thalweg.record.quantities import GRADIENT_NORM, LOSS

SOUND_LR, EPOCHS, BATCH = 2e-3, 6, 32


@cache
def splits():
    """(train inputs, train targets, val inputs, val targets): 1,437 and 360 scans of 64 pixels."""
    datasets = pytest.importorskip("sklearn.datasets", reason="the scans are scikit-learn's")
    scans = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(scans.target))
    inputs = torch.from_numpy((scans.data[order] / 16).astype("float32"))
    targets = torch.from_numpy(scans.target[order]).long()
    return inputs[:1437], targets[:1437], inputs[1437:], targets[1437:]


def train_set(by_class=False):
    """The training split; sorted by class, where somebody forgot to shuffle."""
    inputs, targets, *_ = splits()
    order = targets.argsort(stable=True) if by_class else torch.arange(len(targets))
    return TensorDataset(inputs[order], targets[order])


def val_set():
    return TensorDataset(*splits()[2:])


class Jittered(Dataset):
    """Augments with a random state of its own, which reading ahead would move."""

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.inputs, self.targets, *_ = splits()

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        shift = float(self.random.normal()) * 0.02
        return self.inputs[index] + shift, self.targets[index]


def loaders(fault="", dataset=None):
    """A training and a validation loader."""
    unshuffled = fault == "unshuffled"
    train = DataLoader(
        dataset or train_set(by_class=unshuffled), batch_size=BATCH, shuffle=not unshuffled
    )
    return train, DataLoader(val_set(), batch_size=120)


def network(fault=""):
    """64 → 64 → 10; with `squashed`, it ends in a softmax that the loss applies again."""
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)]
    if fault == "squashed":
        layers.append(nn.Softmax(dim=1))
    return nn.Sequential(*layers)


def lr_of(fault):
    """1,000 times too high where that is the fault."""
    return SOUND_LR * (1000 if fault == "lr" else 1)


def library(name, extra):
    """The library, or a skip that says what it takes. What it warns of at import is its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"needs the extra `{extra}`")


def noting(callback):
    """The callback itself, and a list that the history of each fit that it watches is put into."""
    histories, begin = [], callback.watcher_.begin

    def begin_and_note(*arguments, **named):
        begin(*arguments, **named)
        histories.append(callback.watcher_._watcher.history)

    callback.watcher_.begin = begin_and_note
    return callback, histories


def gradients_of(history):
    """The norm of each weight's gradient at each reading."""
    places = history.by_place(GRADIENT_NORM)
    return {place: dict(history.series(GRADIENT_NORM, place)) for place in places}


def assert_unscaled(scaled, plain):
    """Half precision's losses and gradients are float32's, about."""
    losses, exact = (max(history.series(LOSS).values()) for history in (scaled, plain))
    assert losses < 2 * exact
    found, expected = gradients_of(scaled), gradients_of(plain)
    assert found.keys() == expected.keys()
    for place, series in found.items():
        assert len(series) >= 5
        assert max(series.values()) < 3 * max(expected[place].values())


def same_weights(first, second):
    """Bit for bit."""
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def assert_sound(diagnosis, least=25):
    """Nothing worse than a note, and that not for want of looking."""
    assert diagnosis is not None
    assert diagnosis.causes == (), str(diagnosis)
    assert len(diagnosis.passed) >= least, str(diagnosis)
    assert not [why for why in diagnosis.not_checked.values() if "broke" in why], str(diagnosis)


def assert_found(diagnosis, rule):
    assert diagnosis.headline is not None, str(diagnosis)
    assert diagnosis.headline.rule == rule, str(diagnosis)


RULE_OF = {
    "lr": "learning-rate-too-high",
    "unshuffled": "unshuffled-batches",
    "squashed": "logits-squashed-twice",
    "unheld": "weights-not-in-optimizer",
    "no-zero-grad": "missing-zero-grad",
}
