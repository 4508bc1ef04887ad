"""Weights of classes against their frequencies, classes left out, targets smoothed away."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import CLASS_WEIGHT, INSTRUMENT_FAILED, LOSS_KIND

Cases = dict[str, tuple[Any, dict[str, Any]]]
SHARES = torch.tensor([0.6, 0.08, 0.25, 0.07])
PIXELS = (2, 4)  # of a picture


def draw(*shape):
    return torch.multinomial(SHARES, torch.Size(shape).numel(), replacement=True).reshape(shape)


def train(loss_fn, *, shape=(256,), width=4, steps=8, head=None, mask_tail=0):
    """Train on classes of unequal frequency; the classes are last, and moved to the front."""
    torch.manual_seed(0)
    model = nn.Linear(6, width) if head is None else head
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    for _ in range(steps):
        targets = draw(*shape)
        inputs = F.one_hot(targets, 6).float() + 0.5 * torch.randn(*shape, 6)
        if mask_tail:
            targets[:, -mask_tail:] = 0
        loss = loss_fn(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    return watcher.history


def named(history):
    rules = ("class-weights-misplaced", "class-never-counted", "label-smoothing-too-strong")
    return {one.rule for one in diagnose(history).findings} & set(rules)


def entropy(weights=None, **settings):
    return lambda scores, targets: F.cross_entropy(
        scores.flatten(0, -2), targets.flatten(), weight=weights, **settings
    )


def binary(pos_weight):
    """The first class, of 60 %, or the last, of 7 %, against the others."""
    return lambda scores, targets: F.binary_cross_entropy_with_logits(
        scores[:, 0], (targets == 3).float(), pos_weight=torch.tensor(pos_weight)
    )


WEIGHTS: Cases = {
    "in the order of a Counter": (entropy((1 / SHARES).sort().values), {}),
    "the frequencies": (entropy(SHARES), {}),
    "of the frequencies, tokens": (entropy(50 * SHARES), {"shape": (8, 30)}),
    "reversed": (entropy((1 / SHARES).flip(0)), {}),
    "positives over negatives": (binary(0.07 / 0.93), {"width": 1}),
}
SOUND_WEIGHTS: Cases = {
    "none": (entropy(), {}),
    "inverse frequency": (entropy(1 / SHARES), {}),
    "inverse frequency, tokens": (entropy(1 / SHARES), {"shape": (8, 30)}),
    "inverse root": (entropy(SHARES**-0.5), {}),
    "effective number": (entropy(0.01 / (1 - 0.99 ** (64 * SHARES))), {}),
    "one class of importance": (entropy(torch.tensor([1.0, 1.0, 1.0, 5.0])), {}),
    "one class of importance, the commonest": (entropy(torch.tensor([4.0, 1.0, 1.0, 1.0])), {}),
    "no background": (entropy(torch.tensor([0.1, 1.0, 1.0, 1.0])), {}),
    "smoothed": (entropy(label_smoothing=0.1), {}),
    "negatives over positives": (binary(0.93 / 0.07), {"width": 1}),
    "binary, none": (binary(1.0), {"width": 1}),
    "weights of samples": (
        lambda scores, targets: (
            F.cross_entropy(scores, targets, reduction="none") * torch.rand(256)
        ).mean(),
        {},
    ),
    "focal": (
        lambda scores, targets: (
            (1 - scores.softmax(1).gather(1, targets[:, None])[:, 0]) ** 2
            * F.cross_entropy(scores, targets, reduction="none")
        ).mean(),
        {},
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_other_classes_are_named(name):
    loss_fn, settings = WEIGHTS[name]
    assert named(train(loss_fn, **settings)) == {"class-weights-misplaced"}


@pytest.mark.parametrize("name", SOUND_WEIGHTS)
def test_sound_weights_pass(name):
    loss_fn, settings = SOUND_WEIGHTS[name]
    assert not named(train(loss_fn, **settings))


def test_the_weights_are_those_of_the_loss():
    weights = torch.tensor([1.0, 2.0, 3.0, 6.0])
    history = train(entropy(weights))
    measured = [history.last(CLASS_WEIGHT, str(number)) for number in range(4)]
    assert measured == pytest.approx((weights / 3).tolist(), rel=1e-3)


def recurrent(classes):
    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.GRU(6, 8, batch_first=True), nn.Linear(8, classes)

        def forward(self, frames):
            return self.out(self.rnn(frames)[0])

    return Frames()


LEFT_OUT: Cases = {
    "samples": (entropy(ignore_index=0), {}),
    "a rare class": (entropy(ignore_index=3), {}),
    "frames": (entropy(ignore_index=0), {"shape": (8, 12), "mask_tail": 3}),
    "frames of a recurrent network": (
        entropy(ignore_index=0, label_smoothing=0.1),
        {"shape": (8, 12), "head": recurrent(4)},
    ),
}
COUNTED: Cases = {
    "another number": (entropy(ignore_index=-1), {}),
    "the default": (entropy(), {"shape": (8, 12)}),
    "a number beyond the classes": (entropy(ignore_index=255), {}),
    "padding of frames": (
        lambda scores, targets: F.cross_entropy(
            scores.flatten(0, 1),
            F.pad(targets[:, :-3] + 1, (0, 3)).flatten(),
            ignore_index=0,
        ),
        {"shape": (8, 12), "width": 5},
    ),
    "a class that never occurs": (entropy(ignore_index=4), {"width": 5}),
    "an image": (
        lambda scores, targets: F.cross_entropy(scores.movedim(-1, 1), targets, ignore_index=0),
        {"shape": (8, *PIXELS)},
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_class_that_is_left_out_is_named(name):
    loss_fn, settings = LEFT_OUT[name]
    assert named(train(loss_fn, **settings)) == {"class-never-counted"}


@pytest.mark.parametrize("name", COUNTED)
def test_what_is_left_out_on_purpose_passes(name):
    loss_fn, settings = COUNTED[name]
    assert not named(train(loss_fn, **settings))


def test_tokens_may_have_a_number_for_padding():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(4, 8), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    for _ in range(8):
        tokens = draw(8, 12)  # masked tokens alone are predicted: the others are left out as 0
        loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    assert not named(watcher.history)


@pytest.mark.parametrize(("smoothing", "expected"), [(0.9, True), (0.5, True), (0.1, False)])
@pytest.mark.parametrize("weights", [None, 1 / SHARES])
def test_targets_that_are_smoothed_away_are_named(smoothing, expected, weights):
    history = train(entropy(weights, label_smoothing=smoothing), steps=3)
    assert ("label-smoothing-too-strong" in named(history)) is expected


def test_a_term_whose_factors_are_freed_breaks_nothing():
    def loss_fn(scores, targets):
        return F.cross_entropy(scores, targets) + 0.1 * scores.mean() * scores.std()

    history = train(loss_fn, steps=3)
    assert INSTRUMENT_FAILED not in history
    assert history.last(LOSS_KIND, "cross_entropy") == 1
